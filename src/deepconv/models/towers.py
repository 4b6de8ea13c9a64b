"""The paper's two GPUs: a tower of AlexNet on each of two devices (sections 3.2 and 3.5, Figure 2).

    local = on_one_device(network, axis="model")   # to apply inside shard_map
    specs = parameter_specs(network.layers, axis="model")

Each device computes half of the outputs of every convolution and hidden layer. Layers that see
only their own tower (conv2, 4, 5, normalization, pooling) need nothing from the other device;
layers that see both towers (conv3, conv6, fc6, fc7, fc8) first gather its maps. Both devices
compute the scores, so any number of classes works. The parameters keep the shapes of the
one-device net and are split along their last axis.
"""

import dataclasses
from collections.abc import Sequence

from jax.sharding import PartitionSpec as P

from deepconv.models.layers import LRN, Conv, Dropout, Layer, LocalConv
from deepconv.models.network import Network

TOWERS = 2


def on_one_device(network: Network, *, axis: str) -> Network:
    """Return the network that each of the two devices runs.

    Args:
      network: AlexNet with two towers.
      axis: the mesh axis of the two devices.

    Raises:
      ValueError: if the network does not have two towers, or cannot be split between them.
    """
    return network.clone(layers=_half(network.layers, axis))


def _half(layers: Sequence[Layer], axis: str) -> tuple[Layer, ...]:
    if not any(isinstance(layer, Conv) and layer.groups == TOWERS for layer in layers):
        raise ValueError("train.model_devices=2 needs a network with two towers")
    local: list[Layer] = []
    split = False  # whether each device has only its own tower's maps
    for layer in layers:
        match layer:
            case Conv():
                gather = axis if split and layer.groups == 1 else ""
                split = layer is not layers[-1]
                local.append(
                    dataclasses.replace(
                        layer,
                        features=_halved(layer) if split else layer.features,
                        groups=1,
                        gather=gather,
                    )
                )
            case LRN(groups=1):
                raise ValueError(
                    f"train.model_devices=2: the windows of {layer.name} cross the tower boundary"
                )
            case LRN():
                local.append(dataclasses.replace(layer, groups=layer.groups // TOWERS))
            case Dropout():
                # Gathered first, so that both devices draw the mask of the one-device net.
                local.append(dataclasses.replace(layer, gather=axis if split else ""))
                split = False
            case _:
                local.append(layer)
    return tuple(local)


def _halved(layer: Conv) -> int:
    if layer.features % TOWERS:
        raise ValueError(
            f"train.model_devices=2: {layer.name} has {layer.features} outputs, an odd number"
        )
    return layer.features // TOWERS


def parameter_specs(layers: Sequence[Layer], *, axis: str | None) -> dict[str, dict[str, P]]:
    """Return the sharding of each parameter: `{layer: {"kernel": spec, "bias": spec}}`.

    Args:
      layers: the layers of the whole network.
      axis: the mesh axis of the two devices; None if every device has all parameters.
    """

    def spec(layer: Conv | LocalConv) -> dict[str, P]:
        if axis is None or layer is layers[-1]:
            return {"kernel": P(), "bias": P()}
        return {"kernel": P(None, None, None, axis), "bias": P(axis)}

    return {layer.name: spec(layer) for layer in layers if isinstance(layer, Conv | LocalConv)}
