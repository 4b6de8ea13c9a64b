"""The input pipeline: the order of the examples, and the crop that is cut from each.

    stream = train_batches(source, Geometry(crop=224, scale=(256, 512)), batch_size=256, seed=0)
    batches = iter_from(stream, step=0, threads=8)
    batch = next(batches)  # numpy; batch["device"]["image"] uint8 [N, 224, 224, 3]

An example has two parts: `device`, what the devices compute with, and `host`, what the host needs
to report on it. An example, and everything random about it, depends only on (seed, position), not
on the number of threads or processes, nor on where a run was interrupted.
"""

import dataclasses
import functools
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import grain
import numpy as np
from absl import flags

from deepconv import naming
from deepconv.data import decode
from deepconv.data.targets import CLASS, Target
from deepconv.exceptions import UserError

_LOG = logging.getLogger(__name__)

Example = dict[str, Any]
# `{"device": ..., "host": ...}`, dicts of arrays `[N, ...]`.
NumpyBatch = dict[str, Any]

# This many unreadable records in a row mean that something other than a broken file is wrong.
MAX_UNREADABLE_IN_A_ROW = 100

# Give up when workers have been started this often without producing a batch.
MAX_FRUITLESS_STARTS = 3


# A random crop shows at least this fraction of the object that it is to be recognized as, as in
# OverFeat; if so many draws do not, the best of them is taken. A class is shown by any crop.
MIN_SHOWN = 0.5
MAX_DRAWS = 50


