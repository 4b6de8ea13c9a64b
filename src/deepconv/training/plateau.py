"""The papers' learning-rate schedule: divide by ten when the validation error stops improving.

state = initial()
state = update(state, error, patience=5, min_delta=0.0)  # after each evaluation
lr = learning_rate(state, base=0.01, factor=0.1)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class PlateauState(NamedTuple):
    """The schedule's state, as float32 and int32 scalars.

    Attributes:
      best: lowest validation error since the start.
      stale: evaluations since it last improved.
      drops: number of plateaus so far.
    """

    best: jax.Array
    stale: jax.Array
    drops: jax.Array


def initial() -> PlateauState:
    """Return the state before the first evaluation."""
    return PlateauState(jnp.float32(jnp.inf), jnp.int32(0), jnp.int32(0))


def update(
    state: PlateauState, error: jax.typing.ArrayLike, *, patience: int, min_delta: float
) -> PlateauState:
    """Update the state with one validation error.

    An error below `best - min_delta` is an improvement; `patience` evaluations without one are a
    plateau, after which the count starts again. NaN is not an improvement.

    Args:
      state: the previous state.
      error: validation error, a fraction.
      patience: evaluations without improvement that are a plateau, at least 1.
      min_delta: minimum decrease that counts as an improvement, a fraction.
    """
    error = jnp.float32(error)
    improved = error < state.best - min_delta
    stale = jnp.where(improved, 0, state.stale + 1)
    plateau = stale >= patience
    return PlateauState(
        best=jnp.where(improved, error, state.best),
        stale=jnp.where(plateau, 0, stale).astype(jnp.int32),
        drops=(state.drops + plateau).astype(jnp.int32),
    )


def learning_rate(state: PlateauState, *, base: float, factor: float) -> jax.Array:
    """Return base * factor^drops (AlexNet section 5; VGG section 3.1: factor 0.1, float32)."""
    return jnp.asarray(jnp.float32(base) * jnp.float32(factor) ** state.drops)


def finished(state: PlateauState, *, max_drops: int) -> jax.Array:
    """Return whether there has been another plateau after the last drop."""
    return state.drops > max_drops
