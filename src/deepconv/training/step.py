"""One update of the parameters, and one evaluation of a batch: data parallel, jitted, pure.

    step = make_train_step(model, optimizer, augment, mesh, learning_rate=..., seed=0)
    state, metrics = step(state, batch)

A batch is a dict: `image` uint8 `[N, H, W, 3]`, `label` int32 `[N]`, `mask` bool `[N]` (False: the
example counts for nothing), `offset` int32 `[N, 2]` (the crop's place in its image's central
square), and in training `position` uint32 `[N]` (the example's place in the stream, which with the
seed makes all that is random about it).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from deepconv import compilation
from deepconv.evaluation import errors
from deepconv.models import towers
from deepconv.models.network import Network
from deepconv.parallel import DATA_AXIS, model_axis
from deepconv.training.state import TrainState

Batch = dict[str, jax.Array]


class Metrics(NamedTuple):
    """Of one update, before it was made; float32 scalars.

    Attributes:
      loss: mean softmax cross-entropy in nats, without the weight decay.
      top1_error: fraction of the batch.
      learning_rate: with which the update was made.
    """

    loss: jax.Array
    top1_error: jax.Array
    learning_rate: jax.Array


def example_keys(seed: int, position: jax.Array, purpose: int) -> jax.Array:
    """Derive a key per example from (seed, position in the stream, purpose).

    So nothing random about an example depends on the device, the process or the restart it falls
    to.

    Args:
      seed: the run's seed.
      position: `[N]` uint32.
      purpose: a small number, different for each use.

    Returns:
      `[N]` keys.
    """
    base = jax.random.fold_in(jax.random.key(seed), purpose)
    return jax.vmap(lambda p: jax.random.fold_in(base, p))(position)


def state_specs(model: Network, mesh: Mesh) -> Any:
    """Return where a state lies: everything everywhere, but towers on a device each.

    It is a state whose leaves, or whole parts, are a `PartitionSpec`.
    """
    _, specs = _placed(model, mesh)
    everywhere: Any = P()
    return TrainState(step=everywhere, params=specs, velocity=specs, plateau=everywhere)


def _placed(model: Network, mesh: Mesh) -> tuple[Network, dict[str, dict[str, P]]]:
    axis = model_axis(mesh)
    local = model if axis is None else towers.on_one_device(model, axis=axis)
    return local, towers.parameter_specs(model.layers, axis=axis)


def _own(batch: Batch, axis: str | None) -> Batch:
    """Make of a batch that a pair of devices shares one of each device's own."""
    if axis is None:
        return batch
    return jax.tree.map(lambda x: lax.pcast(x, axis, to="varying"), batch)


def make_train_step(
    model: Network,
    optimizer: optax.GradientTransformationExtraArgs,
    preprocess: Callable[[Batch, jax.Array], jax.Array],
    mesh: Mesh,
    *,
    learning_rate: Callable[[TrainState], jax.Array],
    seed: int,
    microbatches: int = 1,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Make the jitted update: mean cross-entropy of the whole batch, its gradient, one step of SGD.

    Args:
      model: the network; its score map must be 1x1 on the batch's images.
      optimizer: see `optimizer.sgd`.
      preprocess: `(batch, keys [N]) -> float32 [N, H, W, 3]`, see `augment.for_training`.
      mesh: the batch is split over its axis `data`; the state is as `state_specs` has it.
      learning_rate: the schedule.
      seed: the run's seed.
      microbatches: in how many parts, one after the other, each device takes its examples; the sum
        of their gradients is the batch's, and only one part's activations are in memory.

    Returns:
      `(state, batch) -> (state, metrics)`; the state given is donated.
    """
    local, specs = _placed(model, mesh)
    # Where two devices share a copy of the net, both score its examples: sums over all devices
    # count each of them twice, in the errors as in their number.
    everywhere = mesh.axis_names

    def local_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        batch = _own(batch, model_axis(mesh))
        count = jnp.maximum(lax.psum(batch["mask"].sum(), everywhere), 1)

        def loss_of(params: Any, part: Batch) -> tuple[jax.Array, jax.Array]:
            images = preprocess(part, example_keys(seed, part["position"], 0))
            dropout_keys = example_keys(seed, part["position"], 1)
            score_map: Any = local.apply(
                {"params": params}, images, train=True, dropout_keys=dropout_keys
            )
            scores = score_map[:, 0, 0, :]
            losses = optax.softmax_cross_entropy_with_integer_labels(scores, part["label"])
            wrong = errors.counts(scores, part["label"], part["mask"]).top1
            return jnp.sum(jnp.where(part["mask"], losses, 0.0)) / count, wrong

        # Without this cast the gradient of replicated parameters is summed over the devices by the
        # differentiation itself, and once more below.
        def copies(spec: P) -> tuple[str, ...]:
            return tuple(axis for axis in everywhere if axis not in spec)

        params = jax.tree.map(
            lambda w, spec: lax.pcast(w, copies(spec), to="varying"), state.params, specs
        )
        of_part = functools.partial(jax.value_and_grad(loss_of, has_aux=True), params)
        (loss, wrong), grads = _summed(of_part, batch, microbatches, everywhere)
        loss, wrong = lax.psum((loss, wrong), everywhere)
        grads = jax.tree.map(lambda g, spec: lax.psum(g, copies(spec)), grads, specs)

        lr = learning_rate(state)
        updates, velocity = optimizer.update(grads, state.velocity, state.params, learning_rate=lr)
        new_state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            velocity=velocity,
            plateau=state.plateau,
        )
        return new_state, Metrics(loss, wrong / count, lr)

    states = state_specs(model, mesh)
    mapped = jax.shard_map(
        local_step, mesh=mesh, in_specs=(states, P(DATA_AXIS)), out_specs=(states, P())
    )
    return compilation.jit(mapped, donate_argnums=0)


def _summed(
    function: Callable[[Batch], Any], batch: Batch, parts: int, axes: tuple[str, ...]
) -> Any:
    """Return the sum of a function over the parts of a batch, computed one after the other.

    The function's results vary over these axes of the mesh.
    """
    if parts == 1:
        return function(batch)
    stacked = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
    shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], stacked))
    nothing = jax.tree.map(
        lambda x: lax.pcast(jnp.zeros(x.shape, x.dtype), axes, to="varying"), shapes
    )

    def add(total: Any, part: Batch) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(part)), None

    return lax.scan(add, nothing, stacked)[0]


def make_eval_step(
    model: Network, preprocess: Callable[[Batch], jax.Array], mesh: Mesh
) -> Callable[[Any, Batch], errors.Counts]:
    """Make the jitted evaluation of a batch of crops.

    Args:
      model: the network; its score map must be 1x1 on the batch's images.
      preprocess: `batch -> float32 [N, H, W, 3]`, see `augment.for_evaluation`.
      mesh: as for `make_train_step`.

    Returns:
      `(params, batch) -> counts` over the whole batch.
    """
    local, specs = _placed(model, mesh)
    axis = model_axis(mesh)

    def local_eval(params: Any, batch: Batch) -> errors.Counts:
        batch = _own(batch, axis)
        score_map: Any = local.apply({"params": params}, preprocess(batch))
        counts = errors.counts(score_map[:, 0, 0, :], batch["label"], batch["mask"])
        if axis is not None:  # both devices of a pair have counted the same
            counts = lax.pmax(counts, axis)
        return lax.psum(counts, DATA_AXIS)

    return compilation.jit(
        jax.shard_map(local_eval, mesh=mesh, in_specs=(specs, P(DATA_AXIS)), out_specs=P())
    )
