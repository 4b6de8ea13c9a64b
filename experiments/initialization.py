"""VGG section 3.1: A trains from a Gaussian of std 0.01, a deep net does not; A's layers help.

    python -m experiments.initialization --workdir=runs/initialization --seeds=3

A proxy for two cores: nets an eighth as wide, 48-pixel crops of the embedded data. The initial
deviations are raised so that every layer has the gain of the full-width net (`model.keep_gain`):
the signal fades from layer to layer as in the real nets. The conditions that start from the
Gaussian alone train longer, because they spend most of that time on the first plateau.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from configs import vgg_a
from deepconv.commands import command_line
from deepconv.config import recipe
from experiments import comparison
from experiments.comparison import Condition


def config_of(
    network: str, initializer: str, epochs: float, layers: str = recipe.EVERYTHING
) -> ConfigDict:
    """Return the config of one condition."""
    (stage,) = recipe.stages(vgg_a.get_config("256,tiny"))
    config = stage.config
    config.model.name = network
    config.model.width = 1 / 8
    config.model.initializer = initializer
    with config.unlocked():
        config.model.keep_gain = True
    config.init.layers = layers
    config.optimizer.learning_rate = 0.01  # the paper's
    config.train.epochs = epochs
    # The rate must not drop before a net whose signal fades has begun to learn.
    config.plateau.patience = 1000
    return config


def main(_: Sequence[str]) -> None:
    """Run what is missing, then write the table and the figure."""
    root = Path(WORKDIR.value)
    from_a = config_of("vgg_e", "paper", 60.0, recipe.FROM_A)
    folders = comparison.run(
        (
            Condition("A, Gaussian", config_of("vgg_a", "paper", 90.0)),
            Condition("E, from A", from_a, source="A, Gaussian"),
            Condition("E, Glorot", config_of("vgg_e", "glorot", 30.0)),
            Condition("E, Gaussian", config_of("vgg_e", "paper", 60.0)),
        ),
        root,
        SEEDS.value,
    )
    comparison.compare(root, "initialization", folders)


if __name__ == "__main__":
    WORKDIR = flags.DEFINE_string("workdir", "runs/initialization", "Folder of all the runs.")
    SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds.", lower_bound=1)
    command_line.run(main)
