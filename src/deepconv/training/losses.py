"""What a network is trained to do: losses and metrics as sums over examples; pure.

    sums = softmax_cross_entropy(scores, target, mask)
    loss = sums["loss"] / mask.sum()

Sums can be added up over microbatches, devices and batches, and divided once. A custom task is a
`Task` of two functions like these; the step and the loop do not depend on which it is.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from deepconv import boxes
from deepconv.data import targets
from deepconv.evaluation import errors
from deepconv.evaluation.errors import Sums
from deepconv.training.augment import unchanged

Target = Mapping[str, jax.Array]
# `(scores [N, C] float32, target, mask [N] bool) -> {name: sum over the unmasked examples}`.
Function = Callable[[jax.Array, Target, jax.Array], Sums]

# A box is right if it overlaps a true one by more than this, as in ILSVRC.
LEAST_OVERLAP = 0.5


class Task(NamedTuple):
    """What a network learns, and how it is evaluated.

    Attributes:
      loss: its sum named `loss` is minimized; the others are logged with it.
      metrics: what an evaluation reports.
      criterion: the metric, lower is better, that drives the plateau schedule and selects the best
        checkpoint.
      target: how the target of a crop is made.
      mirror: maps a crop's target to that of its mirror image.
    """

    loss: Function
    metrics: Function
    criterion: str
    target: targets.Target = targets.CLASS
    mirror: Callable[[Any], Any] = unchanged


def softmax_cross_entropy(scores: jax.Array, target: Target, mask: jax.Array) -> Sums:
    """Sum the softmax cross-entropy, -log softmax(scores)[label], and the top-1 errors.

    (AlexNet section 2; VGG section 3.1.)

    Args:
      scores: `[N, C]` float32, before the softmax.
      target: `label` int32 `[N]`, in 0..C-1.
      mask: `[N]` bool; examples where it is False are ignored.

    Returns:
      `loss`, in nats, and `top1_error`, scalars.
    """
    sums = errors.counts(scores, target, mask)
    return {name: sums[name] for name in ("loss", "top1_error")}


def predicted_box(outputs: jax.Array, label: jax.Array) -> jax.Array:
    """Return the box that a network gives for a class, (cx, cy, w, h) `[N, 4]`.

    Args:
      outputs: `[N, 4]`, one box for all classes, or `[N, 4 C]`, one for each.
      label: int32 `[N]`, the class.
    """
    by_class = outputs.reshape(len(outputs), -1, 4)
    if by_class.shape[1] == 1:
        return by_class[:, 0]
    return jnp.take_along_axis(by_class, label[:, None, None], axis=1)[:, 0]


def euclidean(outputs: jax.Array, target: Target, mask: jax.Array) -> Sums:
    """Sum the Euclidean loss of boxes, and how many are wrong (VGG appendix A).

    1/2 ||b - t||^2 for b the predicted and t the true (cx, cy, w, h), as fractions of the crop; of
    a network with a box for each class, b is that of the true class; the others get no gradient.

    Args:
      outputs: `[N, 4]` or `[N, 4 C]` float32, see `predicted_box`.
      target: of `targets.BOX`.
      mask: `[N]` bool; examples where it is False count for nothing.

    Returns:
      `loss`; `localization_error`, the number of boxes that overlap none of the true ones by more
      than LEAST_OVERLAP; `iou`, the sum of the largest overlaps. Scalars.
    """
    chex.assert_shape(
        [target["box"], target["boxes"]],
        [(len(outputs), 4), (len(outputs), None, 4)],
        custom_message=f"the boxes do not fit the outputs {outputs.shape}",
    )
    box = predicted_box(outputs, target["label"])
    losses = 0.5 * jnp.sum((box - target["box"]) ** 2, axis=-1)
    overlap = boxes.iou(boxes.decode(box)[:, None], target["boxes"]).max(axis=-1)
    return {
        "loss": jnp.where(mask, losses, 0.0).sum(),
        "localization_error": (mask & (overlap <= LEAST_OVERLAP)).sum(dtype=jnp.int32),
        "iou": jnp.where(mask, overlap, 0.0).sum(),
    }


def mirror_boxes(target: Target) -> Target:
    """Return the target of `targets.BOX` of the mirror image."""
    return {
        "label": target["label"],
        "box": boxes.mirror_code(target["box"]),
        # Zeros, where there are fewer boxes, become a box without an area, which overlaps nothing.
        "boxes": boxes.mirror(target["boxes"]),
    }


def sigmoid_cross_entropy(scores: jax.Array, target: Target, mask: jax.Array) -> Sums:
    """Sum the cross-entropies of classes that are present or absent each by itself.

    Of an example: the sum over its known classes of -log sigmoid(s) where the class is present and
    -log sigmoid(-s) where it is absent.

    Args:
      scores: `[N, C]` float32, before the sigmoid.
      target: `labels` int8 `[N, C]`: 1 present, 0 absent, -1 unknown, which counts for nothing.
      mask: `[N]` bool; examples where it is False count for nothing.

    Returns:
      `loss`, in nats, and `ranking_error`, see `ranking_errors`. Scalars.
    """
    labels = target["labels"]
    chex.assert_shape(
        labels, scores.shape, custom_message=f"the labels do not fit the scores {scores.shape}"
    )
    each = optax.sigmoid_binary_cross_entropy(scores, (labels == 1).astype(scores.dtype))
    losses = jnp.where(labels >= 0, each, 0.0).sum(axis=1)
    return {
        "loss": jnp.where(mask, losses, 0.0).sum(),
        "ranking_error": jnp.where(mask, ranking_errors(scores, labels), 0.0).sum(),
    }


def ranking_errors(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Return 1 - the label ranking average precision of each example, `[N]` in 0..1.

    The precision of a present class is the fraction of present classes among the known ones with at
    least its score; an example's is the mean over its present classes, 1 if it has none. Unlike the
    mean average precision over a data set it is a mean over examples.

    Args:
      scores: `[N, C]`.
      labels: int `[N, C]`: 1 present, 0 absent, -1 unknown.
    """
    present, known = labels == 1, labels >= 0
    as_good = scores[:, None, :] >= scores[:, :, None]  # [N, class, other class]
    right = (as_good & present[:, None, :]).sum(axis=2)
    of_all = (as_good & known[:, None, :]).sum(axis=2)
    precision = jnp.where(present, right / jnp.maximum(of_all, 1), 0.0).sum(axis=1)
    count = present.sum(axis=1)
    return jnp.where(count > 0, 1 - precision / jnp.maximum(count, 1), 0.0)


CLASSIFICATION = Task(softmax_cross_entropy, errors.counts, "top1_error")
MULTILABEL = Task(sigmoid_cross_entropy, sigmoid_cross_entropy, "ranking_error", targets.LABELS)
LOCALIZATION = Task(euclidean, euclidean, "localization_error", targets.BOX, mirror_boxes)
