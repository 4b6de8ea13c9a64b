"""VGG section 3.1: A trains from a Gaussian of std 0.01, a deep net does not; A's layers help.

    python -m experiments.initialization --workdir=runs/initialization --seeds=3

A proxy for two cores: nets an eighth as wide, 48-pixel crops of the embedded data. The initial
deviations are raised so that every layer has the gain of the full-width net (`model.keep_gain`):
the signal fades from layer to layer as in the real nets. Each condition is one run of the usual
loop per seed; a run that is complete is not repeated. Those that start from the Gaussian alone are
given longer, because they spend most of it on the first plateau.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from configs import vgg_a, vgg_e
from deepconv import command_line, recipe, reporting
from deepconv.training import loop

# label, config, initializer, condition whose best parameters it starts from, epochs
CONDITIONS = (
    ("A, Gaussian", vgg_a, "paper", None, 90.0),
    ("E, from A", vgg_e, "paper", "A, Gaussian", 30.0),
    ("E, Glorot", vgg_e, "glorot", None, 30.0),
    ("E, Gaussian", vgg_e, "paper", None, 60.0),
)


def config_of(
    module: Any, initializer: str, source: str | None, epochs: float, seed: int
) -> ConfigDict:
    """Return the config of one run."""
    (stage,) = recipe.stages(vgg_a.get_config("256,tiny"))
    config = stage.config
    config.model.name = module.__name__.rpartition(".")[2]
    config.model.width = 1 / 8
    config.model.initializer = initializer
    with config.unlocked():
        config.model.keep_gain = True
    config.init.layers = recipe.FROM_A if source else recipe.EVERYTHING
    config.train.epochs = epochs
    # A net that fades needs its time; the rate must not fall before it has begun to learn.
    config.plateau.patience = 1000
    config.seed = seed
    return config


def folder_name(label: str, seed: int) -> str:
    """Return the name of a run's folder."""
    return f"{label.lower().replace(', ', '_').replace(' ', '_')}_seed{seed}"


def main(_: Sequence[str]) -> None:
    """Run what is missing, then write the table and the figure."""
    root = Path(WORKDIR.value).absolute()
    curves: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    results: dict[str, list[dict[str, Any]]] = {}
    # Seed by seed, so that all conditions can be compared before the last seed is done.
    for seed, (label, module, initializer, source, epochs) in itertools.product(
        range(SEEDS.value), CONDITIONS
    ):
        run = root / folder_name(label, seed)
        start = root / folder_name(source, seed) if source else None
        result = loop.train(config_of(module, initializer, source, epochs, seed), run, start)
        results.setdefault(label, []).append(result)
        curves.setdefault(label, []).append(_evaluations(run))
    rows = [_row(label, results[label], curves[label]) for label, *_ in CONDITIONS]
    columns = ("condition", "top-1 error %, mean", "each seed", "epochs to 50 % error")
    table = reporting.table(columns, rows)
    (root / "table.txt").write_text(table + "\n")
    _draw(curves, root / "initialization.png")
    print(table, f"\n{root / 'initialization.png'}", sep="\n")


def _evaluations(run: Path) -> tuple[np.ndarray, np.ndarray]:
    rows = [r for r in reporting.read_metrics(run / "metrics.jsonl") if r["kind"] == "eval"]
    return np.array([r["epoch"] for r in rows]), np.array([r["top1_error"] for r in rows])


def _row(label: str, results: list[dict], curves: list[tuple[np.ndarray, np.ndarray]]) -> tuple:
    errors = [100 * result["last"]["top1_error"] for result in results]
    reached = [epochs[error <= 0.5] for epochs, error in curves]
    return (
        label,
        float(np.mean(errors)),
        " ".join(f"{error:.1f}" for error in errors),
        " ".join(f"{epochs[0]:.0f}" if len(epochs) else "never" for epochs in reached),
    )


def _draw(curves: dict[str, list[tuple[np.ndarray, np.ndarray]]], path: Path) -> None:
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for number, (label, runs) in enumerate(curves.items()):
        for index, (epochs, errors) in enumerate(runs):
            axes.plot(epochs, 100 * errors, f"C{number}", label=None if index else label, lw=1.5)
    axes.set(xlabel="epoch", ylabel="top-1 error on held-out images, %", ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    WORKDIR = flags.DEFINE_string("workdir", "runs/initialization", "Folder of all the runs.")
    SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds.", lower_bound=1)
    command_line.run(main)
