"""VGG's Table 3 and section 4.1 on CIFAR-10: depth, 1x1 kernels, LRN, and 5x5 in place of 3x3.

Decided before the seeds were run: A, A-LRN, B, C, D, E and B's shallow twin at one width, from
Glorot's weights (the paper's later note; its own nets start from A's layers), 32-pixel crops of
pictures scaled to 36, flips and color jitter; batches of 128, weight decay and dropout as in the
paper; learning rate 0.01, divided by ten at 7 and 9 of 10 epochs; 10,000 test images, center crop,
last step. A difference is of two nets of the same seed, which see the same images in the same
order.
"""

from ml_collections import ConfigDict

from configs import vgg_a
from deepconv.config import recipe
from experiments.claim import LAST, Claim, Contrast
from experiments.comparison import Condition

EPOCHS = 10.0
NETS = {
    "A": "vgg_a",
    "A-LRN": "vgg_a_lrn",
    "B": "vgg_b",
    "B, shallow": "vgg_b_shallow",
    "C": "vgg_c",
    "D": "vgg_d",
    "E": "vgg_e",
}


def config_of(network: str, width: float) -> ConfigDict:
    """Return the config of a net on CIFAR-10."""
    (stage,) = recipe.stages(vgg_a.get_config("256"))
    config = stage.config
    config.model.name, config.model.width, config.model.crop = network, width, 32
    config.dataset.name, config.dataset.eval_split = "cifar10", "test"
    config.input.scale, config.evaluation.scale = (36, 36), 36
    config.input.color = "computed"
    config.train.batch_size = 128
    config.train.epochs = EPOCHS
    config.schedule.name = "steps"
    config.schedule.drop_epochs = (0.7 * EPOCHS, 0.9 * EPOCHS)
    return config


def conditions(width: float) -> list[Condition]:
    """Return every net."""
    return [Condition(label, config_of(network, width)) for label, network in NETS.items()]


CLAIM = Claim(
    name="depth",
    title="Depth and kernels (VGG Table 3, section 4.1)",
    width=1 / 8,
    conditions=conditions,
    contrasts=(
        Contrast(
            "LRN gains nothing: less than 1 point",
            "29.7 with, 29.6 without",
            "A-LRN",
            "A",
            LAST,
            beyond=-1.0,
        ),
        Contrast("B is better than A", "28.7 against 29.6", "A", "B", LAST, effect=0.9),
        Contrast(
            "C is better than B: more non-linearities help",
            "28.1 against 28.7",
            "B",
            "C",
            LAST,
            effect=0.6,
        ),
        Contrast(
            "D is better than C: 3x3 kernels are better than 1x1",
            "27.0 against 28.1",
            "C",
            "D",
            LAST,
            effect=1.1,
        ),
        Contrast(
            "E is better than A: the error falls with depth",
            "27.3 against 29.6",
            "A",
            "E",
            LAST,
            effect=2.3,
        ),
        Contrast(
            "B is better than its twin with 5x5 kernels",
            "by 7 points",
            "B, shallow",
            "B",
            LAST,
            effect=7.0,
        ),
    ),
)
