"""AlexNet without each of its parts: what every part is worth (sections 3 to 5 and 7).

    python -m experiments.claims --claims=alexnet_parts
    python -m experiments.claims --claims=alexnet_parts_imagenet --seeds=0  # the paper's own recipe

Decided before the seeds were run: AlexNet a quarter as wide, with the full net's initial gain in
every layer, on CIFAR-10 with 64-pixel crops of pictures scaled to 72; batches of 128, learning rate
0.01, divided by ten at 7 and 9 of 10 epochs; 10,000 test images, center crop, last step. Each net
differs from the first in one thing.

The paper's costs are for ten crops on ImageNet. The gap is the error on the test set minus that on
10,000 training images, both of the center crop and without dropout. The error under shifted light
is that on the test set after a color shift of every picture along the principal components of the
training set's pixels, with factors of standard deviation `SHIFT` in units of a component's own
standard deviation, the same shifts for all nets.
"""

import copy
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from configs import alexnet
from deepconv import preprocess
from deepconv.inference.model import open_model
from deepconv.training import stream
from deepconv.training.augment import for_evaluation, pca_shift
from deepconv.training.losses import CLASSIFICATION
from deepconv.training.stage import open_dataset
from experiments.claim import LAST, Claim, Contrast, Quantity, Run, last_error, measured
from experiments.comparison import Condition
from experiments.records import Record


class Ablation(NamedTuple):
    """A net that differs from the paper's in one thing.

    Attributes:
      label: its name in the table.
      changes: config keys and their values.
      top1: its cost according to the paper, in points of top-1 error; "": not stated.
      crops: whether there are random crops and flips.
    """

    label: str
    changes: dict[str, Any]
    top1: str = ""
    crops: bool = True


EPOCHS = 10.0
TRAINING_IMAGES = 10_000
SHIFT = 0.3
BASE = Ablation("AlexNet", {})
ABLATIONS = (
    Ablation("half net", {"model.towers": 1, "model.half": True}, "1.7"),
    Ablation("no LRN", {"model.lrn": "none"}, "1.4"),
    Ablation("2x2 pooling", {"model.pooling": "non_overlapping"}, "0.4"),
    Ablation("no color jitter", {"augment.pca_std": 0.0}, "over 1"),
    Ablation("without conv2", {"model.without": "conv2"}, "about 2"),
    Ablation("without conv3", {"model.without": "conv3"}, "about 2"),
    Ablation("without conv4", {"model.without": "conv4"}, "about 2"),
    Ablation("without conv5", {"model.without": "conv5"}, "about 2"),
    Ablation("no dropout", {"model.dropout": 0.0}),
    Ablation("no weight decay", {"optimizer.weight_decay": 0.0}),
    Ablation("no crops and flips", {}, crops=False),
)


def base_config(width: float) -> ConfigDict:
    """Return the config of the net with all of its parts."""
    config = alexnet.get_config("tiny")
    config.model.width = width
    config.dataset.name, config.dataset.eval_split = "cifar10", "test"
    config.train.batch_size = 128
    config.train.epochs = EPOCHS
    config.schedule.name = "steps"
    config.schedule.drop_epochs = (0.7 * EPOCHS, 0.9 * EPOCHS)
    return config


def changed(base: ConfigDict, ablation: Ablation) -> ConfigDict:
    """Return the config of one net."""
    config = copy.deepcopy(base)
    config.update_from_flattened_dict(ablation.changes)
    if not ablation.crops:  # one crop fits, in training and in the evaluation
        config.augment.flip = False
        config.input.scale = (config.model.crop, config.model.crop)
        config.evaluation.scale = config.model.crop
    return config


def conditions(width: float) -> list[Condition]:
    """Return the net and those without a part."""
    return [Condition(a.label, changed(base_config(width), a)) for a in (BASE, *ABLATIONS)]


def conditions_on_imagenet(width: float) -> list[Condition]:
    """Return the same, by the paper's recipe."""
    base = alexnet.get_config()
    base.model.width = width
    return [Condition(a.label, changed(base, a)) for a in (BASE, *ABLATIONS)]


