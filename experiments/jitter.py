"""VGG Table 3: nets trained at scales S in [256, 512] beat those trained at S = 384.

    python -m experiments.jitter --workdir=runs/jitter --seeds=3

A proxy for two cores: net A an eighth as wide, 48-pixel crops of the embedded data, the paper's
scales in proportion (256 pixels are 56 here). Both kinds of net start from random weights and are
trained equally long, where the paper trains the jittered nets on from those of S = 384. They are
evaluated densely over a range of test scales Q, and over three of them together. A run that is
complete is not repeated.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from configs import vgg_a
from deepconv import command_line, recipe, reporting
from deepconv.evaluate import Plan, evaluate
from deepconv.training import loop

TRAINED = {"S = 84": (84, 84), "S in [56, 112]": (56, 112)}
TESTED = (56, 70, 84, 98, 112)
TOGETHER = (56, 84, 112)


def train(root: Path, network: str, trained: str, seed: int) -> Path:
    """Train a narrow net at scales in `TRAINED`, unless that is done; return its folder."""
    (stage,) = recipe.stages(vgg_a.get_config("256,tiny"))
    config = stage.config
    config.model.name = network
    config.model.width = 1 / 8
    config.input.scale = TRAINED[trained]
    config.evaluation.scale = 84
    config.evaluation.every_epochs = 2.0
    config.train.epochs = 40.0
    config.plateau.drop_epochs = (28.0, 36.0)
    config.seed = seed
    low, high = TRAINED[trained]
    run = root / f"{network}_{low if low == high else 'jitter'}_seed{seed}"
    loop.train(config, run)
    return run


def main(_: Sequence[str]) -> None:
    """Train what is missing, evaluate, then write the table and the figure."""
    root = Path(WORKDIR.value).absolute()
    plans = [*((scale,) for scale in TESTED), TOGETHER]
    # [condition][seed][test scale], percent
    errors = {
        trained: [
            [100 * evaluate([run], Plan("dense", scales))["top1_error"] for scales in plans]
            for seed in range(SEEDS.value)
            for run in [train(root, "vgg_a", trained, seed)]
        ]
        for trained in TRAINED
    }
    rows = [
        (trained, *np.mean(by_seed, axis=0).tolist(), _each(by_seed))
        for trained, by_seed in errors.items()
    ]
    columns = [*(f"Q={scale}" for scale in TESTED), f"Q={','.join(map(str, TOGETHER))}"]
    table = reporting.table(("trained at", *columns, "mean over Q, each seed"), rows, decimals=2)
    (root / "table.txt").write_text(table + "\n")
    _draw(errors, root / "jitter.png")
    print(table, f"\n{root / 'jitter.png'}", sep="\n")


def _each(by_seed: list[list[float]]) -> str:
    return " ".join(f"{np.mean(errors[: len(TESTED)]):.2f}" for errors in by_seed)


def _draw(errors: dict[str, list[list[float]]], path: Path) -> None:
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for number, (trained, by_seed) in enumerate(errors.items()):
        single = np.array(by_seed)[:, : len(TESTED)]
        axes.plot(TESTED, single.T, f"C{number}", lw=0.8, alpha=0.5)
        axes.plot(TESTED, single.mean(axis=0), f"C{number}o-", lw=2, label=f"trained at {trained}")
    axes.set(xlabel="test scale Q, pixels", ylabel="top-1 error, %", xticks=TESTED)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    WORKDIR = flags.DEFINE_string("workdir", "runs/jitter", "Folder of all the runs.")
    SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds.", lower_bound=1)
    command_line.run(main)
