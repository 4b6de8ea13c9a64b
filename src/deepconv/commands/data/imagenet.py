"""Prepare ImageNet from its two archives, which have to be fetched by hand.

    deepconv data imagenet --tars=/archives

Interrupted, the same command resumes with the shards that are missing.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from deepconv.commands import command_line
from deepconv.data.prepare import imagenet
from deepconv.data.sources import datasets

REQUIRED = ("tars",)
INTERRUPTED = "interrupted; the shards that are complete are kept"


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    flags.DEFINE_string("tars", None, "The folder of its archives.", flag_values=values)
    command_line.define_data_dir(values)


def main(options: flags.FlagValues, _: Sequence[str]) -> None:
    """Prepare the data set, then say where it lies."""
    folder = imagenet.prepare(
        Path(options.tars).expanduser().absolute(), datasets.root(options.data_dir).absolute()
    )
    print(f"{imagenet.NAME} is ready: {folder}")
