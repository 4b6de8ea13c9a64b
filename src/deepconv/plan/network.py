"""What each device computes of a network, counted from the records of its layers."""

import math
from typing import NamedTuple

import jax.numpy as jnp

from deepconv.models import Network, summary, towers
from deepconv.models.layers import LRN, Activation, Conv, Dropout, Layer, LocalConv, Pool
from deepconv.parallel import MODEL_AXIS

FLOAT = 4  # bytes of a parameter, its velocity and its gradient, whatever the network's dtype


class Local(NamedTuple):
    """A network as one device has it: the whole, or one of AlexNet's two towers.

    Attributes:
      layers: what the device runs.
      rows: of `summary.layer_table`, by name.
      crop: side of the crop, in pixels.
      itemsize: bytes of one activation.
      model_devices: that share one copy, 1 or 2.
      shared: number of parameters that every device has: all, or those of the towers' one fc8.
    """

    layers: tuple[Layer, ...]
    rows: dict[str, summary.LayerRow]
    crop: int
    itemsize: int
    model_devices: int
    shared: int

    @property
    def parameters(self) -> int:
        """Number of parameters on one device."""
        return summary.totals(self.rows.values()).parameters

    @property
    def fully_connected(self) -> int:
        """Number of these that are in fully connected layers."""
        return sum(
            self.rows[layer.name].parameters
            for layer in self.layers
            if isinstance(layer, Conv) and layer.fully_connected
        )


def local(network: Network, model_devices: int) -> Local:
    """Follow a crop through what one device runs of a network."""
    layers = network.layers
    if model_devices > 1:
        layers = towers.on_one_device(network, axis=MODEL_AXIS).layers
    rows = {row.name: row for row in summary.layer_table(layers, network.crop)}
    specs = towers.parameter_specs(network.layers, axis=MODEL_AXIS if model_devices > 1 else None)
    shared = [
        rows[name].parameters for name, spec in specs.items() if MODEL_AXIS not in spec["bias"]
    ]
    itemsize = jnp.dtype(network.dtype).itemsize
    return Local(layers, rows, network.crop, itemsize, model_devices, sum(shared))


class Flow(NamedTuple):
    """A layer between its input, gathered where it gathers, and its output, in elements a crop."""

    layer: Layer
    inputs: int
    outputs: int


def flows(net: Local) -> list[Flow]:
    """Return the layers in order with the sizes of what goes in and comes out."""
    found = []
    size = 3 * net.crop**2
    for layer in net.layers:
        if isinstance(layer, Conv | Dropout) and layer.gather:
            size *= net.model_devices
        after = math.prod(net.rows[layer.name].output) if layer.name in net.rows else size
        found.append(Flow(layer, size, after))
        size = after
    return found


def flops(net: Local) -> summary.Flops:
    """Return one crop's on one device."""
    return summary.flops(net.rows.values())


def kept(net: Local) -> int:
    """Estimate the bytes a crop that the backward pass needs of the forward pass.

    As XLA fuses the step: the crop in float32; where a ReLU or dropout follows, its output and a
    byte for whether each unit passed, instead of what went in; every other output once. A
    normalization keeps two roots in float32 besides, a local convolution the patches that it
    multiplies, a layer that sees both towers the maps it gathered.
    """
    total = FLOAT * 3 * net.crop**2
    steps = flows(net)
    for index, (layer, inputs, outputs) in enumerate(steps):
        after = steps[index + 1].layer if index + 1 < len(steps) else None
        if isinstance(layer, Conv | Dropout) and layer.gather:
            total += inputs * net.itemsize
        match layer:
            case Activation() | Dropout():
                total += outputs * (net.itemsize + 1)
            case LRN():
                total += outputs * (net.itemsize + 2 * FLOAT)
            case LocalConv():
                height, width, patch, _ = net.rows[layer.name].kernel
                total += height * width * patch * net.itemsize
        if isinstance(layer, Conv | LocalConv | Pool) and not isinstance(after, Activation):
            total += outputs * net.itemsize
    return total


def passing(net: Local) -> int:
    """Estimate the bytes a crop that the backward pass holds in passing.

    The gradients of the largest layer's input and output; a library's own workspace, such as
    cuDNN's, cannot be counted beforehand.
    """
    return net.itemsize * max(flow.inputs + flow.outputs for flow in flows(net))