def measure(run: Run) -> dict[str, Any]:
    """Return the error on training images, and on test images under shifted light."""
    return {
        "training": error_of(run, "train", TRAINING_IMAGES, shift=0.0),
        "shifted": error_of(run, "test", None, shift=SHIFT),
    }


def error_of(run: Run, split: str, most: int | None, *, shift: float) -> float:
    """Return the top-1 error of center crops, as a fraction.

    Args:
      run: the run.
      split: "train" or "test".
      most: how many images, from the first on; None: all of them.
      shift: standard deviation of the color shifts, see above.
    """
    model = open_model(run.folder)
    dataset = open_dataset(run.config)
    source = dataset.train if split == "train" else dataset.evaluation
    mean = jnp.asarray(
        preprocess.mean_for(model.colors, run.config.input.mean, square=run.config.evaluation.scale)
    )
    vectors = jnp.asarray(model.colors.eigenvectors, jnp.float32)
    # Eigenvalues are of pixels in 0..1.
    deviations = 255 * jnp.sqrt(jnp.asarray(model.colors.eigenvalues, jnp.float32))
    rng = np.random.default_rng(0)

    @jax.jit
    def wrong(device: dict[str, Any], alphas: jax.Array) -> tuple[jax.Array, jax.Array]:
        shifts = jax.vmap(pca_shift, in_axes=(0, None, None))(alphas, vectors, deviations)
        images = for_evaluation(device, mean) + shifts[:, None, None]
        scores: Any = model.network.apply({"params": model.params}, images)
        missed = scores[:, 0, 0].argmax(-1) != device["target"]["label"]
        return jnp.sum(missed & device["mask"]), jnp.sum(device["mask"])

    misses = count = 0
    for batch in stream.evaluation(run.config, source, target=CLASSIFICATION.target):
        alphas = shift * rng.standard_normal((len(batch["device"]["mask"]), 3))
        missed, seen = wrong(batch["device"], jnp.asarray(alphas, jnp.float32))
        misses, count = misses + int(missed), count + int(seen)
        if most is not None and count >= most:
            break
    return misses / count


def _gap(record: Record) -> float | None:
    error = TRAINING.of(record)
    return last_error(record) - error if record["last"] and error is not None else None


TRAINING = measured("training", "error % on training images", error=True)
SHIFTED = measured("shifted", "error % under shifted light", error=True)
GAP = Quantity("gap between test and training error, points", _gap)


def _worth(label: str, statement: str) -> Contrast:
    (paper,) = (a.top1 for a in ABLATIONS if a.label == label)
    effect = float(paper.split()[-1])
    return Contrast(statement, f"{paper} (points)", label, BASE.label, LAST, effect=effect)


CLAIM = Claim(
    name="alexnet_parts",
    title="AlexNet's parts (AlexNet sections 3 to 5 and 7)",
    width=1 / 4,
    conditions=conditions,
    contrasts=(
        _worth("half net", "the net of two GPUs is better than half of it"),
        _worth("no LRN", "LRN makes AlexNet better"),
        _worth("2x2 pooling", "overlapping pooling is better"),
        _worth("no color jitter", "color jitter makes AlexNet better"),
        Contrast(
            "color jitter makes it robust to the color of the light",
            "object identity is invariant to the color of the illumination",
            "no color jitter",
            BASE.label,
            SHIFTED,
        ),
        Contrast(
            "dropout reduces overfitting", "substantial without", "no dropout", "AlexNet", GAP
        ),
        Contrast(
            "weight decay reduces the training error",
            "not merely a regularizer",
            "no weight decay",
            BASE.label,
            TRAINING,
        ),
        Contrast(
            "crops and flips reduce overfitting",
            "substantial without",
            "no crops and flips",
            BASE.label,
            GAP,
        ),
        *(
            _worth(f"without conv{number}", f"conv{number} cannot be left out")
            for number in (2, 3, 4, 5)
        ),
    ),
    columns=(TRAINING, GAP, SHIFTED),
    measure=measure,
)
ON_IMAGENET = CLAIM._replace(
    name="alexnet_parts_imagenet",
    title="AlexNet's parts on ImageNet",
    width=1.0,
    conditions=conditions_on_imagenet,
)
