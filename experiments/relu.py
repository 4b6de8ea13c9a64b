"""AlexNet's Figure 1: the four-layer net reaches 25 % training error faster with ReLU than tanh.

    python -m experiments.relu --workdir=runs/relu --seeds=3 --epochs=10 --tanh_epochs=40

Section 3.1 reports a factor of six on CIFAR-10, where "the learning rates for each network were
chosen independently to make training as fast as possible; no regularization of any kind was
employed". Accordingly, this is the net of `configs/cifar10.py` without flips or weight decay, on
whole 32x32 images, which leaves nothing to crop. Several learning rates are tried for each net
(seed 0, --tuning_epochs), and the one with the lowest final training error is used.

The training error is the running one, as the original code prints it: the mean over the last epoch
of each batch's error before its update. It costs nothing, and lags the error of the current
parameters by about half an epoch, for both nets alike.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from configs import cifar10
from deepconv.commands import command_line
from deepconv.exceptions import DivergenceError, UserError
from experiments import comparison
from experiments.comparison import Condition, Curve

TARGET = 0.25
SPEEDUP = 6.0  # the paper's
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
UPDATES_PER_POINT = 39  # ten points of the curve per epoch


def config_of(activation: str, rate: float, epochs: float) -> ConfigDict:
    """Return the config of one net: no regularization, one learning rate to the end."""
    config = cifar10.get_config("13pct")
    with config.unlocked():
        config.model.activation = activation
    config.model.crop = config.input.scale[0]
    config.augment.flip = False
    config.optimizer.learning_rate = rate
    config.optimizer.weight_decay = 0.0
    config.plateau.patience = 1_000_000
    config.train.epochs = epochs
    config.train.log_steps = UPDATES_PER_POINT
    config.evaluation.every_epochs = epochs  # only the training error is needed
    return config


def tuned(activation: str, root: Path, epochs: float) -> float:
    """Return the learning rate with the lowest training error after this many epochs."""
    trials = [
        Condition(f"tuning {activation} {rate:g}", config_of(activation, rate, epochs))
        for rate in RATES
    ]
    ends = {}
    for rate, trial in zip(RATES, trials, strict=True):
        with contextlib.suppress(DivergenceError):  # the rate is too high: a result, not a failure
            (folder,) = comparison.run([trial], root, 1)[trial.label]
            ends[rate] = comparison.running_training_errors(folder).errors[-1]
    if not ends:
        raise UserError(f"the {activation} net diverges at every learning rate of {RATES}")
    rows = [(f"{rate:g}", 100 * float(ends[rate]) if rate in ends else None) for rate in RATES]
    columns = (f"learning rate, {activation}", f"training error % after {epochs:g} epochs")
    comparison.write_table(root, f"tuning_{activation}", columns, rows)
    return min(ends, key=lambda rate: ends[rate])


def main(_: Sequence[str]) -> None:
    """Tune, run what is missing, then write the table and the figure."""
    root = Path(WORKDIR.value)
    rates = {name: tuned(name, root, TUNING_EPOCHS.value) for name in ("relu", "tanh")}
    nets = {name: f"{name}, learning rate {rate:g}" for name, rate in rates.items()}
    epochs = {"relu": EPOCHS.value, "tanh": TANH_EPOCHS.value}
    folders = comparison.run(
        [Condition(nets[name], config_of(name, rates[name], epochs[name])) for name in nets],
        root,
        SEEDS.value,
    )
    curves = {
        label: list(map(comparison.running_training_errors, runs))
        for label, runs in folders.items()
    }
    comparison.write_table(
        root, "relu", COLUMNS, rows(curves[nets["relu"]], curves[nets["tanh"]]), figure(curves)
    )


COLUMNS = ("seed", "epochs to 25 %, ReLU", "epochs to 25 %, tanh", "ratio", "paper")


def rows(relu: Sequence[Curve], tanh: Sequence[Curve]) -> list[tuple]:
    """Return a row per seed, and one of means; None where a net never reaches the target."""
    found = []
    for seed, (fast, slow) in enumerate(zip(relu, tanh, strict=True)):
        a, b = fast.reaches(TARGET), slow.reaches(TARGET)
        found.append((str(seed), a, b, b / a if a and b else None, SPEEDUP))
    means = [
        float(np.mean([row[column] for row in found]))
        if all(row[column] is not None for row in found)
        else None
        for column in (1, 2, 3)
    ]
    return [*found, ("mean", *means, SPEEDUP)]


def figure(curves: dict[str, list[Curve]]) -> Figure:
    """Draw the training errors in the manner of Figure 1: ReLU solid, tanh dashed, 25 % marked."""
    drawn = comparison.draw(curves, ylabel="training error, %", top=75.0)
    (axes,) = drawn.axes
    for line in axes.lines:
        color = line.get_color()
        line.set(color="black", linestyle="-" if color == "C0" else "--")
    axes.axhline(100 * TARGET, color="0.6", lw=1, linestyle=":")
    axes.legend()
    return drawn


if __name__ == "__main__":
    WORKDIR = flags.DEFINE_string("workdir", "runs/relu", "Folder of all the runs.")
    SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds.", lower_bound=1)
    EPOCHS = flags.DEFINE_float("epochs", 10.0, "Epochs of ReLU's runs.", lower_bound=1.0)
    TANH_EPOCHS = flags.DEFINE_float("tanh_epochs", 40.0, "Epochs of tanh's runs.", lower_bound=1.0)
    TUNING_EPOCHS = flags.DEFINE_float(
        "tuning_epochs", 5.0, "Epochs of each learning rate's trial.", lower_bound=1.0
    )
    command_line.run(main)
