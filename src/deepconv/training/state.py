"""The state that a training run carries from one step to the next."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from deepconv.training import plateau


class TrainState(NamedTuple):
    """A plain pytree; nothing else affects how training continues.

    Attributes:
      step: updates made so far, int32.
      params: `{layer: {"kernel": ..., "bias": ...}}`, float32.
      opt_state: the optimizer's state; for `optimizer.sgd` the velocity, a tree like `params`.
      plateau: the state of the learning-rate schedule.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    plateau: plateau.PlateauState


def create(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """Return the initial state of a run with these parameters."""
    return TrainState(jnp.int32(0), params, optimizer.init(params), plateau.initial())
