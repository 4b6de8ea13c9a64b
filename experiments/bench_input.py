"""Time how images become batches: our pipeline, two others, and decoding alone, on the same files.

    python -m experiments.bench_input --images=DIR [--rounds=5] [--json=FILE]

All use VGG's training geometry: S uniform in [256, 512], a random 224 crop. The contenders take
turns in each round, so that noise on the machine affects them alike. The figures are images per
second of CPU time (of all threads and worker processes) and its ratio to ours within a round. Needs
the extra `bench`.
"""

import functools
import io
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import simplejpeg
from absl import flags

from deepconv import atomic, tables
from deepconv.commands import command_line
from deepconv.data import pipeline
from deepconv.exceptions import UserError

CROP, SCALE, BATCH = 224, (256, 512), 32
GEOMETRY = pipeline.Geometry(CROP, SCALE)


# Shuffling few records costs more per record than shuffling many, so each file is repeated.
REPEATS = 10_000


class Files:
    """Images in memory as a source of records, so that reading the disk is not timed."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.data = [path.read_bytes() for path in paths]

    def __len__(self) -> int:
        return REPEATS * len(self.data)

    def __getitem__(self, record: int) -> dict[str, Any]:
        return {"image": self.data[record % len(self.data)], "label": 0}


def ours(files: Files, count: int, threads: int) -> None:
    """Run our pipeline."""
    batches = pipeline.train_batches(files, GEOMETRY, batch_size=BATCH, seed=0)
    iterator = pipeline.iter_from(batches, 0, threads=threads)
    for _ in range(count // BATCH):
        next(iterator)


def decode_alone(files: Files, count: int) -> None:
    """Only decode whole images, with libjpeg-turbo: a lower bound."""
    for number in range(count):
        simplejpeg.decode_jpeg(files.data[number % len(files.data)])


def pillow(files: Files, count: int) -> None:
    """Decode, rescale and crop with Pillow, in one thread."""
    rng = np.random.default_rng(0)
    for number in range(count):
        _pillow_crop(files.data[number % len(files.data)], rng)


def _pillow_crop(data: bytes, rng: np.random.Generator) -> np.ndarray:
    image = PIL.Image.open(io.BytesIO(data)).convert("RGB")
    crop = GEOMETRY.random(image.height, image.width, rng)
    image = image.resize((crop.width, crop.height), PIL.Image.Resampling.BILINEAR)
    box = (crop.left, crop.top, crop.left + CROP, crop.top + CROP)
    return np.asarray(image.crop(box))


class _TorchFiles:
    def __init__(self, files: Files, count: int) -> None:
        self.files, self.count = files, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> np.ndarray:
        rng = np.random.default_rng(number)
        return _pillow_crop(self.files.data[number % len(self.files.data)], rng)


def torch_loader(files: Files, count: int, workers: int) -> None:
    """Run a PyTorch DataLoader of Pillow crops in worker processes."""
    import torch.utils.data

    loader = torch.utils.data.DataLoader(
        _TorchFiles(files, count), batch_size=BATCH, num_workers=workers, drop_last=True
    )
    for _ in loader:
        pass


def tf_data(files: Files, count: int, threads: int) -> None:
    """Run a tf.data pipeline in the manner of Flax's ImageNet example: decode_and_crop, bicubic."""
    import tensorflow as tf

    def load(number: Any) -> Any:
        data = tf.gather(contents, number)
        shape = tf.cast(tf.image.extract_jpeg_shape(data)[:2], tf.float32)
        shorter = tf.random.uniform([], SCALE[0], SCALE[1] + 1, tf.int32)
        window = CROP * tf.reduce_min(shape) / tf.cast(shorter, tf.float32)
        size = tf.cast(tf.minimum(tf.round(window), tf.reduce_min(shape)), tf.int32)
        spare = tf.cast(shape, tf.int32) - size + 1
        top = tf.random.uniform([], 0, spare[0], tf.int32)
        left = tf.random.uniform([], 0, spare[1], tf.int32)
        image = tf.io.decode_and_crop_jpeg(data, [top, left, size, size], channels=3)
        image = tf.image.resize([image], [CROP, CROP], method="bicubic")[0]
        image = tf.image.random_flip_left_right(tf.reshape(image, [CROP, CROP, 3]))
        return (image - MEAN) / STD

    contents = tf.constant(files.data)
    stream = tf.data.Dataset.range(len(files.data)).repeat().shuffle(len(files.data)).take(count)
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    batches = stream.map(load, num_parallel_calls=threads).batch(BATCH, drop_remainder=True)
    for _ in batches.with_options(options).prefetch(2):
        pass


MEAN = np.array([123.68, 116.78, 103.94], np.float32)
STD = np.array([58.39, 57.12, 57.38], np.float32)


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main(_: Sequence[str]) -> None:
    """Time all pipelines in turn, and print medians and the spread of the ratios."""
    paths = sorted(
        path for path in Path(str(IMAGES.value)).rglob("*") if path.suffix.lower() in SUFFIXES
    )
    if not paths:
        raise UserError(f"there are no JPEG files in {IMAGES.value}")
    files = Files(paths)
    cores = os.cpu_count() or 1
    contenders: dict[str, Callable[[Files, int], None]] = {
        "ours, 1 thread": functools.partial(ours, threads=1),
        f"ours, {cores} threads": functools.partial(ours, threads=cores),
        "full decode alone, libjpeg-turbo": decode_alone,
        "Pillow: decode, resize, crop": pillow,
        f"PyTorch DataLoader, Pillow, {cores} workers": functools.partial(
            torch_loader, workers=cores
        ),
        f"tf.data as in Flax's example, {cores} threads": functools.partial(tf_data, threads=cores),
    }
    count = COUNT.value // BATCH * BATCH
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(ROUNDS.value + 1):
        for name, run in contenders.items():
            wall_start, cpu_start = time.perf_counter(), cpu_seconds()
            run(files, count)
            if number:  # the first round warms up
                wall[name].append(count / (time.perf_counter() - wall_start))
                cpu[name].append(count / (cpu_seconds() - cpu_start))
    reference = np.array(cpu[next(iter(contenders))])
    rows = []
    for name in contenders:
        ratios = reference / np.array(cpu[name])
        rows.append(
            (
                name,
                float(np.median(wall[name])),
                float(np.median(cpu[name])),
                f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})",
            )
        )
    columns = ("", "images/s", "images per CPU second", "ours (1 thread) relative to this")
    size = np.mean([len(data) for data in files.data]) / 1000
    print(
        f"{len(files)} files of {size:.0f} kB on average, {ROUNDS.value} rounds of {count} images"
    )
    print(tables.table(columns, rows, decimals=0))
    if JSON.value:
        atomic.write_json(Path(JSON.value), {"images_per_second": wall, "per_cpu_second": cpu})


SUFFIXES = (".jpg", ".jpeg")

if __name__ == "__main__":
    IMAGES = flags.DEFINE_string(
        "images", None, "Folder of JPEGs, searched to any depth.", required=True
    )
    ROUNDS = flags.DEFINE_integer("rounds", 5, "Number of timed rounds.", lower_bound=1)
    COUNT = flags.DEFINE_integer(
        "count", 320, "Images per round of each pipeline.", lower_bound=BATCH
    )
    JSON = flags.DEFINE_string("json", None, "Also write every figure to this file.")
    command_line.run(main)
