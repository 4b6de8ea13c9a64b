"""VGG section 3.1: A trains from a Gaussian, deeper nets do not; A's layers let them train.

A layer with random weights grows only if its gradient outruns the weight decay,

    r = |dL/dW| / (weight decay * |W|) > 1,

whatever the learning rate, which multiplies both. The layers between A's and the classifier start
from the Gaussian in every deep net, so their r at the start says whether the net can leave chance;
below 1 these weights only shrink, however long the run is.

Decided before the seeds were run: A, B, C and D from the paper's Gaussian of std 0.01, E from it
(r below 1 even with A's layers, so that it should stay at chance) and from 1.5 times that std; B,
C, D and E also with A's layers, which A has at its lowest error. Nets an eighth as wide, whose
layers have the gain of the full nets (`model.keep_gain`), 48-pixel crops of the embedded data,
batches of 64, learning rate 0.01 to the end; A for 90 epochs, all others for 20. r is that of the
first batch, without flips and color jitter, by layer.
"""

import statistics
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from configs import vgg_a
from deepconv.config import recipe
from deepconv.training import losses, stream
from deepconv.training.build import build
from deepconv.training.losses import CLASSIFICATION
from deepconv.training.stage import open_all
from deepconv.training.start import colors_of, from_source
from deepconv.training.step import example_keys
from experiments.claim import (
    LAST,
    LEAVES_CHANCE,
    BySeed,
    Claim,
    Contrast,
    Quantity,
    Run,
    last_error,
)
from experiments.comparison import Condition

STD = 0.01
EPOCHS_OF_A, EPOCHS = 90.0, 20.0
A = "A, Gaussian"
# Net, name in the config, factor of the paper's std.
DEEP = (
    ("B", "vgg_b", 1.0),
    ("C", "vgg_c", 1.0),
    ("D", "vgg_d", 1.0),
    ("E", "vgg_e", 1.0),
    ("E with std 0.015", "vgg_e", 1.5),
)


def config_of(
    network: str, width: float, epochs: float, *, factor: float = 1.0, layers: str
) -> ConfigDict:
    """Return the config of one condition.

    Args:
      network: the net.
      width: factor of its width.
      epochs: length of the run.
      factor: of the paper's standard deviation.
      layers: those to copy from A, if it starts from A.
    """
    (stage,) = recipe.stages(vgg_a.get_config("256,tiny"))
    config = stage.config
    config.model.name = network
    config.model.width = width
    config.model.initializer = "paper"
    with config.unlocked():
        config.model.keep_gain = True
        config.model.std = factor * STD
    config.init.layers = layers
    config.optimizer.learning_rate = 0.01  # the paper's
    config.schedule.name = "constant"
    config.train.epochs = epochs
    return config


def conditions(width: float) -> list[Condition]:
    """Return A, and every deeper net from the Gaussian and with A's layers."""
    everything, from_a = recipe.EVERYTHING, recipe.FROM_A
    found = [Condition(A, config_of("vgg_a", width, EPOCHS_OF_A, layers=everything))]
    for label, network, factor in DEEP:
        for start, layers, source in (("Gaussian", everything, None), ("from A", from_a, A)):
            config = config_of(network, width, EPOCHS, factor=factor, layers=layers)
            found.append(Condition(f"{label}, {start}", config, source))
    return found


def ratios_to_decay(gradient: Any, params: Any, weight_decay: float) -> dict[str, float]:
    """Return r = |dL/dW| / (weight_decay |W|) of every layer's kernel; Euclidean norms.

    Args:
      gradient: of the loss without weight decay, `{layer: {"kernel": ..., "bias": ...}}`.
      params: the parameters, a tree like the gradient.
      weight_decay: factor of the parameters in the update rule.
    """

    def norm(kernel: Any) -> float:
        # Of float32 numbers as small as 1e-30, whose squares underflow.
        return float(np.linalg.norm(np.asarray(kernel, np.float64)))

    return {
        layer: norm(gradient[layer]["kernel"]) / (weight_decay * norm(leaves["kernel"]))
        for layer, leaves in params.items()
    }


