"""The networks of both papers by name.

model = models.create("vgg_d", num_classes=1000)
variables = model.init(jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
scores = model.apply(variables, images)  # [N, 1, 1, 1000] on 224-pixel crops
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

__all__ = ["NETWORKS", "Network", "create"]

NETWORKS: dict[str, Callable[..., tuple[Layer, ...]]] = {
    "alexnet": alexnet.alexnet,
    "alexnet_owt": alexnet.alexnet_owt,
    **{name: functools.partial(vgg.vgg, name) for name in vgg.TABLE_1},
    "cifar10_13pct": cifar.cifar,
    "cifar10_11pct": functools.partial(cifar.cifar, lrn=True),
}


def create(
    name: str,
    num_classes: int = 1000,
    *,
    initializer: str = "glorot",
    dtype: Any = jnp.float32,
    **options: Any,
) -> Network:
    """Create a network.

    Args:
      name: a key of `NETWORKS`.
      num_classes: number of outputs.
      initializer: a key of `initializers.PRESETS`.
      dtype: dtype of the computation; parameters and scores are float32.
      **options: the network's options: `crop` and, depending on the network, `width`, `dropout`,
        `towers`, ...

    Raises:
      ValueError: if the name, the preset or an option is unknown, or an option has an invalid
        value.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; choose from {', '.join(NETWORKS)}")
    if initializer not in PRESETS:
        raise ValueError(f"unknown initializer {initializer!r}; choose from {', '.join(PRESETS)}")
    parameters = inspect.signature(NETWORKS[name]).parameters
    known = [option for option, p in parameters.items() if p.kind is p.KEYWORD_ONLY]
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"{name} has no option {unknown[0]!r}; its options are {', '.join(known)}")
    crop = options.get("crop", parameters["crop"].default)
    return Network(
        layers=NETWORKS[name](num_classes, **options),
        crop=crop,
        initializer=initializer,
        dtype=dtype,
    )
