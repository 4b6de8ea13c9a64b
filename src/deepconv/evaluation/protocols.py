"""The test protocols of the papers.

    for view in PROTOCOLS["multi_crop_and_dense"]:
        logs = VIEWS[view](network, params, images, extents, mean)  # log p [N, C], pure

A view maps images of one scale to log posteriors. A protocol averages posteriors over its views,
scales and networks, all in the same way (`ensemble.fuse`).
"""

import collections
import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax

from deepconv.evaluation import crops, posteriors
from deepconv.evaluation.errors import Sums

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


def center_crop(
    eval_step: Callable[[Any, Any], Sums], params: Any, batches: Iterable[Any]
) -> dict[str, float]:
    """Score the central crop of every image once.

    Args:
      eval_step: `(params, batch) -> {"images": how many count, metric: sum over them, ...}`.
      params: the network's parameters.
      batches: batches on the devices; masked examples are ignored.

    Returns:
      `images`, how many were scored, and the mean of each metric: for a classifier `top1_error` and
      `top5_error` as fractions, and `loss` in nats.

    Raises:
      ValueError: if no image was scored.
    """
    # Each batch is fetched while the next is computed; the sums are kept in float64 and exact
    # integers.
    total: collections.Counter[str] = collections.Counter()
    pending: Sums = {}
    for batch in batches:
        before, pending = pending, eval_step(params, batch)
        total.update(_on_host(before))
    total.update(_on_host(pending))
    images = total.pop("images", 0)
    if not images:
        raise ValueError("there are no images to evaluate")
    return {"images": int(images), **{name: value / images for name, value in total.items()}}


def _on_host(sums: Sums) -> dict[str, float]:
    return {name: float(value) for name, value in jax.device_get(sums).items()}
