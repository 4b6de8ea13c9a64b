"""Prepare a data set from files that have to be fetched by hand.

    python -m deepconv.data.prepare --name=imagenet2012 --tars=/archives

Interrupted, the same command goes on with the shards that are missing.
"""

from pathlib import Path

from absl import flags

from deepconv.commands import command_line
from deepconv.data.prepare import imagenet
from deepconv.data.sources import datasets


def main(name: str, tars: str, data_dir: str) -> None:
    """Prepare the data set, then say where it lies."""
    folder = imagenet.prepare(
        Path(tars).expanduser().absolute(), datasets.root(data_dir).absolute()
    )
    print(f"{name} is ready: {folder}")


if __name__ == "__main__":
    NAME = flags.DEFINE_enum("name", imagenet.NAME, [imagenet.NAME], "The data set.")
    TARS = flags.DEFINE_string("tars", None, "The folder of its archives.", required=True)
    DATA_DIR = flags.DEFINE_string(
        "data_dir", "", "The folder of all data sets; by default $TFDS_DATA_DIR, else tfds' own."
    )
    command_line.run(
        lambda _: main(NAME.value, TARS.value, DATA_DIR.value),
        interrupted="interrupted; the shards that are complete are kept",
    )
