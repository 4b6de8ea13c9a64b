"""Rewrite a prepared data set with smaller images, which are read and decoded faster.

    deepconv data resize --name=imagenet2012 --shorter=512
    deepconv data resize --name=imagenet2012 --shorter=256 --measure=200

The first writes `imagenet2012_s512`, with the shorter side of every image at most 512 pixels; the
second writes no images and prints how such a set would change the pixels that training sees.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from absl import flags

from deepconv import atomic
from deepconv.commands import command_line
from deepconv.data.pipeline import Source
from deepconv.data.prepare import resize
from deepconv.data.sources import datasets
from deepconv.exceptions import UserError

REQUIRED = ("name",)
INTERRUPTED = "interrupted; run the same command to write the missing shards"

# Scales of the measured crops: VGG's range, and AlexNet's single one.
_SCALES = ((256, 512), (256, 256))


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    flags.DEFINE_string("name", None, "Name of the prepared data set.", flag_values=values)
    flags.DEFINE_integer(
        "shorter", 512, "Maximum of the shorter side, in pixels.", 1, flag_values=values
    )
    flags.DEFINE_integer(
        "quality", resize.DEFAULT_QUALITY, "JPEG quality.", 1, 100, flag_values=values
    )
    flags.DEFINE_integer(
        "measure",
        0,
        "Write no data set, but compare the crops of this many training images.",
        0,
        flag_values=values,
    )
    command_line.define_data_dir(values)
    command_line.define_json(values, "what --measure finds")


def main(options: flags.FlagValues, _: Sequence[str]) -> None:
    """Write the smaller set, or measure how it would change the pixels."""
    path = command_line.output_file(options, "json", ".json")
    if path and not options.measure:
        raise UserError(f"--json={path} needs --measure=N: nothing else is measured")
    name, shorter, quality = options.name, options.shorter, options.quality
    folder = datasets.require_prepared(name, options.data_dir)
    if options.measure:
        dataset = datasets.open_dataset(
            name, data_dir=options.data_dir, train_split="train", eval_split="train"
        )
        images = list(_sampled(dataset.train, options.measure))
        found = [
            resize.measure(images, scale, shorter=shorter, quality=quality) for scale in _SCALES
        ]
        print(*found, sep="\n")
        if path:
            settings = {"name": name, "shorter": shorter, "quality": quality}
            atomic.write_json(path, {**settings, "crops": [each._asdict() for each in found]})
        return
    target = f"{name.replace('/', '_')}_s{shorter}"
    target_folder = datasets.root(options.data_dir).absolute() / target / folder.name
    resize.write_resized(folder, target_folder, shorter=shorter, quality=quality)
    print(f"{target} is ready: {target_folder}")


def _sampled(source: Source, count: int) -> Iterator[bytes]:
    """Yield images that are evenly spaced over a split."""
    for record in np.linspace(0, len(source) - 1, min(count, len(source)), dtype=int):
        yield source[int(record)]["image"]
