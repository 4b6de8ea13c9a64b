"""VGG Table 3: nets trained at scales S in [256, 512] beat those trained at S = 384.

    python -m experiments.jitter --workdir=runs/jitter --seeds=3

A proxy for two cores: net A an eighth as wide, 48-pixel crops of the embedded data, the paper's
scales in proportion (256 pixels are 56 here). Both kinds of net start from random weights and are
trained equally long, whereas the paper starts the jittered nets from those of S = 384. They are
evaluated densely over a range of test scales Q, and over three of them together.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from configs import vgg_a
from deepconv.commands import command_line
from deepconv.config import recipe
from deepconv.inference.evaluate import Request, evaluate
from experiments import comparison
from experiments.comparison import Condition

FIXED, JITTER = (84, 84), (56, 112)
TESTED = (56, 70, 84, 98, 112)
TOGETHER = (56, 84, 112)


def config_of(network: str, scale: tuple[int, int]) -> ConfigDict:
    """Return the config of a narrow net trained with S in this range, inclusive."""
    (stage,) = recipe.stages(vgg_a.get_config("256,tiny"))
    config = stage.config
    config.model.name = network
    config.model.width = 1 / 8
    config.input.scale = scale
    config.evaluation.scale = FIXED[0]
    config.evaluation.every_epochs = 2.0
    config.optimizer.learning_rate = 0.01  # the paper's
    config.train.epochs = 30.0
    config.schedule.name = "steps"
    config.schedule.drop_epochs = (22.0, 27.0)
    return config


def main(_: Sequence[str]) -> None:
    """Run what is missing, evaluate, then write the table and the figure."""
    root = Path(WORKDIR.value)
    folders = comparison.run(
        (
            Condition("A, S = 84", config_of("vgg_a", FIXED)),
            Condition("A, S in 56 to 112", config_of("vgg_a", JITTER)),
        ),
        root,
        SEEDS.value,
    )
    plans = [*((scale,) for scale in TESTED), TOGETHER]
    # Percent, by seed and test scale.
    errors = {
        label: np.array(
            [
                [100 * evaluate([run], Request("dense", scales))["top1_error"] for scales in plans]
                for run in runs
            ]
        )
        for label, runs in folders.items()
    }
    rows = [
        (label, *of.mean(axis=0).tolist(), comparison.each(of[:, : len(TESTED)].mean(axis=1), 2))
        for label, of in errors.items()
    ]
    columns = [*(f"Q={scale}" for scale in TESTED), f"Q={','.join(map(str, TOGETHER))}"]
    comparison.write_table(
        root,
        "jitter",
        ("trained at", *columns, "mean of single Q, each seed"),
        rows,
        _draw(errors),
        decimals=2,
    )


def _draw(errors: dict[str, np.ndarray]) -> Figure:
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for number, (label, of) in enumerate(errors.items()):
        single = of[:, : len(TESTED)]
        axes.plot(TESTED, single.T, f"C{number}", lw=0.8, alpha=0.5)
        axes.plot(TESTED, single.mean(axis=0), f"C{number}o-", lw=2, label=label)
    axes.set(xlabel="test scale Q, pixels", ylabel="top-1 error, %", xticks=TESTED)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


if __name__ == "__main__":
    WORKDIR = flags.DEFINE_string("workdir", "runs/jitter", "Folder of all the runs.")
    SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds.", lower_bound=1)
    command_line.run(main)
