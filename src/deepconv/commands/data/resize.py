"""Rewrite a prepared data set with smaller images, which are read and decoded faster.

    deepconv data resize --name=imagenet2012 --shorter=512
    deepconv data resize --name=imagenet2012 --shorter=256 --measure=200

The first writes `imagenet2012_s512`, with the shorter side of every image at most 512 pixels; the
second writes nothing and says what such a set would do to the pixels that training sees.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from absl import flags

from deepconv.commands import command_line
from deepconv.data.pipeline import Source
from deepconv.data.prepare import resize
from deepconv.data.sources import datasets

REQUIRED = ("name",)
INTERRUPTED = "interrupted; the shards that are complete are kept"

# What the measured crops are cut from: VGG's range of scales, and AlexNet's one scale.
_SCALES = ((256, 512), (256, 256))


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    flags.DEFINE_string("name", None, "The data set, prepared.", flag_values=values)
    flags.DEFINE_integer(
        "shorter", 512, "The shorter side at most, in pixels.", 1, flag_values=values
    )
    flags.DEFINE_integer(
        "quality", resize.DEFAULT_QUALITY, "Of the JPEGs.", 1, 100, flag_values=values
    )
    flags.DEFINE_integer(
        "measure",
        0,
        "Write nothing; compare the crops of so many images of the training set.",
        0,
        flag_values=values,
    )
    command_line.define_data_dir(values)


def main(options: flags.FlagValues, _: Sequence[str]) -> None:
    """Write the smaller set, or measure what it would do."""
    name, shorter, quality = options.name, options.shorter, options.quality
    folder = datasets.require_prepared(name, options.data_dir)
    if options.measure:
        dataset = datasets.open_dataset(
            name, data_dir=options.data_dir, train_split="train", eval_split="train"
        )
        images = list(_sampled(dataset.train, options.measure))
        for scale in _SCALES:
            print(resize.measure(images, scale, shorter=shorter, quality=quality))
        return
    target = f"{name.replace('/', '_')}_s{shorter}"
    target_folder = datasets.root(options.data_dir).absolute() / target / folder.name
    resize.write_resized(folder, target_folder, shorter=shorter, quality=quality)
    print(f"{target} is ready: {target_folder}")


def _sampled(source: Source, count: int) -> Iterator[bytes]:
    """Yield images evenly spread over a split."""
    for record in np.linspace(0, len(source) - 1, min(count, len(source)), dtype=int):
        yield source[int(record)]["image"]
