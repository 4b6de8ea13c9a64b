"""The networks of both papers by name.

model = models.create("vgg_d", num_classes=1000)
variables = model.init(jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
scores = model.apply(variables, images)  # [N, 1, 1, 1000] on 224-pixel crops
model = models.create("vgg_d", num_classes=1000, boxes="per_class")  # [N, 1, 1, 4000]
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from deepconv.models import alexnet, cifar, vgg
from deepconv.models.initializers import PRESETS
from deepconv.models.layers import Layer
from deepconv.models.network import Network

__all__ = ["NETWORKS", "OUTPUTS", "Network", "create"]

NETWORKS: dict[str, Callable[..., tuple[Layer, ...]]] = {
    "alexnet": alexnet.alexnet,
    "alexnet_owt": alexnet.alexnet_owt,
    **{name: functools.partial(vgg.vgg, name) for name in vgg.TABLE_1},
    "cifar10_13pct": cifar.cifar,
    "cifar10_11pct": functools.partial(cifar.cifar, lrn=True, local3=64),
}


# Outputs of a network of C classes, by what it predicts: scores, a box, or a box for each class.
OUTPUTS: dict[str, Callable[[int], int]] = {
    "": lambda classes: classes,
    "single": lambda classes: 4,
    "per_class": lambda classes: 4 * classes,
}


def create(
    name: str,
    num_classes: int = 1000,
    *,
    boxes: str = "",
    initializer: str = "glorot",
    dtype: Any = jnp.float32,
    **options: Any,
) -> Network:
    """Create a network.

    Args:
      name: a key of `NETWORKS`.
      num_classes: number of classes C.
      boxes: a key of `OUTPUTS`: empty, the network gives C class scores; "single", it gives
        (cx, cy, w, h) of one box; "per_class", those of a box for each class, `[C, 4]` flattened
        (VGG appendix A, SCR and PCR). Only the last layer differs.
      initializer: a key of `initializers.PRESETS`.
      dtype: dtype of the computation; parameters and scores are float32.
      **options: the network's options: `crop` and, depending on the network, `width`, `dropout`,
        `towers`, ...

    Raises:
      ValueError: if the name, the preset or an option is unknown, or an option has an invalid
        value.
    """
    if boxes not in OUTPUTS:
        raise ValueError(f"boxes={boxes!r} is not one of {', '.join(map(repr, OUTPUTS))}")
    if name not in NETWORKS:
        raise ValueError(
            f"unknown network {name!r}; choose from {', '.join(NETWORKS)}"
            + (
                "; batch normalization is not trained here: weights that have it are imported "
                "with it folded into the convolutions"
                if name.endswith("_bn")
                else ""
            )
        )
    if initializer not in PRESETS:
        raise ValueError(f"unknown initializer {initializer!r}; choose from {', '.join(PRESETS)}")
    parameters = inspect.signature(NETWORKS[name]).parameters
    known = [option for option, p in parameters.items() if p.kind is p.KEYWORD_ONLY]
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"{name} has no option {unknown[0]!r}; its options are {', '.join(known)}")
    crop = options.get("crop", parameters["crop"].default)
    return Network(
        layers=NETWORKS[name](OUTPUTS[boxes](num_classes), **options),
        crop=crop,
        initializer=initializer,
        dtype=dtype,
    )
