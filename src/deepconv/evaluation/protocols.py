"""The test protocols of the papers.

    for view in PROTOCOLS["multi_crop_and_dense"]:
        says = VIEWS[view](network, params, images, extents, mean)  # log p [N, C], pure

A view is one way to look at images of one scale, to the logs of posteriors. A protocol is the mean
of its views, of its scales and of its networks: posteriors of whatever origin are averaged alike
(`posteriors.fuse`).
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from deepconv.evaluation import crops, posteriors
from deepconv.evaluation.errors import Counts

VIEWS: dict[str, Callable[..., jax.Array]] = {
    "center": functools.partial(posteriors.of_crops, offsets=crops.center, mirror=False),
    "ten_crop": functools.partial(posteriors.of_crops, offsets=crops.ten_crop, mirror=True),
    "nine_view": functools.partial(posteriors.of_crops, offsets=crops.nine_view, mirror=False),
    "multi_crop": functools.partial(posteriors.of_crops, offsets=crops.grid, mirror=True),
    "dense": posteriors.of_whole,
    "dense_posteriors": functools.partial(posteriors.of_whole, average="posteriors"),
}
# Views whose crops lie in the central square, so that a mean image of it can be subtracted.
OF_CENTRAL_SQUARE = ("center", "ten_crop", "nine_view")
PROTOCOLS: dict[str, tuple[str, ...]] = {
    "center": ("center",),
    "ten_crop": ("ten_crop",),
    "nine_view": ("nine_view",),
    "dense": ("dense",),
    "multi_crop": ("multi_crop",),
    "multi_crop_and_dense": ("multi_crop", "dense"),
}


class Result(NamedTuple):
    """Errors over a set of images.

    Attributes:
      images: how many were scored.
      top1_error: fraction of them.
      top5_error: fraction of them.
      loss: mean softmax cross-entropy in nats.
    """

    images: int
    top1_error: float
    top5_error: float
    loss: float


def center_crop(
    eval_step: Callable[[Any, Any], Counts], params: Any, batches: Iterable[Any]
) -> Result:
    """Score the central crop of every image once.

    Args:
      eval_step: `(params, batch) -> counts`.
      params: of the network.
      batches: batches on the devices; masked examples count for nothing.

    Raises:
      ValueError: if no image was scored.
    """
    # Each batch is fetched while the next is computed; the sums are kept in float64 and exact
    # integers.
    total = np.zeros(len(Counts._fields))
    pending = None
    for batch in batches:
        counts = eval_step(params, batch)
        if pending is not None:
            total += np.asarray(jax.device_get(pending), np.float64)
        pending = counts
    if pending is not None:
        total += np.asarray(jax.device_get(pending), np.float64)
    images, top1, top5, loss = total
    if not images:
        raise ValueError("there is no image to evaluate")
    return Result(int(images), top1 / images, top5 / images, loss / images)
