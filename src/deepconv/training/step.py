"""One update of the parameters, and one evaluation of a batch: data parallel, jitted, pure.

    step = make_train_step(model, optimizer, augment, mesh, learning_rate=..., seed=0)
    state, metrics = step(state, batch)

A batch is a dict: `image` uint8 `[N, H, W, 3]`, `target` (a dict of arrays `[N, ...]`, for a
classifier `label` int32 `[N]`), `mask` bool `[N]` (False: the example is ignored), `offset` int32
`[N, 2]` (the crop's place in its image's central square), and in training `position` uint32 `[N]`
(the example's place in the stream, which with the seed determines everything random about it).
"""

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from deepconv import compilation
from deepconv.evaluation import errors
from deepconv.evaluation.errors import Sums
from deepconv.models import towers
from deepconv.models.network import Network
from deepconv.parallel import DATA_AXIS, model_axis
from deepconv.training import losses
from deepconv.training.state import TrainState

Batch = dict[str, Any]
# Of one update, float32 scalars: the means of the loss function's sums before the update, without
# weight decay, and the `learning_rate` of the update.
Metrics = dict[str, jax.Array]


def example_keys(seed: int, position: jax.Array, purpose: int) -> jax.Array:
    """Derive a key per example from (seed, position in the stream, purpose).

    So nothing random about an example depends on its device or process, or on restarts.

    Args:
      seed: the run's seed.
      position: `[N]` uint32.
      purpose: a small number, different for each use.

    Returns:
      `[N]` keys.
    """
    base = jax.random.fold_in(jax.random.key(seed), purpose)
    return jax.vmap(lambda p: jax.random.fold_in(base, p))(position)


