"""Top-1 and top-5 errors as sums and counts, which are divided once, at the end."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax


class Counts(NamedTuple):
    """Sums over images; batches and devices are added up field by field.

    Attributes:
      images: how many were scored, int32.
      top1: of these, how many have another label than theirs as their best, int32.
      top5: how many do not have theirs among their five best, int32.
      loss: sum of their softmax cross-entropies in nats, float32.
    """

    images: jax.Array
    top1: jax.Array
    top5: jax.Array
    loss: jax.Array


def ranks(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Return how many classes come before the true one when sorted by score, best first.

    Among equal scores the class of the lower number comes first, as in a stable sort, so that a
    net that says the same of every class is as bad as it should be. A score that is not a number
    puts the true class last.

    Args:
      scores: `[N, C]`.
      labels: `[N]` int, 0..C-1.

    Returns:
      `[N]` int32, 0..C-1.
    """
    true = jnp.take_along_axis(scores, labels[:, None], axis=1)
    number = jnp.arange(scores.shape[1])
    before = (scores > true) | ((scores == true) & (number < labels[:, None]))
    rank = before.sum(axis=1, dtype=jnp.int32)
    return jnp.where(jnp.isnan(scores).any(axis=1), scores.shape[1] - 1, rank)


def counts(scores: jax.Array, labels: jax.Array, mask: jax.Array) -> Counts:
    """Count the errors of a batch.

    Args:
      scores: `[N, C]`, before the softmax.
      labels: `[N]` int32.
      mask: `[N]` bool; images where it is False count for nothing.
    """
    rank = ranks(scores, labels)
    losses = optax.softmax_cross_entropy_with_integer_labels(scores, labels)
    return Counts(
        images=mask.sum(dtype=jnp.int32),
        top1=((rank >= 1) & mask).sum(dtype=jnp.int32),
        top5=((rank >= 5) & mask).sum(dtype=jnp.int32),
        loss=jnp.where(mask, losses, 0.0).sum(),
    )
