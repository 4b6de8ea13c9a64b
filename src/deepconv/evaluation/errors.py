"""Top-1 and top-5 errors as sums and counts, which are divided once, at the end."""

from collections.abc import Mapping

import chex
import jax
import jax.numpy as jnp
import optax

# By name, over images; batches and devices are added up.
Sums = dict[str, jax.Array]


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


def counts(scores: jax.Array, target: Mapping[str, jax.Array], mask: jax.Array) -> Sums:
    """Sum the errors of a batch.

    Args:
      scores: `[N, C]`, before the softmax.
      target: `label` int32 `[N]`, in 0..C-1.
      mask: `[N]` bool; images where it is False count for nothing.

    Returns:
      `top1_error`, how many have another label than theirs as their best, and `top5_error`, how
      many do not have theirs among their five best, int32; `loss`, the sum of their softmax
      cross-entropies in nats, float32.
    """
    # Labels [N, 1] would be broadcast to [N, N].
    chex.assert_rank(scores, 2)
    chex.assert_shape(
        [target["label"], mask],
        (len(scores),),
        custom_message=f"labels and mask do not fit the scores {scores.shape}",
    )
    rank = ranks(scores, target["label"])
    losses = optax.softmax_cross_entropy_with_integer_labels(scores, target["label"])
    return {
        "top1_error": ((rank >= 1) & mask).sum(dtype=jnp.int32),
        "top5_error": ((rank >= 5) & mask).sum(dtype=jnp.int32),
        "loss": jnp.where(mask, losses, 0.0).sum(),
    }