def state_specs(model: Network, optimizer: optax.GradientTransformation, mesh: Mesh) -> Any:
    """Return the sharding of a state: replicated, except for towers, each on its own device.

    What the optimizer keeps for each parameter is sharded like the parameter.

    Returns:
      A state whose leaves, or whole parts, are a `PartitionSpec`.
    """
    _, specs = _placed(model, mesh)
    everywhere: Any = P()
    image = jax.ShapeDtypeStruct((1, model.crop, model.crop, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    kept = optax.tree_utils.tree_map_params(
        optimizer,
        lambda _, spec: spec,
        jax.eval_shape(optimizer.init, params),
        specs,
        transform_non_params=lambda _: everywhere,
    )
    return TrainState(step=everywhere, params=specs, opt_state=kept, plateau=everywhere)


def _placed(model: Network, mesh: Mesh) -> tuple[Network, dict[str, dict[str, P]]]:
    axis = model_axis(mesh)
    local = model if axis is None else towers.on_one_device(model, axis=axis)
    return local, towers.parameter_specs(model.layers, axis=axis)


def _own(batch: Batch, axis: str | None) -> Batch:
    """Turn a batch that a pair of devices shares into one that may vary between them."""
    if axis is None:
        return batch
    own: Batch = jax.tree.map(lambda x: lax.pcast(x, axis, to="varying"), batch)
    return own


def _scores(score_map: jax.Array) -> jax.Array:
    # Without this check, all but one position of a larger map would be silently ignored.
    chex.assert_shape(
        score_map,
        (None, 1, 1, None),
        custom_message="the crops do not have the network's crop size: the score map is not 1x1",
    )
    return score_map[:, 0, 0, :]


def _assert_sums(sums: Sums, function: str) -> None:
    for name, value in sums.items():
        chex.assert_shape(
            value, (), custom_message=f"the {function} function must sum {name!r} over the examples"
        )


def make_train_step(
    model: Network,
    optimizer: optax.GradientTransformation,
    preprocess: Callable[[Batch, jax.Array], tuple[jax.Array, losses.Target]],
    mesh: Mesh,
    *,
    learning_rate: Callable[[TrainState], jax.Array],
    seed: int,
    loss: losses.Function = losses.softmax_cross_entropy,
    microbatches: int = 1,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Make the jitted update: mean loss of the whole batch, its gradient, one step.

    Args:
      model: the network; its score map must be 1x1 on the batch's images.
      optimizer: any optax optimizer; if it takes `learning_rate` as an extra argument, like
        `optimizer.sgd`, it is passed.
      preprocess: `(batch, keys [N]) -> (float32 [N, H, W, 3], target)`, see
        `augment.for_training`.
      mesh: the batch is split over its axis `data`; the state is sharded by `state_specs`.
      learning_rate: the schedule; if the optimizer has its own, only the value to report.
      seed: the run's seed.
      loss: see `losses.Task`.
      microbatches: number of parts in which each device processes its examples, one after the
        other; their gradients are summed, and only one part's activations are in memory.

    Returns:
      `(state, batch) -> (state, metrics)`; the input state is donated.
    """
    local, specs = _placed(model, mesh)
    tx = optax.with_extra_args_support(optimizer)
    # If two devices share a copy of the net, both score its examples: sums over all devices count
    # each example twice, in the errors as well as in the number of examples.
    everywhere = mesh.axis_names

    def local_gradient(params: Any, batch: Batch) -> tuple[Any, Metrics]:
        batch = _own(batch, model_axis(mesh))
        count = jnp.maximum(lax.psum(batch["mask"].sum(), everywhere), 1)

        def loss_of(params: Any, part: Batch) -> tuple[jax.Array, Sums]:
            images, target = preprocess(part, example_keys(seed, part["position"], 0))
            dropout_keys = example_keys(seed, part["position"], 1)
            score_map: Any = local.apply(
                {"params": params}, images, train=True, dropout_keys=dropout_keys
            )
            sums = loss(_scores(score_map), target, part["mask"])
            _assert_sums(sums, "loss")
            return sums["loss"] / count, sums

        # Without this cast, differentiation itself would sum the gradient of replicated parameters
        # over the devices, and it would be summed again below.
        def copies(spec: P) -> tuple[str, ...]:
            return tuple(axis for axis in everywhere if axis not in spec)

        params = jax.tree.map(
            lambda w, spec: lax.pcast(w, copies(spec), to="varying"), params, specs
        )
        of_part = functools.partial(jax.value_and_grad(loss_of, has_aux=True), params)
        (_, sums), grads = _summed(of_part, batch, microbatches, everywhere)
        means = {name: total / count for name, total in lax.psum(sums, everywhere).items()}
        return jax.tree.map(lambda g, spec: lax.psum(g, copies(spec)), grads, specs), means

    gradient = jax.shard_map(
        local_gradient, mesh=mesh, in_specs=(specs, P(DATA_AXIS)), out_specs=(specs, P())
    )

    # The update is on global arrays, outside `shard_map`: an optimizer may need all parameters, for
    # example to clip the gradient's norm.
    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        grads, means = gradient(state.params, batch)
        lr = learning_rate(state)
        updates, opt_state = tx.update(grads, state.opt_state, state.params, learning_rate=lr)
        new_state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            opt_state=opt_state,
            plateau=state.plateau,
        )
        return new_state, {**means, "learning_rate": lr}

    placement = jax.tree.map(
        lambda spec: NamedSharding(mesh, spec), (state_specs(model, optimizer, mesh), P())
    )
    compiled: Callable[[TrainState, Batch], tuple[TrainState, Metrics]] = compilation.jit(
        step, mesh=mesh, donate_argnums=0, out_shardings=placement
    )
    return compiled


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
    model: Network,
    preprocess: Callable[[Batch], jax.Array],
    mesh: Mesh,
    *,
    metrics: losses.Function = errors.counts,
) -> Callable[[Any, Batch], Sums]:
    """Make the jitted evaluation of a batch of crops.

    Args:
      model: the network; its score map must be 1x1 on the batch's images.
      preprocess: `batch -> float32 [N, H, W, 3]`, see `augment.for_evaluation`.
      mesh: as for `make_train_step`.
      metrics: see `losses.Task`.

    Returns:
      `(params, batch) -> sums` over the whole batch: `images`, the number of unmasked examples,
      and the metrics.
    """
    local, specs = _placed(model, mesh)
    axis = model_axis(mesh)

    def local_eval(params: Any, batch: Batch) -> Sums:
        batch = _own(batch, axis)
        score_map: Any = local.apply({"params": params}, preprocess(batch))
        measured = metrics(_scores(score_map), batch["target"], batch["mask"])
        _assert_sums(measured, "metrics")
        sums = {"images": batch["mask"].sum(dtype=jnp.int32), **measured}
        if axis is not None:  # both devices of a pair have counted the same
            sums = lax.pmax(sums, axis)
        total: Sums = lax.psum(sums, DATA_AXIS)
        return total

    compiled: Callable[[Any, Batch], Sums] = compilation.jit(
        jax.shard_map(local_eval, mesh=mesh, in_specs=(specs, P(DATA_AXIS)), out_specs=P()),
        mesh=mesh,
    )
    return compiled
