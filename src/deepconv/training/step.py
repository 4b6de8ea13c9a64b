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

from deepconv.evaluation import errors
from deepconv.models.network import Network
from deepconv.parallel import DATA_AXIS
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
      mesh: the state is replicated over it, the batch split.
      learning_rate: the schedule.
      seed: the run's seed.
      microbatches: in how many parts, one after the other, each device takes its examples; the sum
        of their gradients is the batch's, and only one part's activations are in memory.

    Returns:
      `(state, batch) -> (state, metrics)`; the state given is donated.
    """

    def local_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        count = jnp.maximum(lax.psum(batch["mask"].sum(), DATA_AXIS), 1)

        def loss_of(params: Any, part: Batch) -> tuple[jax.Array, jax.Array]:
            images = preprocess(part, example_keys(seed, part["position"], 0))
            dropout_keys = example_keys(seed, part["position"], 1)
            score_map: Any = model.apply(
                {"params": params}, images, train=True, dropout_keys=dropout_keys
            )
            scores = score_map[:, 0, 0, :]
            losses = optax.softmax_cross_entropy_with_integer_labels(scores, part["label"])
            wrong = errors.counts(scores, part["label"], part["mask"]).top1
            return jnp.sum(jnp.where(part["mask"], losses, 0.0)) / count, wrong

        # Without this cast the gradient of replicated parameters is summed over the devices by the
        # differentiation itself, and once more below.
        params = jax.tree.map(lambda w: lax.pcast(w, DATA_AXIS, to="varying"), state.params)
        of_part = functools.partial(jax.value_and_grad(loss_of, has_aux=True), params)
        (loss, wrong), grads = _summed(of_part, batch, microbatches)
        loss, grads, wrong = lax.psum((loss, grads, wrong), DATA_AXIS)

        lr = learning_rate(state)
        updates, velocity = optimizer.update(grads, state.velocity, state.params, learning_rate=lr)
        new_state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            velocity=velocity,
            plateau=state.plateau,
        )
        return new_state, Metrics(loss, wrong / count, lr)

    mapped = jax.shard_map(local_step, mesh=mesh, in_specs=(P(), P(DATA_AXIS)), out_specs=P())
    return jax.jit(mapped, donate_argnums=0)


def _summed(function: Callable[[Batch], Any], batch: Batch, parts: int) -> Any:
    """Return the sum of a function over the parts of a batch, computed one after the other."""
    if parts == 1:
        return function(batch)
    stacked = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
    shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], stacked))
    nothing = jax.tree.map(
        lambda x: lax.pcast(jnp.zeros(x.shape, x.dtype), DATA_AXIS, to="varying"), shapes
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
      mesh: the parameters are replicated over it, the batch split.

    Returns:
      `(params, batch) -> counts` over the whole batch.
    """

    def local_eval(params: Any, batch: Batch) -> errors.Counts:
        score_map: Any = model.apply({"params": params}, preprocess(batch))
        return lax.psum(
            errors.counts(score_map[:, 0, 0, :], batch["label"], batch["mask"]), DATA_AXIS
        )

    return jax.jit(
        jax.shard_map(local_eval, mesh=mesh, in_specs=(P(), P(DATA_AXIS)), out_specs=P())
    )
