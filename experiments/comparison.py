"""Compare configs: train each once per seed, and gather the results into tables.

    folders = run(conditions, Path("runs/experiment"), seeds=3)
    top1 = last_errors(folders["A, Gaussian"])

Each run has a folder named after its condition and its seed. A complete run is not repeated, and an
interrupted one is resumed.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from deepconv import tables
from deepconv.run import log
from deepconv.run.files import RunFolder
from deepconv.training import loop


class Condition(NamedTuple):
    """One of the configs that are compared.

    Attributes:
      label: its name in tables and figures; its folders are named after it.
      config: of its runs; each run has its own seed.
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
        """Return the first epoch whose error is at most this; None if there is none."""
        there = self.epochs[self.errors <= error]
        return float(there[0]) if len(there) else None


def run(conditions: Sequence[Condition], root: Path, seeds: int) -> dict[str, list[Path]]:
    """Run what is missing, and return each condition's folders by label, one per seed."""
    folders: dict[str, list[Path]] = {condition.label: [] for condition in conditions}
    for seed in range(seeds):
        for label, config, source in conditions:
            config = copy.deepcopy(config)
            config.seed = seed
            folder = run_folder(root.absolute(), label, seed)
            start = run_folder(root.absolute(), source, seed) if source else None
            loop.train(config, folder, start)
            folders[label].append(folder)
    return folders


def run_folder(root: Path, label: str, seed: int) -> Path:
    """Return the folder of a condition's run."""
    return root / f"{slug(label)}_seed{seed}"


def slug(label: str) -> str:
    """Return a label as a part of a file's name."""
    return "_".join("".join(c if c.isalnum() or c == "." else " " for c in label.lower()).split())


def last_errors(folders: Sequence[Path], key: str = "top1_error") -> list[float]:
    """Return every run's error at its last step, in percent."""
    results = [json.loads(RunFolder(folder).result.read_text()) for folder in folders]
    return [100 * result["last"][key] for result in results]


def running_training_errors(folder: Path, *, epochs: float = 1.0) -> Curve:
    """Return the mean error of the training batches of the last `epochs`, each before its update.

    The curve begins after that many epochs.
    """
    rows = [r for r in log.read_metrics(RunFolder(folder).metrics) if r["kind"] == "train"]
    curve = Curve(np.array([r["epoch"] for r in rows]), np.array([r["top1_error"] for r in rows]))
    since = np.searchsorted(curve.epochs, curve.epochs - epochs + 1e-6)
    total = np.concatenate([[0.0], np.cumsum(curve.errors)])
    number = np.arange(1, len(curve.epochs) + 1)
    means = (total[number] - total[since]) / (number - since)
    whole = curve.epochs >= epochs - 1e-6
    return Curve(curve.epochs[whole], means[whole])


def each(values: Sequence[float | None], decimals: int = 1) -> str:
    """Return one table cell with the value of each seed."""
    return " ".join("never" if value is None else f"{value:.{decimals}f}" for value in values)


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean over seeds, and how far its 95 % interval of Student's t reaches each way.

    One seed has no interval: None.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None
    return mean, float(scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values))


def difference(seeds: Sequence[Mapping[str, float]], one: str, other: str) -> str:
    """Return the mean paired difference of two conditions over seeds, with its interval."""
    mean, reach = interval([seed[one] - seed[other] for seed in seeds])
    return f"{one} - {other}: {mean:+.1f}" + ("" if reach is None else f" ± {reach:.1f}")


def write_table(
    root: Path,
    name: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    figure: Figure | None = None,
    *,
    note: str = "",
    decimals: int = 1,
) -> None:
    """Write and print `<name>.txt`; write `<name>.png` if there is a figure, and print its path."""
    table = tables.table(columns, rows, decimals=decimals)
    text = f"{table}\n\n{note}" if note else table
    (root / f"{name}.txt").write_text(text + "\n")
    print(text)
    if figure is not None:
        figure.savefig(root / f"{name}.png", dpi=120)
        print(root.absolute() / f"{name}.png")
