"""Fine-tune a net from drawn images on photographs, and compare with training from scratch.

The photographs are a folder with class folders; put it, or a link to it, at `photographs` in the
folder where the command runs. Decided before the seeds were run: the quickstart's net, a quarter as
wide, trained on the embedded data for 28 epochs at 0.005; then ten epochs on the photographs. The
conditions differ in which layers train, and how fast. AlexNet's section 6.1 reports a gain of 1.7
points from pre-training on fifteen million photographs.
"""

from ml_collections import ConfigDict

from configs import finetune, quickstart
from deepconv.config.recipe import ALL_BUT_FC8
from experiments.claim import LAST, Claim, Contrast
from experiments.comparison import Condition

EPOCHS = 10.0
PHOTOGRAPHS = "folder:photographs"
DRAWN, SCRATCH = "drawn images", "photographs alone"


def from_scratch(width: float) -> ConfigDict:
    """Return the quickstart's config for the photographs."""
    config = quickstart.get_config()
    config.model.width = width
    config.dataset.name = PHOTOGRAPHS
    config.optimizer.learning_rate = finetune.get_config("tiny").optimizer.learning_rate
    config.train.epochs = EPOCHS
    return config


def all_alike(width: float) -> ConfigDict:
    """Return the same config, starting from all of another run's layers except fc8."""
    config = from_scratch(width)
    config.init.layers = ALL_BUT_FC8
    config.input.color = "inherited"
    return config


def fine_tuned(layers: str) -> ConfigDict:
    """Return the config of `configs/finetune.py:tiny` with other trained layers."""
    config = finetune.get_config("tiny")
    config.dataset.name = PHOTOGRAPHS
    config.train.epochs = EPOCHS
    config.optimizer.trained_layers = layers
    return config


def conditions(width: float) -> list[Condition]:
    """Return the net of the drawn images, and every way to train on the photographs."""
    drawn = quickstart.get_config()
    drawn.model.width = width
    usual = finetune.get_config("tiny").optimizer.trained_layers
    return [
        Condition(DRAWN, drawn),
        Condition(SCRATCH, from_scratch(width)),
        Condition("all layers alike", all_alike(width), DRAWN),
        Condition("fine-tuned, all layers", fine_tuned(".*"), DRAWN),
        Condition("fine-tuned, conv4 to fc8", fine_tuned(usual), DRAWN),
        Condition("fine-tuned, fc8", fine_tuned("fc8"), DRAWN),
    ]


CLAIM = Claim(
    name="finetune",
    title="Fine-tuning (AlexNet section 6.1)",
    width=1 / 4,
    conditions=conditions,
    contrasts=(
        Contrast(
            "pre-training on other images helps",
            "39.0 against 40.7, from a larger set of photographs",
            SCRATCH,
            "all layers alike",
            LAST,
        ),
    ),
)
