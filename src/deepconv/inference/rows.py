"""Compute a row for every image: a pure function of a network over a whole set, in buckets.

    sizes = survey(source, threads=8).rescaled(256)
    rows = compute(function, params, source, sizes, Memory((len(source), 1000)), scale=256, ...)

The function is `(params, images, extents) -> [n, ...]`, float32: posteriors, descriptors, boxes.
Rows are kept in `Memory`, or in a `Store` on disk, with which an interrupted call can be resumed.
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from tqdm import tqdm

from deepconv import atomic, compilation, parallel
from deepconv.data import pipeline
from deepconv.data.pipeline import Source
from deepconv.inference import buckets
from deepconv.inference.buckets import Bucket

# Maximum number of programs compiled for one function at one scale.
MOST_BUCKETS = 8

# `(params, images uint8 [n, H, W, 3], extents [n, 2]) -> float32 [n, ...]`, each image in the upper
# left of its canvas, `extents` its (height, width); what is given of each image follows.
Function = Callable[..., jax.Array]


class Store:
    """Rows in a folder, written as they are computed, so that a killed process loses none.

    Attributes:
      rows: float32 `[N, ...]`.
      done: bool `[N]`, which rows have been computed.
    """

    def __init__(self, folder: Path, origin: dict[str, Any], shape: tuple[int, ...]) -> None:
        """Open the rows of an earlier call, or start over.

        Args:
          folder: the folder; its contents are deleted if they have a different origin.
          origin: what the rows are computed from, in JSON.
          shape: `[N, ...]`.
        """
        self._folder = folder
        about = folder / "origin.json"
        files = (folder / "rows.npy", folder / "done.npy")
        known = about.exists() and all(file.exists() for file in files)
        if not known or json.loads(about.read_text()) != origin:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            np.lib.format.open_memmap(files[0], "w+", np.float32, shape).flush()
            np.lib.format.open_memmap(files[1], "w+", np.bool_, shape[:1]).flush()
            atomic.write_json(about, origin)
        self.rows, self.done = (np.load(file, mmap_mode="r+") for file in files)

    def remove(self) -> None:
        """Delete the folder."""
        del self.rows, self.done
        shutil.rmtree(self._folder)


class Memory:
    """Rows in memory, with the attributes of `Store`."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Allocate rows `[N, ...]`."""
        self.rows, self.done = np.empty(shape, np.float32), np.zeros(shape[:1], np.bool_)


def compute(
    function: Function,
    params: Any,
    source: Source,
    sizes: np.ndarray,
    into: Store | Memory,
    *,
    scale: int,
    pixels: int,
    mesh: Mesh,
    threads: int,
    description: str,
    strict: bool = True,
    given: np.ndarray | None = None,
) -> np.ndarray:
    """Compute the rows of a set of images, or the part that is still missing.

    Args:
      function: pure, `(params, images uint8 [n, H, W, 3], extents [n, 2]) -> float32 [n, ...]`;
        compiled once for each bucket.
      params: the function's first argument, on all devices.
      source: the images.
      sizes: `[N, 2]` int, (height, width) of the images at this scale; see `Survey.rescaled`.
      into: where to put the rows, and which are done.
      scale: the shorter side Q of the images, in pixels.
      pixels: maximum pixels in a batch, with mirror images; only a single image may exceed it.
      mesh: the devices that share each batch.
      threads: number of decoding threads.
      description: text of the progress bar.
      strict: whether an unreadable image is an error; otherwise its row is NaN.
      given: `[N, ...]`, a further argument of the function for each image, such as its label.

    Returns:
      float32 `[N, ...]`.

    Raises:
      UserError: if an image cannot be read.
    """
    step = compilation.jit(
        jax.shard_map(
            function,
            mesh=mesh,
            in_specs=(P(), *[P(parallel.DATA_AXIS)] * (2 if given is None else 3)),
            out_specs=P(parallel.DATA_AXIS),
        ),
        mesh=mesh,
    )
    with tqdm(
        total=len(source),
        initial=int(into.done.sum()),
        desc=description,
        unit=" images",
        disable=not sys.stderr.isatty(),
    ) as bar:
        for bucket in buckets.lay_out(sizes, MOST_BUCKETS):
            missing = bucket._replace(records=bucket.records[~into.done[bucket.records]])
            if not len(missing.records):
                continue
            size = _batch_size(bucket, pixels, mesh.size)
            batches = buckets.bucket_batches(source, scale, missing, batch_size=size, strict=strict)
            pending: tuple[np.ndarray, jax.Array] | None = None
            for batch in pipeline.iter_from(batches, 0, threads=threads):
                # The row of an empty canvas, record -1, is not kept.
                more = () if given is None else (given[batch["record"]],)
                arrays = parallel.shard_batch((batch["image"], batch["extent"], *more), mesh)
                # Write the previous rows while the device computes these.
                pending, before = (batch["record"], step(params, *arrays)), pending
                bar.update(_write(into, before))
            bar.update(_write(into, pending))
    done = into.done.reshape(-1, *[1] * (into.rows.ndim - 1))
    return np.where(done, into.rows, np.float32(np.nan))


def _write(into: Store | Memory, computed: tuple[np.ndarray, jax.Array] | None) -> int:
    """Write (record numbers `[n]`, rows `[n, ...]`); return how many are of images."""
    if computed is None:
        return 0
    records, rows = computed
    real = records >= 0
    into.rows[records[real]] = np.asarray(rows)[real]
    into.done[records[real]] = True
    return int(real.sum())


def _batch_size(bucket: Bucket, pixels: int, devices: int) -> int:
    """Return how many images, with their mirror images, fit the pixel budget."""
    images = min(pixels // (2 * bucket.height * bucket.width), len(bucket.records))
    return max(1, -(-images // devices)) * devices