class Source(Protocol):
    """Records by number: `{"image": the bytes of an image file, "label": int, ...}`.

    See `targets` for what the records of other tasks have besides the label, or instead of it.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, record: int, /) -> dict[str, Any]: ...


def record_name(example: dict[str, Any], record: int) -> str:
    """Return the name of a record's file as text (`naming.decoded`), else the record's number."""
    value = example.get("file_name", f"record {record}")
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    return naming.decoded(str(value))


def unreadable(images: str) -> UserError:
    """Return the error for images that an evaluation cannot read, as named by the caller."""
    return UserError(
        f"cannot read {images}; an evaluation scores every image, so fix or remove unreadable ones"
    )


@dataclasses.dataclass(frozen=True)
class Geometry:
    """How a crop is cut from an image.

    Attributes:
      crop: side of the crop, in pixels.
      scale: the shorter side S is drawn uniformly from the integers between these, inclusive.
      square: whether to keep only the central SxS square before cropping (AlexNet section 2)
        instead of the whole image (VGG section 3.1).
    """

    crop: int
    scale: tuple[int, int]
    square: bool = False

    def random(
        self,
        height: int,
        width: int,
        rng: np.random.Generator,
        shown: Callable[[decode.Crop], float] = lambda _: 1.0,
    ) -> decode.Crop:
        """Draw S, then a crop; every position inside the image (or its square) is equally likely.

        AlexNet's paper counts 32 x 32 positions of a 224 crop in 256 pixels; there are 33 x 33.

        Args:
          height: of the image, in pixels.
          width: of the image, in pixels.
          rng: of the example.
          shown: which fraction of the object a crop shows. A crop that shows less than MIN_SHOWN
            is drawn again, S too; if MAX_DRAWS crops do, the first of those that show the most is
            taken.
        """
        best, most = None, -1.0
        for _ in range(MAX_DRAWS):
            window = self._drawn(height, width, rng)
            visible = shown(window)
            if visible >= MIN_SHOWN:
                return window
            if visible > most:
                best, most = window, visible
        assert best is not None
        return best

    def _drawn(self, height: int, width: int, rng: np.random.Generator) -> decode.Crop:
        shorter = int(rng.integers(*self.scale, endpoint=True))
        window = self._window(height, width, shorter)
        top, left, spare_y, spare_x = self._spare(window, shorter)
        return window._replace(
            top=top + int(rng.integers(spare_y, endpoint=True)),
            left=left + int(rng.integers(spare_x, endpoint=True)),
        )

    def central(self, height: int, width: int) -> decode.Crop:
        """Return the central crop, offsets rounded down; S is the lower end of the scale."""
        window = self._window(height, width, self.scale[0])
        return window._replace(
            top=(window.height - self.crop) // 2, left=(window.width - self.crop) // 2
        )

    def offset(self, window: decode.Crop) -> tuple[int, int]:
        """Return the (top, left) of a crop within the central square of its image."""
        shorter = min(window.height, window.width)
        return window.top - (window.height - shorter) // 2, window.left - (
            window.width - shorter
        ) // 2

    def _window(self, height: int, width: int, shorter: int) -> decode.Crop:
        rescaled = decode.rescaled_size(height, width, shorter)
        return decode.Crop(*rescaled, 0, 0, self.crop, self.crop)

    def _spare(self, window: decode.Crop, shorter: int) -> tuple[int, int, int, int]:
        if not self.square:
            return 0, 0, window.height - self.crop, window.width - self.crop
        spare = shorter - self.crop
        return (window.height - shorter) // 2, (window.width - shorter) // 2, spare, spare


def _cut(
    record: dict[str, Any],
    choose: Callable[[int, int], decode.Crop],
    geometry: Geometry,
    target: Target,
) -> dict[str, Any]:
    pixels, window = decode.load_crop(record["image"], choose)
    return {
        "image": pixels,
        "target": target.of(record, window),
        "offset": np.asarray(geometry.offset(window), np.int32),
        "mask": np.True_,
    }


def load_train(
    source: Source,
    geometry: Geometry,
    placed: tuple[int, int],
    rng: np.random.Generator,
    *,
    target: Target = CLASS,
) -> Example:
    """Cut a random crop from a record, or from the next one that can be read.

    Args:
      source: the training set.
      geometry: how to crop.
      placed: (position in the stream, number of the record).
      rng: the example's own generator.
      target: how the target of a crop is made.

    Returns:
      For the devices `image` uint8 `[S, S, 3]`, `target`, `offset` int32 `[2]` of the crop in the
      central square, `position` and `mask`; for the host `record`, the requested record, and
      `readable`, whether the crop is from that record.

    Raises:
      UserError: if none of the next records can be read either.
    """
    position, record = placed
    for skipped in range(min(len(source), MAX_UNREADABLE_IN_A_ROW)):
        found = source[(record + skipped) % len(source)]

        def choose(height: int, width: int, found: dict[str, Any] = found) -> decode.Crop:
            return geometry.random(height, width, rng, functools.partial(target.shown, found))

        try:
            cut = _cut(found, choose, geometry, target)
        except decode.UnreadableImageError:
            continue
        return {
            "device": cut | {"position": np.uint32(position)},
            "host": {"record": np.int64(record), "readable": np.bool_(skipped == 0)},
        }
    raise UserError(
        f"cannot read any of the {min(len(source), MAX_UNREADABLE_IN_A_ROW)} training images from "
        f"record {record} on"
    )


def train_batches(
    source: Source,
    geometry: Geometry,
    *,
    batch_size: int,
    seed: int,
    target: Target = CLASS,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.MapDataset:
    """Lay out the endless stream of training batches; element b is this process's part of batch b.

    Every epoch is a permutation of the records, a new one each time; batches cross epoch
    boundaries, so that every image is seen exactly once per epoch.

    Args:
      source: the training set.
      geometry: how to crop.
      batch_size: size of the global batch, which the processes share.
      seed: determines the order and all random draws.
      target: how the target of a crop is made.
      process_index: number of this process.
      process_count: number of processes.
    """
    stream = (
        grain.MapDataset.range(len(source))
        .seed(seed)
        .shuffle()
        .repeat(None)
        .map_with_index(lambda position, record: (position, int(record)))
        .random_map(functools.partial(load_train, source, geometry, target=target))
    )
    return stream[process_index::process_count].batch(
        batch_size // process_count, drop_remainder=True
    )


def load_eval(
    source: Source, geometry: Geometry, record: int, *, target: Target = CLASS
) -> Example:
    """Cut the central crop; mask a record that is past the end or cannot be read."""
    record = int(record)
    exists = record < len(source)
    # Beyond the end, any record will do: only its target's shapes matter.
    found = source[record if exists else 0]
    readable = True
    device = {
        "image": np.zeros((geometry.crop, geometry.crop, 3), np.uint8),
        "target": target.of(found, geometry.central(geometry.crop, geometry.crop)),
        "offset": np.zeros(2, np.int32),
        "mask": np.False_,
    }
    if exists:
        try:
            device = _cut(found, geometry.central, geometry, target)
        except decode.UnreadableImageError:
            readable = False
    host = {"record": np.int64(record), "readable": np.bool_(readable)}
    return {"device": device, "host": host}


def eval_batches(
    source: Source,
    geometry: Geometry,
    *,
    batch_size: int,
    target: Target = CLASS,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.MapDataset:
    """Lay out the batches of an evaluation: each record once, the last batch padded and masked.

    Args:
      source: the records.
      geometry: how to crop.
      batch_size: size of the global batch, which the processes share.
      target: how the target of a crop is made.
      process_index: number of this process.
      process_count: number of processes.
    """
    batches = -(-len(source) // batch_size)
    return (
        grain.MapDataset.range(batches * batch_size)
        .map(functools.partial(load_eval, source, geometry, target=target))[
            process_index::process_count
        ]
        .batch(batch_size // process_count)
    )


def iter_from(
    batches: grain.MapDataset, step: int, *, threads: int, workers: int = 0
) -> Iterator[NumpyBatch]:
    """Iterate over the batches from number `step` on.

    Args:
      batches: see `train_batches` and `eval_batches`.
      step: number of the first batch.
      threads: number of decoding threads in this process, or in each worker.
      workers: number of worker processes; 0: none. Threads hold Python's lock for about a tenth of
        their work, so processes pay off from about ten cores. Killed workers are replaced.

    Raises:
      UserError: while iterating, if the workers keep being killed.
    """
    # Each element is a whole batch, so the buffer must be small; grain's default is 500.
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 2)

    def open_stream(first: int) -> grain.IterDataset:
        stream = batches[first:].to_iter_dataset(options)
        if workers:
            # Grain's workers read absl flags, which are not parsed in a notebook or a test.
            flags.FLAGS.mark_as_parsed()
            processes = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
            stream = stream.mp_prefetch(processes, worker_init_fn=_exit_with_parent)
        return stream

    failed_starts = 0
    while True:
        try:
            for batch in open_stream(step):
                yield batch
                step, failed_starts = step + 1, 0
            return
        except RuntimeError as error:
            if "Worker process was terminated" not in str(error):
                raise
            failed_starts += 1
            if failed_starts == MAX_FRUITLESS_STARTS:
                raise UserError(
                    f"input workers keep being killed ({error}), probably because memory runs "
                    "out; reduce input.workers or input.threads"
                ) from None
            _LOG.warning("an input worker was killed; restarting the workers at batch %d", step)


def _exit_with_parent(_: int, __: int) -> None:
    """Make a worker ignore signals to its process group, and exit when its parent does."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def wait_for_parent() -> None:
        if parent is not None:
            parent.join()
            os._exit(0)

    threading.Thread(target=wait_for_parent, daemon=True).start()
