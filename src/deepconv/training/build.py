"""Build the pure functions of a run from its config."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from deepconv import compilation, parallel, preprocess
from deepconv.config.schema import (
    create_model,
    drop_steps,
    num_steps,
    predicts_boxes,
    step_of,
)
from deepconv.data.color import ColorStatistics, pca_magnitudes
from deepconv.evaluation.errors import Sums
from deepconv.exceptions import UserError
from deepconv.models.network import Network
from deepconv.training import augment, optimizer, plateau, schedule, state
from deepconv.training.losses import CLASSIFICATION, LOCALIZATION, MULTILABEL, Task
from deepconv.training.state import TrainState
from deepconv.training.step import Batch, Metrics, make_eval_step, make_train_step, state_specs


class Functions(NamedTuple):
    """The functions of a run; each is pure, and jitted where it computes.

    Attributes:
      model: the network.
      initial_state: `() -> state`, random weights from the config's seed.
      placement: sharding of a state on the mesh, a prefix tree of the state.
      train_step: `(state, batch) -> (state, metrics)`; the state is donated.
      eval_step: `(params, batch) -> sums`.
      after_evaluation: `(state, error) -> state`, updates the schedule with a validation error.
      activations: `(params, batch) -> {layer: activations}`, to diagnose a net that does not learn.
    """

    model: Network
    initial_state: Callable[[], TrainState]
    placement: TrainState
    train_step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
    eval_step: Callable[[Any, Batch], Sums]
    after_evaluation: Callable[[TrainState, jax.typing.ArrayLike], TrainState]
    activations: Callable[[Any, Batch], dict[str, jax.Array]]


def task_of(config: ConfigDict) -> Task:
    """Return what a config's network is trained to do."""
    if predicts_boxes(config):
        return LOCALIZATION
    return MULTILABEL if config.dataset.multilabel else CLASSIFICATION


def build(
    config: ConfigDict,
    colors: ColorStatistics,
    *,
    num_classes: int,
    images: int,
    mesh: Mesh,
    task: Task | None = None,
) -> Functions:
    """Build the functions that a config describes.

    Args:
      config: the checked config.
      colors: the training set's color statistics.
      num_classes: outputs of the network.
      images: size of the training set, to convert epochs to steps.
      mesh: the devices.
      task: the loss and the metrics; by default the config's own.

    Raises:
      UserError: if a rule of `optimizer.multipliers` matches no parameter, or the warm-up takes the
        whole run.
    """
    task = task or task_of(config)
    model = create_model(config, num_classes)
    image = jax.ShapeDtypeStruct((1, model.crop, model.crop, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    try:
        lr_mults, decay_mults = optimizer.multipliers(shapes, config.optimizer.multipliers)
        lr_mults = optimizer.frozen(lr_mults, config.optimizer.trained_layers)
    except ValueError as error:
        raise UserError(str(error)) from None
    tx = optimizer.sgd(
        momentum=config.optimizer.momentum,
        weight_decay=config.optimizer.weight_decay,
        lr_mults=lr_mults,
        decay_mults=decay_mults,
    )

    def initial_state() -> TrainState:
        # The default generator takes seconds to compile for each parameter shape.
        key = jax.random.key(config.seed, impl="rbg")
        params = model.init(key, jnp.zeros(image.shape))["params"]
        return state.create(params, tx)

    square = config.evaluation.scale  # side of the mean image, if the config uses one
    mean = jnp.asarray(preprocess.mean_for(colors, config.input.mean, square=square))
    for_evaluation = functools.partial(augment.for_evaluation, mean=mean)
    for_training = functools.partial(
        augment.for_training,
        mean=mean,
        flip=config.augment.flip,
        mirror=task.mirror,
        pca_std=config.augment.pca_std,
        eigenvectors=jnp.asarray(colors.eigenvectors, jnp.float32),
        magnitudes=jnp.asarray(
            pca_magnitudes(colors.eigenvalues, config.augment.pca_magnitude), jnp.float32
        ),
    )

    base, factor = config.optimizer.learning_rate, config.plateau.factor
    try:
        fixed = schedule.create(
            config.schedule.name,
            base=base,
            total=num_steps(config, images),
            factor=factor,
            drops=drop_steps(config, images),
            warmup=step_of(config, config.schedule.warmup_epochs, images),
        )
    except ValueError as error:
        raise UserError(str(error)) from None

    def learning_rate(current: TrainState) -> jax.Array:
        if fixed is None:
            return plateau.learning_rate(current.plateau, base=base, factor=factor)
        return jnp.asarray(fixed(current.step), jnp.float32)

    def after_evaluation(current: TrainState, error: jax.typing.ArrayLike) -> TrainState:
        if fixed is not None:
            return current
        updated = plateau.update(
            current.plateau,
            error,
            patience=config.plateau.patience,
            min_delta=config.plateau.min_delta,
        )
        return current._replace(plateau=parallel.replicate(updated, mesh))

    def activations(params: Any, batch: Batch) -> Any:
        return model.apply({"params": params}, for_evaluation(batch), method="activations")

    placement = jax.tree.map(
        lambda spec: jax.sharding.NamedSharding(mesh, spec), state_specs(model, tx, mesh)
    )
    return Functions(
        model=model,
        initial_state=jax.jit(initial_state, out_shardings=placement),
        placement=placement,
        train_step=make_train_step(
            model,
            tx,
            for_training,
            mesh,
            learning_rate=learning_rate,
            seed=config.seed,
            loss=task.loss,
            microbatches=config.train.microbatches,
        ),
        eval_step=make_eval_step(model, for_evaluation, mesh, metrics=task.metrics),
        after_evaluation=after_evaluation,
        activations=compilation.jit(activations, mesh=mesh),
    )
