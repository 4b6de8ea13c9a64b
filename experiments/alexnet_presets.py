"""AlexNet's presets: the paper to the letter, its released code, Caffe, and our default.

AlexNet a quarter as wide, 64-pixel crops of the embedded data, with the full net's initial gain in
every layer (`model.keep_gain`), 28 epochs of 600 held-out images each. The learning rate never
drops, so that a preset that stalls has enough time. Neither paper compares them, so there is
nothing to reproduce; the table says which ones train.
"""

from ml_collections import ConfigDict

from configs import alexnet
from experiments.claim import LEAVES_CHANCE, Claim, epochs_to
from experiments.comparison import Condition

EPOCHS = 28.0


def config_of(preset: str, width: float) -> ConfigDict:
    """Return the config of one preset; "" is the default."""
    config = alexnet.get_config(f"{preset},tiny")
    config.model.width = width
    config.train.epochs = EPOCHS
    config.schedule.name = "constant"
    config.schedule.drop_epochs = ()
    return config


def conditions(width: float) -> list[Condition]:
    """Return the default and every preset."""
    return [Condition(name or "default", config_of(name, width)) for name in ("", *alexnet.PRESETS)]


CLAIM = Claim(
    name="alexnet_presets",
    title="AlexNet's presets",
    width=1 / 4,
    conditions=conditions,
    contrasts=(),
    columns=(LEAVES_CHANCE, epochs_to(0.5)),
)
