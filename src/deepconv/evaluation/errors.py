"""Top-1 and top-5 errors as sums and counts, divided once at the end."""

from collections.abc import Mapping

import chex
import jax
import jax.numpy as jnp
import optax

# Sums over images, by name; those of batches and devices are added up.
Sums = dict[str, jax.Array]


def ranks(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Return how many classes come before the true one when sorted by score, best first.

    Ties go to the lower class number, as in a stable sort, so a net that gives every class the same
    score is at chance. If a score is NaN, the true class comes last.

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
      mask: `[N]` bool; images where it is False are ignored.

    Returns:
      `top1_error`, the number of images whose best label is wrong, and `top5_error`, the number of
      images whose true label is not among their five best, int32; `loss`, the sum of the softmax
      cross-entropies in nats, float32.
    """
    # Labels [N, 1] would be broadcast to [N, N].
    chex.assert_rank(scores, 2)
    chex.assert_shape(
        [target["label"], mask],
        (len(scores),),
        custom_message=f"labels and mask do not match the scores {scores.shape}",
    )
    rank = ranks(scores, target["label"])
    losses = optax.softmax_cross_entropy_with_integer_labels(scores, target["label"])
    return {
        "top1_error": ((rank >= 1) & mask).sum(dtype=jnp.int32),
        "top5_error": ((rank >= 5) & mask).sum(dtype=jnp.int32),
        "loss": jnp.where(mask, losses, 0.0).sum(),
    }
