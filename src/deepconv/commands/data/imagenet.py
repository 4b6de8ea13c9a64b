"""Prepare ImageNet from its two archives, which must be downloaded by hand.

    deepconv data imagenet --tars=/archives

After an interruption, run the same command to write the missing shards.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from deepconv.commands import command_line
from deepconv.data.prepare import imagenet
from deepconv.data.sources import datasets

REQUIRED = ("tars",)
INTERRUPTED = "interrupted; run the same command to write the missing shards"


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    flags.DEFINE_string("tars", None, "The folder of the two archives.", flag_values=values)
    command_line.define_data_dir(values)


def main(options: flags.FlagValues, _: Sequence[str]) -> None:
    """Prepare the data set, then print its folder."""
    folder = imagenet.prepare(
        Path(options.tars).expanduser().absolute(), datasets.root(options.data_dir).absolute()
    )
    print(f"{imagenet.NAME} is ready: {folder}")
