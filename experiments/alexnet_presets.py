"""Compare AlexNet's presets: the paper to the letter, its released code, Caffe, and our default.

    python -m experiments.alexnet_presets --workdir=runs/alexnet_presets --seeds=3

A proxy for two cores: AlexNet a quarter as wide, 64-pixel crops of the embedded data, with the full
net's initial gain in every layer (`model.keep_gain`). The learning rate never drops, so that a
preset that stalls has enough time.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from configs import alexnet
from deepconv.commands import command_line
from experiments import comparison
from experiments.comparison import Condition


def config_of(preset: str) -> ConfigDict:
    """Return the config of one preset; "" is the default."""
    config = alexnet.get_config(f"{preset},tiny")
    config.train.epochs = EPOCHS.value
    config.schedule.name = "plateau"
    config.schedule.drop_epochs = ()
    config.plateau.patience = 1000
    return config


def main(_: Sequence[str]) -> None:
    """Run what is missing, then write the table and the figure."""
    root = Path(WORKDIR.value)
    folders = comparison.run(
        [Condition(name or "default", config_of(name)) for name in ("", *alexnet.PRESETS)],
        root,
        SEEDS.value,
    )
    comparison.compare(root, "alexnet_presets", folders)


if __name__ == "__main__":
    WORKDIR = flags.DEFINE_string("workdir", "runs/alexnet_presets", "Folder of all the runs.")
    SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds.", lower_bound=1)
    EPOCHS = flags.DEFINE_float("epochs", 28.0, "Epochs of every run.")
    command_line.run(main)
