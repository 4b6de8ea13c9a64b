"""The networks that are measured, and the precisions.

config = load("vgg_d", rehearse=False, batch=64, precision="tf32")
with jax.default_matmul_precision(PRECISIONS["tf32"].matmul):
    ...
"""

import importlib
from typing import NamedTuple

from ml_collections import ConfigDict

from deepconv.config import recipe
from deepconv.config.check import check_config

# The config's module and variant of each network, the most important network first.
CONFIGS = {
    "vgg_d": ("vgg_d", "256"),
    "alexnet": ("alexnet", ""),
    "cifar10_13pct": ("cifar10", "13pct"),
    "vgg_a": ("vgg_a", "256"),
    "vgg_e": ("vgg_e", "256"),
    "vgg_a_lrn": ("vgg_a_lrn", "256"),
    "cifar10_11pct": ("cifar10", "11pct"),
    "vgg_c": ("vgg_c", "256"),
    "vgg_b": ("vgg_b", "256"),
    # It has no config of its own; those of VGG's networks have the same options.
    "alexnet_owt": ("vgg_a", "256"),
}
# A rehearsal has networks of all kinds of layers.
REHEARSED = ("vgg_a", "alexnet", "cifar10_11pct")


class Precision(NamedTuple):
    """How products and convolutions are computed.

    Attributes:
      dtype: dtype of the network.
      matmul: jax's `jax_default_matmul_precision`; None is its default, on recent GPUs TF32.
      roundoff: the relative rounding of a factor.
    """

    dtype: str
    matmul: str | None
    roundoff: float


PRECISIONS = {
    "bfloat16": Precision("bfloat16", None, 2.0**-8),
    "tf32": Precision("float32", None, 2.0**-11),
    "float32": Precision("float32", "highest", 2.0**-24),
}


def names(rehearse: bool) -> tuple[str, ...]:
    """Return the networks to measure."""
    return REHEARSED if rehearse else tuple(CONFIGS)


def classes(network: str) -> int:
    """Return the number of classes of the network's paper."""
    return 10 if network.startswith("cifar10") else 1000


def load(network: str, *, rehearse: bool, batch: int, precision: str) -> ConfigDict:
    """Return the checked config of a network.

    Args:
      network: a key of `CONFIGS`.
      rehearse: whether to make it narrow and its crops small.
      batch: images per batch, in training and evaluation.
      precision: a key of `PRECISIONS`.
    """
    module, variant = CONFIGS[network]
    asked = importlib.import_module(f"configs.{module}").get_config(variant)
    config = recipe.stages(asked)[-1].config.copy_and_resolve_references()
    config.model.name = network
    config.train.batch_size = config.evaluation.batch_size = batch
    config.model.dtype = PRECISIONS[precision].dtype
    if rehearse and "width" in config.model:
        config.model.width = 1 / 32
        config.model.crop = 64 if network == "alexnet" else 32
        config.input.scale = (72, 72)
        config.evaluation.scale = 72
    check_config(config)
    return config
