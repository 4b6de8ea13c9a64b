"""AlexNet section 3.3: LRN reduces the test error on CIFAR-10 from 13 % to 11 %.

    python -m experiments.lrn --workdir=runs/lrn --seeds=3 --epochs=150

The four-layer nets of cuda-convnet's files, without and with normalization. They differ in two more
things: the net with it has 64 kernels in local3 instead of 32, and 2.5 times the weight decay in
fc10. Errors are for the center crop at the last step; the paper's nets were trained for some 500
epochs.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from configs import cifar10
from deepconv.commands import command_line
from experiments import comparison
from experiments.comparison import Condition

# label, variant of the config, the paper's test error in percent
NETS = (("without LRN", "13pct", 13.0), ("with LRN", "11pct", 11.0))


def config_of(variant: str, epochs: float) -> ConfigDict:
    """Return the config of one net, with the rate dropped twice toward the end.

    cuda-convnet's files drop it by hand after most of the training, for the last few epochs.
    """
    config = cifar10.get_config(variant)
    config.train.epochs = epochs
    config.schedule.name = "steps"
    config.schedule.drop_epochs = (0.85 * epochs, 0.95 * epochs)
    return config


def main(_: Sequence[str]) -> None:
    """Run what is missing, then write the table and the figure."""
    root = Path(WORKDIR.value)
    folders = comparison.run(
        [Condition(label, config_of(variant, EPOCHS.value)) for label, variant, _ in NETS],
        root,
        SEEDS.value,
    )
    rows = []
    for label, _, paper in NETS:
        errors = comparison.last_errors(folders[label])
        rows.append((label, float(np.mean(errors)), comparison.each(errors, 2), paper))
    curves = {label: list(map(comparison.evaluations, runs)) for label, runs in folders.items()}
    columns = ("net", "test error %, mean", "each seed", "paper")
    figure = comparison.draw(curves, ylabel="error on the test set, %", top=50.0)
    comparison.write_table(root, "lrn", columns, rows, figure, decimals=2)


if __name__ == "__main__":
    WORKDIR = flags.DEFINE_string("workdir", "runs/lrn", "Folder of all the runs.")
    SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds.", lower_bound=1)
    EPOCHS = flags.DEFINE_float("epochs", 150.0, "Epochs of every run.")
    command_line.run(main)
