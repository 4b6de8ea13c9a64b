"""Whole images of any aspect ratio, sorted into a few buckets of one shape each.

    sizes = survey(source, threads=8).rescaled(256)
    for bucket in lay_out(sizes, most=8):
        batches = bucket_batches(source, 256, bucket, batch_size=32)

A compiled program has fixed shapes. Evaluating images densely at their own sizes would compile one
program for every width; here there are at most `most` shapes, chosen to leave the fewest pixels
empty. Each image is in the upper left of its canvas, an array of its bucket's shape.
"""

import functools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import grain
import numpy as np

from deepconv.data import decode
from deepconv.data.pipeline import NumpyBatch, Source, record_name, unreadable
from deepconv.exceptions import UserError

# Longer side to shorter; limited because a whole image and its maps must fit in memory.
MAX_ASPECT_RATIO = 32


class Bucket(NamedTuple):
    """Images that share a shape.

    Attributes:
      height: height of the tallest image, in pixels.
      width: width of the widest image, in pixels.
      records: numbers of the images, int `[n]`, ascending.
    """

    height: int
    width: int
    records: np.ndarray


class Survey(NamedTuple):
    """What is known about a set of images before any pixel is decoded.

    Attributes:
      sizes: `[N, 2]` int, (height, width).
      labels: `[N]` int32.
      image_ids: names of the files, or numbers of the records.
    """

    sizes: np.ndarray
    labels: np.ndarray
    image_ids: tuple[str, ...]

    def rescaled(self, scale: int) -> np.ndarray:
        """Return the (height, width) `[N, 2]` when the shorter sides are `scale`."""
        sizes = [
            decode.rescaled_size(height, width, scale) for height, width in self.sizes.tolist()
        ]
        return np.array(sizes, int).reshape(-1, 2)


def survey(source: Source, threads: int) -> Survey:
    """Read every record once, without decoding its pixels.

    Args:
      source: the images.
      threads: number of reading threads.

    Raises:
      UserError: if an image cannot be read, or its aspect ratio exceeds MAX_ASPECT_RATIO; the
        message names it.
    """

    def one(record: int) -> tuple[tuple[int, int], int, str]:
        example = source[record]
        name = record_name(example, record)
        try:
            height, width = decode.image_size(example["image"])
        except decode.UnreadableImageError as error:
            raise unreadable(f"{name} ({error})") from None
        if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
            raise UserError(
                f"{name} is {width}x{height}; whole images are evaluated only up to an "
                f"aspect ratio of {MAX_ASPECT_RATIO}:1, so remove it"
            )
        return (height, width), int(example["label"]), name

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(one, range(len(source))))
    return Survey(
        np.array([size for size, _, _ in found], int).reshape(-1, 2),
        np.array([label for _, label, _ in found], np.int32),
        tuple(name for _, _, name in found),
    )


def lay_out(sizes: np.ndarray, most: int) -> list[Bucket]:
    """Divide images among a few buckets, minimizing the total number of pixels.

    Images are ranked from tall to wide and cut into runs, by dynamic programming over the
    positions of the cuts; a run's bucket has the largest height and width in it.

    Args:
      sizes: `[N, 2]` int, (height, width).
      most: maximum number of buckets.

    Returns:
      The buckets, the largest first, so that one that does not fit in memory fails at once.
    """
    order = np.argsort(sizes[:, 1] - sizes[:, 0], kind="stable")
    kinds, first, count = np.unique(
        sizes[order, 1] - sizes[order, 0], return_index=True, return_counts=True
    )
    heights = np.maximum.reduceat(sizes[order, 0], first) if len(kinds) else np.zeros(0, int)
    widths = np.maximum.reduceat(sizes[order, 1], first) if len(kinds) else np.zeros(0, int)
    ends = np.concatenate([[0], np.cumsum(count)])

    # cost[j]: fewest pixels for the first j kinds; cuts[m][j]: where the last bucket begins.
    cost = np.full(len(kinds) + 1, np.inf)
    cost[0] = 0
    cuts = []
    for _ in range(most):
        new, cut = cost.copy(), np.arange(len(kinds) + 1)
        for j in range(1, len(kinds) + 1):
            tallest = np.maximum.accumulate(heights[:j][::-1])[::-1]
            widest = np.maximum.accumulate(widths[:j][::-1])[::-1]
            whole = cost[:j] + (ends[j] - ends[:j]) * tallest * widest
            best = int(np.argmin(whole))
            if whole[best] < new[j]:
                new[j], cut[j] = whole[best], best
        cost = new
        cuts.append(cut)

    found = []
    j = len(kinds)
    for cut in reversed(cuts):
        if cut[j] < j:
            records = np.sort(order[ends[cut[j]] : ends[j]])
            height, width = sizes[records].max(axis=0)
            found.append(Bucket(int(height), int(width), records))
        j = cut[j]
    return sorted(found, key=lambda bucket: bucket.height * bucket.width, reverse=True)


def load_bucket(
    source: Source,
    scale: int,
    height: int,
    width: int,
    records: Iterable[int],
    *,
    strict: bool = True,
) -> NumpyBatch:
    """Decode whole images into one batch.

    Args:
      source: the images.
      scale: the shorter side Q, in pixels.
      height: height of the canvases, in pixels.
      width: width of the canvases, in pixels.
      records: numbers of the images; -1 leaves an empty canvas.
      strict: whether an unreadable image is an error; otherwise its canvas stays empty.

    Returns:
      `image` uint8 `[n, height, width, 3]`, zero beyond the images; `extent` int32 `[n, 2]`, the
      images' (height, width), or the canvas's where it is empty; `record` int64 `[n]`, -1 there.

    Raises:
      UserError: if an image cannot be read.
    """
    records = np.array(list(records), np.int64)
    images = np.zeros((len(records), height, width, 3), np.uint8)
    extents = np.full((len(records), 2), (height, width), np.int32)
    for row, record in enumerate(records):
        if record < 0:
            continue
        example = source[int(record)]
        try:
            pixels, _ = decode.load_crop(
                example["image"], functools.partial(decode.whole, shorter=scale)
            )
        except decode.UnreadableImageError as error:
            if strict:
                name = record_name(example, int(record))
                raise unreadable(f"{name} ({error})") from None
            records[row] = -1
            continue
        images[row, : pixels.shape[0], : pixels.shape[1]] = pixels
        extents[row] = pixels.shape[:2]
    return {"image": images, "extent": extents, "record": records}


def bucket_batches(
    source: Source, scale: int, bucket: Bucket, *, batch_size: int, strict: bool = True
) -> grain.MapDataset:
    """Return the batches of a bucket; the last is padded with empty canvases.

    Args:
      source: the images.
      scale: the shorter side Q, in pixels.
      bucket: the images and their shape.
      batch_size: number of images in a batch.
      strict: see `load_bucket`.
    """
    batches = -(-len(bucket.records) // batch_size)
    rows = np.full(batches * batch_size, -1)
    rows[: len(bucket.records)] = bucket.records
    load = functools.partial(load_bucket, source, scale, bucket.height, bucket.width, strict=strict)
    return grain.MapDataset.source(rows.reshape(batches, batch_size).tolist()).map(load)
