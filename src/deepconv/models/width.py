"""Networks that are narrower, or see smaller crops, than those of the papers."""

import dataclasses
import math
from collections.abc import Sequence

from deepconv.models.layers import Conv, Layer, LocalConv


def scaled(channels: int, width: float, groups: int = 1) -> int:
    """Return `width` times the channels, rounded to a positive multiple of `groups`.

    Raises:
      ValueError: if the width is not positive.
    """
    if width <= 0:
        raise ValueError(f"model.width must be positive, not {width}")
    return max(1, round(channels * width / groups)) * groups


def with_gain_of(full: Sequence[Layer], narrow: Sequence[Layer]) -> tuple[Layer, ...]:
    """Scale a narrow net's initial deviations so that each layer has the full net's gain.

    std <- std * sqrt(fan_in of the full net / fan_in), layer by layer. A layer followed by a ReLU
    multiplies the magnitude of its input by sqrt(fan_in / 2) * std, so with the same gain the
    signal shrinks from layer to layer at the full net's rate.

    Args:
      full: the layers of the paper's net.
      narrow: the same layers with fewer channels or on a smaller map.
    """
    wanted, have = _fan_ins(full), _fan_ins(narrow)
    return tuple(
        dataclasses.replace(layer, std=layer.std * math.sqrt(wanted[layer.name] / have[layer.name]))
        if isinstance(layer, Conv | LocalConv)
        else layer
        for layer in narrow
    )


def _fan_ins(layers: Sequence[Layer]) -> dict[str, float]:
    channels, fans = 3, {}
    for layer in layers:
        if isinstance(layer, Conv | LocalConv):
            groups = layer.groups if isinstance(layer, Conv) else 1
            fans[layer.name] = layer.kernel**2 * channels / groups
            channels = layer.features
    return fans
