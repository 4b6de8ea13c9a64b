"""What a network is trained to do: losses and metrics as sums over examples; pure.

    sums = softmax_cross_entropy(scores, target, mask)
    loss = sums["loss"] / mask.sum()

Sums can be added up over microbatches, devices and batches, and divided once. A custom task is a
`Task` of two functions like these; the step and the loop do not depend on which it is.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax

from deepconv.evaluation import errors
from deepconv.evaluation.errors import Sums

Target = Mapping[str, jax.Array]
# `(scores [N, C] float32, target, mask [N] bool) -> {name: sum over the unmasked examples}`.
Function = Callable[[jax.Array, Target, jax.Array], Sums]


class Task(NamedTuple):
    """What a network learns, and how it is evaluated.

    Attributes:
      loss: its sum named `loss` is minimized; the others are logged with it.
      metrics: what an evaluation reports.
      criterion: the metric, lower is better, that drives the plateau schedule and selects the best
        checkpoint.
    """

    loss: Function
    metrics: Function
    criterion: str


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


CLASSIFICATION = Task(softmax_cross_entropy, errors.counts, "top1_error")
