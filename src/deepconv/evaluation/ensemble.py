"""Combine several networks, scales or protocols by averaging their posteriors.

    together = combine([by_one_network, by_another])

Posteriors are kept as logs, see `posteriors`.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from deepconv.exceptions import UserError


class ScoredImages(NamedTuple):
    """Posteriors of a set of images, and all that is needed to evaluate or combine them later.

    Attributes:
      log_posteriors: float32 `[N, C]`, natural logs; see `evaluation.posteriors`.
      labels: `[N]` int32.
      image_ids: `[N]`.
      class_names: `[C]`.
      origin: the network and the images that they were computed from, in JSON.
    """

    log_posteriors: np.ndarray
    labels: np.ndarray
    image_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    origin: dict[str, Any]

    @property
    def posteriors(self) -> np.ndarray:
        """The posteriors, float32 `[N, C]`; those below 1e-45 are 0."""
        return np.asarray(np.exp(self.log_posteriors))


def combine(members: Sequence[ScoredImages]) -> ScoredImages:
    """Average the posteriors of networks, scales and protocols, all with equal weight.

    Raises:
      UserError: if they are not of the same images and classes.
    """
    first = members[0]
    for member in members[1:]:
        name = member.origin.get("run", "one of the members")
        if member.class_names != first.class_names:
            raise UserError(f"{name} has different classes than {first.origin.get('run')}")
        if member.image_ids != first.image_ids or (member.labels != first.labels).any():
            raise UserError(f"{name} scored different images than {first.origin.get('run')}")
    if len(members) == 1:
        return first
    return first._replace(
        log_posteriors=fuse([member.log_posteriors for member in members]),
        origin={
            "dataset": first.origin.get("dataset"),
            "mean_of": [member.origin for member in members],
        },
    )


def fuse(log_posteriors: Sequence[np.ndarray]) -> np.ndarray:
    """Average posteriors of nets, scales or protocols, in logs (VGG sections 3.2 and 4.4).

    log (1 / M) sum_m p_m, summed in float64.

    Args:
      log_posteriors: M arrays `[N, C]`; -inf is a posterior of 0, NaN an unknown one.

    Returns:
      float32 `[N, C]`.

    Raises:
      ValueError: if there are none, or their shapes differ.
    """
    shapes = {members.shape for members in log_posteriors}
    if len(shapes) != 1:
        raise ValueError(f"log posteriors to average must all have the same shape, not {shapes}")
    # One after the other: all of them in float64 at once would take gigabytes.
    first, *others = log_posteriors
    with np.errstate(invalid="ignore"):
        total = functools.reduce(np.logaddexp, others, first.astype(np.float64))
    return (total - math.log(len(log_posteriors))).astype(np.float32)
