"""The part of a network that each device computes, counted from the layer records."""

import math
from typing import NamedTuple

import jax.numpy as jnp

from deepconv.models import Network, summary, towers
from deepconv.models.layers import LRN, Activation, Conv, Dropout, Layer, LocalConv, Pool
from deepconv.parallel import MODEL_AXIS

FLOAT = 4  # bytes per parameter, velocity or gradient element, whatever the network's dtype


class Local(NamedTuple):
    """The network on one device: the whole, or one of AlexNet's two towers.

    Attributes:
      layers: the layers that the device runs.
      rows: the rows of `summary.layer_table`, by name.
      crop: side of the crop, in pixels.
      itemsize: bytes per activation.
      model_devices: number of devices that share one copy of the network, 1 or 2.
      shared: number of parameters that every device has: all, or with two towers those of fc8.
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


def local(network: Network, model_devices: int) -> Local:
    """Return the part of a network that one device runs."""
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
    """A layer with the sizes of its input (after a gather) and output, in elements per crop."""

    layer: Layer
    inputs: int
    outputs: int


def flows(net: Local) -> list[Flow]:
    """Return the layers in order with the sizes of their inputs and outputs."""
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
    """Return the FLOPs for one crop on one device."""
    return summary.flops(net.rows.values())


def kept(net: Local) -> int:
    """Estimate the bytes per crop that the forward pass keeps for the backward pass.

    Follows XLA's fusion of the step: the crop in float32; for a ReLU or dropout, its output and
    one byte per unit for the mask, instead of its input; every other output once. In addition, a
    normalization keeps two roots in float32, a local convolution its patches, and a layer that sees
    both towers the maps it gathered.
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
    """Estimate the bytes per crop of the backward pass's temporaries.

    These are the gradients of the largest layer's input and output. A library's own workspace, such
    as cuDNN's, cannot be counted in advance.
    """
    return net.itemsize * max(flow.inputs + flow.outputs for flow in flows(net))
