"""Add the boxes of ILSVRC's archives to a prepared data set.

    deepconv data imagenet-boxes --boxes=/archives
    deepconv data imagenet-boxes --boxes=/archives --name=imagenet2012_s512

The archives are ILSVRC2012_bbox_train_v2.tar.gz and ILSVRC2012_bbox_val_v3.tgz. All records are
read once, for the sizes of the images.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from deepconv.commands import command_line
from deepconv.data.prepare import imagenet, imagenet_boxes
from deepconv.data.sources import datasets

REQUIRED = ("boxes",)
INTERRUPTED = "interrupted; the splits that are complete are kept"


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    flags.DEFINE_string("boxes", None, "The folder of the archives.", flag_values=values)
    flags.DEFINE_string("name", imagenet.NAME, "The data set, prepared.", flag_values=values)
    command_line.define_data_dir(values)


def main(options: flags.FlagValues, _: Sequence[str]) -> None:
    """Write the boxes beside the data set, and say how many there are."""
    directory = datasets.require_prepared(options.name, options.data_dir)
    for line in imagenet_boxes.add(Path(options.boxes).expanduser().absolute(), directory):
        print(line)
