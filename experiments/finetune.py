"""Fine-tune a net from drawn images on photographs, and compare with training from scratch.

    python -m experiments.finetune --photos=/data/flowers --workdir=runs/finetune --seeds=3

The quickstart's net is trained once (seed 0), then for ten epochs on a folder of pictures. The
seeds determine fc8, the order and the crops. The conditions differ in which layers train, and how
fast.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from configs import finetune, quickstart
from deepconv.commands import command_line
from deepconv.config.recipe import ALL_BUT_FC8
from deepconv.data.sources import folder
from experiments import comparison
from experiments.comparison import Condition

EPOCHS = 10.0


def from_scratch(photos: str) -> ConfigDict:
    """Return the quickstart's config for a folder of pictures."""
    config = quickstart.get_config()
    config.dataset.name = f"folder:{photos}"
    config.optimizer.learning_rate = finetune.get_config("tiny").optimizer.learning_rate
    config.train.epochs = EPOCHS
    return config


def all_alike(photos: str, source: Path) -> ConfigDict:
    """Return the same config, starting from all of another run's layers except fc8."""
    config = from_scratch(photos)
    config.init.checkpoint, config.init.layers = str(source), ALL_BUT_FC8
    config.input.color = "inherited"
    return config


def fine_tuned(photos: str, source: Path, layers: str) -> ConfigDict:
    """Return the config of `configs/finetune.py:tiny` with other trained layers."""
    config = finetune.get_config("tiny")
    config.dataset.name = f"folder:{photos}"
    config.train.epochs = EPOCHS
    config.init.checkpoint = str(source)
    config.optimizer.trained_layers = layers
    return config


def main(_: Sequence[str]) -> None:
    """Run what is missing, then write the table and the figure."""
    root, photos = Path(WORKDIR.value), str(PHOTOS.value)
    folder.open_folder(photos)  # fails on an unusable folder before anything trains
    drawn = comparison.run([Condition("drawn images", quickstart.get_config())], root, 1)
    (source,) = drawn["drawn images"]
    usual = finetune.get_config("tiny").optimizer.trained_layers
    folders = comparison.run(
        (
            Condition("photographs alone", from_scratch(photos)),
            Condition("all layers alike", all_alike(photos, source)),
            Condition("fine-tuned, all layers", fine_tuned(photos, source, ".*")),
            Condition("fine-tuned, conv4 to fc8", fine_tuned(photos, source, usual)),
            Condition("fine-tuned, fc8", fine_tuned(photos, source, "fc8")),
        ),
        root,
        SEEDS.value,
    )
    comparison.compare(root, "finetune", folders)


if __name__ == "__main__":
    PHOTOS = flags.DEFINE_string(
        "photos", None, "Folder of pictures, with a subfolder for each class.", required=True
    )
    WORKDIR = flags.DEFINE_string("workdir", "runs/finetune", "Folder of all the runs.")
    SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds.", lower_bound=1)
    command_line.run(main)