def measure(run: Run) -> dict[str, Any]:
    """Return r of every layer at the start of a run, and its median over those between A's.

    The layers that are not A's are random in all nets, whether they start from A or not.
    """
    (opened,) = open_all([(run.config, run.start, run.folder)])
    colors = colors_of(run.config, opened.dataset, run.folder, opened.source)
    functions = build(
        run.config,
        colors,
        num_classes=len(opened.dataset.class_names),
        images=len(opened.dataset.train),
        mesh=opened.mesh,
    )
    params: Any = functions.initial_state().params
    if opened.source:
        sharding = jax.sharding.NamedSharding(opened.mesh, jax.sharding.PartitionSpec())
        params = from_source(params, opened.source, run.config.init.layers, sharding)
    batch = next(stream.train(run.config, opened.dataset.train, target=CLASSIFICATION.target))
    device = batch["device"]
    images = device["image"].astype(np.float32) - np.float32(colors.mean_rgb)
    keys = example_keys(run.config.seed, jnp.asarray(device["position"]), 1)

    def loss_of(params: Any) -> jax.Array:
        scores: Any = functions.model.apply(
            {"params": params}, images, train=True, dropout_keys=keys
        )
        target = {"label": jnp.asarray(device["target"]["label"])}
        sums = losses.softmax_cross_entropy(scores[:, 0, 0], target, jnp.asarray(device["mask"]))
        return sums["loss"] / len(images)

    gradient = jax.jit(jax.grad(loss_of))(params)
    ratios = ratios_to_decay(gradient, params, run.config.optimizer.weight_decay)
    of_a = set(recipe.FROM_A.split("|"))
    between = [ratio for layer, ratio in ratios.items() if layer not in of_a]
    median = statistics.median(between)
    print(f"{run.label}, seed {run.config.seed}: r = {median:.3g} in the layers between A's")
    return {"r": ratios, "median r": median}


def _median(record: Mapping[str, Any]) -> float | None:
    return record["measured"].get("median r")


MEDIAN = Quantity("r, median", _median, 4)


def figure(records: Mapping[str, BySeed]) -> Figure:
    """Draw r against the error at the end, and the errors over the epochs."""
    drawn = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = drawn.subplots(1, 2)
    nets = [label for label, *_ in DEEP]
    for label, runs in records.items():
        net, start = label.rsplit(", ", 1)
        color = f"C{nets.index(net)}" if net in nets else "black"
        line, marker = ("-", "o") if start == "from A" else ("--", "x")
        for seed, record in runs.items():
            name = label if seed == min(runs) else None
            left.plot(_median(record), last_error(record), marker, color=color, label=name)
            errors = record["errors"]
            percent = [100 * error for error in errors["top1_error"]]
            right.plot(errors["epoch"], percent, line, color=color, label=name, lw=1.2)
    left.axvline(1, color="0.6", lw=1)
    left.set(xscale="log", xlabel="r at the start, median of the layers that are not A's")
    left.set(ylabel="top-1 error at the last step, %", ylim=(0, 100))
    right.set(xlabel="epoch", ylabel="top-1 error on held-out images, %", ylim=(0, 100))
    right.set_xlim(0, EPOCHS)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    left.legend(fontsize="small")
    return drawn


def _contrasts() -> list[Contrast]:
    found = [
        Contrast(
            f"{label} with A's layers ends with a lower error than from the Gaussian",
            "A trains from random weights; deep nets are initialized with A's layers",
            f"{label}, Gaussian",
            f"{label}, from A",
            LAST,
        )
        for label, *_ in DEEP
    ]
    return [
        Contrast(
            "A trains from the Gaussian, D does not",
            "A is shallow enough to be trained from random weights",
            "D, Gaussian",
            A,
            LAST,
        ),
        *found,
    ]


CLAIM = Claim(
    name="initialization",
    title="Initialization (VGG section 3.1)",
    width=1 / 8,
    conditions=conditions,
    contrasts=_contrasts(),
    columns=(MEDIAN, LEAVES_CHANCE),
    measure=measure,
    figure=figure,
)
