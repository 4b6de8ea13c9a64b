"""What the experiments share: conditions, each run once per seed, gathered into tables and curves.

    folders = run(conditions, Path("runs/experiment"), seeds=3)
    top1 = last_errors(folders["A, Gaussian"])

Each run is one of the usual loop, in a folder named after its condition and its seed; one that is
complete is not repeated, and one that was interrupted goes on.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from deepconv import tables
from deepconv.run import log
from deepconv.training import loop


class Condition(NamedTuple):
    """What is compared with the others.

    Attributes:
      label: for people; the folders are named after it.
      config: of its runs, but for the seed.
      source: label of the condition whose best parameters, of the same seed, it starts from.
    """

    label: str
    config: ConfigDict
    source: str | None = None


class Curve(NamedTuple):
    """An error over time.

    Attributes:
      epochs: `[n]`.
      errors: `[n]`, fractions.
    """

    epochs: np.ndarray
    errors: np.ndarray

    def reaches(self, error: float) -> float | None:
        """Return the first epoch at which the error is no more than this; None: it never is."""
        there = self.epochs[self.errors <= error]
        return float(there[0]) if len(there) else None


def run(conditions: Sequence[Condition], root: Path, seeds: int) -> dict[str, list[Path]]:
    """Run what is missing of every condition, and return the folders by label, one per seed."""
    folders: dict[str, list[Path]] = {condition.label: [] for condition in conditions}
    for seed in range(seeds):
        for label, config, source in conditions:
            config = copy.deepcopy(config)
            config.seed = seed
            folder = root.absolute() / _folder_name(label, seed)
            start = root.absolute() / _folder_name(source, seed) if source else None
            loop.train(config, folder, start)
            folders[label].append(folder)
    return folders


def _folder_name(label: str, seed: int) -> str:
    words = "".join(c if c.isalnum() or c == "." else " " for c in label.lower()).split()
    return "_".join([*words, f"seed{seed}"])


def results(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the `result.json` of every run."""
    return [json.loads((folder / "result.json").read_text()) for folder in folders]


def last_errors(folders: Sequence[Path], key: str = "top1_error") -> list[float]:
    """Return every run's error at its last step, in percent."""
    return [100 * result["last"][key] for result in results(folders)]


def evaluations(folder: Path) -> Curve:
    """Return the top-1 error on held-out images at every evaluation of a run."""
    return _curve(folder, "eval")


def running_training_errors(folder: Path, *, epochs: float = 1.0) -> Curve:
    """Return the mean error of the training batches of the last `epochs`, each before its update.

    The curve begins where so many epochs are over.
    """
    curve = _curve(folder, "train")
    since = np.searchsorted(curve.epochs, curve.epochs - epochs + 1e-6)
    total = np.concatenate([[0.0], np.cumsum(curve.errors)])
    number = np.arange(1, len(curve.epochs) + 1)
    means = (total[number] - total[since]) / (number - since)
    whole = curve.epochs >= epochs - 1e-6
    return Curve(curve.epochs[whole], means[whole])


def _curve(folder: Path, kind: str) -> Curve:
    rows = [r for r in log.read_metrics(folder / "metrics.jsonl") if r["kind"] == kind]
    return Curve(np.array([r["epoch"] for r in rows]), np.array([r["top1_error"] for r in rows]))


def each(values: Sequence[float | None], decimals: int = 1) -> str:
    """Return the values of the seeds in one cell of a table."""
    return " ".join("never" if value is None else f"{value:.{decimals}f}" for value in values)


def compare(root: Path, name: str, folders: Mapping[str, Sequence[Path]]) -> None:
    """Tabulate the errors of each condition and draw them over the epochs."""
    curves = {label: list(map(evaluations, runs)) for label, runs in folders.items()}
    rows = []
    for label, runs in folders.items():
        errors = last_errors(runs)
        reached = [curve.reaches(0.5) for curve in curves[label]]
        rows.append((label, float(np.mean(errors)), each(errors), each(reached, 0)))
    columns = ("condition", "top-1 error %, mean", "each seed", "epochs to 50 % error")
    report(root, name, columns, rows, draw(curves, ylabel="top-1 error on held-out images, %"))


def report(
    root: Path,
    name: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    figure: Figure | None = None,
    *,
    note: str = "",
    decimals: int = 1,
) -> None:
    """Write `<name>.txt`, and `<name>.png` where there is a figure, and say what and where."""
    table = tables.table(columns, rows, decimals=decimals)
    text = f"{table}\n\n{note}" if note else table
    (root / f"{name}.txt").write_text(text + "\n")
    print(text)
    if figure is not None:
        figure.savefig(root / f"{name}.png", dpi=120)
        print(root.absolute() / f"{name}.png")


def draw(curves: Mapping[str, Sequence[Curve]], *, ylabel: str, top: float = 100.0) -> Figure:
    """Draw the curves of each condition in its color, a line per seed."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for number, (label, runs) in enumerate(curves.items()):
        for index, (epochs, errors) in enumerate(runs):
            name = None if index else label
            axes.plot(epochs, 100 * errors, color=f"C{number}", label=name, lw=1.5)
    axes.set(xlabel="epoch", ylabel=ylabel, ylim=(0, top))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
