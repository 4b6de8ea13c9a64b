"""AlexNet's Figure 1: the four-layer net reaches 25 % training error faster with ReLU than tanh.

    python -m experiments.claims --claims=relu_rates --seeds=0    # which rate is best for each
    python -m experiments.claims --claims=relu

Section 3.1 reports a factor of six on CIFAR-10, where "the learning rates for each network were
chosen independently to make training as fast as possible; no regularization of any kind was
employed". Accordingly, this is the net of `configs/cifar10.py` without flips or weight decay, on
whole 32x32 images, which leaves nothing to crop.

Decided before the seeds were run: for both nets the rate among `RATES` with the lowest training
error after two epochs of seed 0; then ReLU for 12 epochs and tanh for 36, at that rate to the end.
The training error is the running one, as the original code prints it: the mean over the last epoch
of each batch's error before its update. It lags the error of the current parameters by about half
an epoch, for both nets alike. A tanh net that has not reached an error counts with the length of
its run, so that the ratio is a lower bound.
"""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from ml_collections import ConfigDict

from configs import cifar10
from experiments import comparison
from experiments.claim import BySeed, Claim, Contrast, Quantity, Run, measured
from experiments.comparison import Condition
from experiments.records import Record

TARGET = 0.25
REACHED = (0.4, 0.35, 0.3, TARGET)
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
# The best ones; a test compares them with the records of `relu_rates`.
RATE = {"relu": 3e-3, "tanh": 1e-2}
TUNING_EPOCHS = 2.0
EPOCHS = {"relu": 12.0, "tanh": 36.0}
UPDATES_PER_POINT = 39  # ten points of the curve per epoch


def config_of(activation: str, rate: float, epochs: float, width: float) -> ConfigDict:
    """Return the config of one net: no regularization, one learning rate to the end."""
    config = cifar10.get_config("13pct")
    with config.unlocked():
        config.model.activation = activation
        config.model.width = width
        config.model.keep_gain = True  # of the full net, which the files' deviations are for
    config.model.crop = config.input.scale[0]
    config.augment.flip = False
    config.optimizer.learning_rate = rate
    config.optimizer.weight_decay = 0.0
    config.schedule.name = "constant"
    config.train.epochs = epochs
    config.train.log_steps = UPDATES_PER_POINT
    return config


def tuning(width: float) -> list[Condition]:
    """Return both nets with every rate."""
    return [
        Condition(f"{net}, rate {rate:g}", config_of(net, rate, TUNING_EPOCHS, width))
        for net in RATE
        for rate in RATES
    ]


def conditions(width: float) -> list[Condition]:
    """Return both nets with their best rates."""
    return [Condition(net, config_of(net, rate, EPOCHS[net], width)) for net, rate in RATE.items()]


def measure(run: Run) -> dict[str, Any]:
    """Return the epochs to several running training errors."""
    curve = comparison.running_training_errors(run.folder)
    return {f"epochs to {error:g}": curve.reaches(error) for error in REACHED}


def end_of_training(record: Record) -> float | None:
    """Return the training error of a run's last epoch in percent; None if it diverged."""
    return 100 * float(record["errors"]["training_error"][-1]) if record["last"] else None


def _at_least(record: Record) -> float | None:
    return EXACT.of(record) or record.get("epochs")


def figure(records: Mapping[str, BySeed]) -> Figure:
    """Draw the training errors in the manner of Figure 1: ReLU solid, tanh dashed, 25 % marked."""
    drawn = Figure(figsize=(8, 5), layout="constrained")
    axes = drawn.subplots()
    for net, by_seed in records.items():
        for seed, record in by_seed.items():
            errors = record["errors"]
            percent = [100 * error for error in errors["training_error"]]
            line, name = "-" if net == "relu" else "--", net if seed == min(by_seed) else None
            axes.plot(errors["epoch"], percent, line, color="black", label=name, lw=1.2)
    axes.axhline(100 * TARGET, color="0.6", lw=1, linestyle=":")
    axes.set(xlabel="epoch", ylabel="training error, %", ylim=(0, 75))
    axes.legend()
    return drawn


EXACT = measured(f"epochs to {TARGET:g}", "epochs to 25 % training error")
TRAINING = Quantity("training error %, last epoch", end_of_training)
CLAIM = Claim(
    name="relu",
    title="ReLU and tanh (AlexNet Figure 1)",
    width=1 / 4,
    conditions=conditions,
    contrasts=(
        Contrast(
            "ReLU reaches 25 % training error sooner than tanh",
            "6 times",
            "tanh",
            "relu",
            Quantity(EXACT.name, _at_least),
            EXACT,
            ratio=True,
            beyond=0.0,
        ),
    ),
    columns=tuple(
        measured(f"epochs to {error:g}", f"epochs to {100 * error:g} % training error")
        for error in REACHED
    ),
    measure=measure,
    figure=figure,
)
RATES_CLAIM = Claim(
    name="relu_rates",
    title="Learning rates of ReLU and tanh",
    width=1 / 4,
    conditions=tuning,
    contrasts=(),
    columns=(TRAINING,),
)
