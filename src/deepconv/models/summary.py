"""Count a network layer by layer, without building it: shapes, parameters, MACs, receptive fields.

    rows = layer_table(network.layers, network.crop)
    totals(rows).parameters

Multiply-accumulates (MACs) are counted as in the papers: those of the kernels, including taps that
fall on padding, without biases.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from deepconv import tables
from deepconv.models.layers import LRN, Activation, Conv, Dropout, Layer, LocalConv, Pool, map_size
from deepconv.models.towers import TOWERS


class LayerRow(NamedTuple):
    """What one layer does to one crop.

    Attributes:
      name: the layer's name.
      kind: its kind, with window and stride, as text.
      output: height, width and channels of its output.
      kernel: shape of its weights; empty if it has none.
      weights: number of weights.
      biases: number of biases.
      macs: multiply-accumulates; those of a normalization are not counted.
      field: side of the receptive field of one output, in pixels; may exceed the crop.
      stride: distance between neighboring outputs, in pixels of the image.
    """

    name: str
    kind: str
    output: tuple[int, int, int]
    kernel: tuple[int, ...]
    weights: int
    biases: int
    macs: int
    field: int
    stride: int

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return self.weights + self.biases


FLOPS_OF_A_MAC = 2  # a multiplication and an addition


class Flops(NamedTuple):
    """Floating-point operations for one crop; see `flops` for what is counted.

    Attributes:
      forward: to compute its scores.
      training: to compute its scores and all gradients.
    """

    forward: int
    training: int


class Totals(NamedTuple):
    """The sums over a network's layers."""

    parameters: int
    weights: int
    biases: int
    macs: int


def layer_table(layers: Iterable[Layer], crop: int) -> list[LayerRow]:
    """Follow an RGB crop through the layers.

    Args:
      layers: the layers, in order, of a whole network or from `towers.on_one_device`.
      crop: side of the crop, in pixels.

    Returns:
      A row for every convolution (including fully connected layers), normalization and pooling;
      activations and dropout change none of these numbers and have no row.

    Raises:
      ValueError: if the crop is too small; the message names the layer.
    """
    rows: list[LayerRow] = []
    size, channels, field, stride = crop, 3, 1, 1
    for layer in layers:
        before, size = size, map_size([layer], size)
        if isinstance(layer, Conv | Dropout) and layer.gather:
            channels *= TOWERS
        kernel: tuple[int, ...] = ()
        window = step = 1
        biases = macs = 0
        match layer:
            case Activation() | Dropout():
                continue
            case Conv():
                window, step = layer.kernel, layer.stride
                kernel = (window, window, channels // layer.groups, layer.features)
                channels = biases = layer.features
                macs = math.prod(kernel) * size**2
                if window == before and layer.padding == (0, 0):
                    kind = "fully connected"
                else:
                    groups = f", {layer.groups} groups" if layer.groups > 1 else ""
                    kind = f"conv {window}x{window} / {step}{groups}"
            case LocalConv():
                window = layer.kernel
                kernel = (size, size, window**2 * channels, layer.features)
                channels = layer.features
                biases = size**2 * channels
                macs = math.prod(kernel)
                kind = f"local conv {window}x{window} / {step}"
            case LRN():
                kind = f"LRN, {layer.size} channels"
            case Pool():
                window, step = layer.window, layer.stride
                kind = f"max pool {window}x{window} / {step}"
        field += (window - 1) * stride
        stride *= step
        weights = math.prod(kernel) if kernel else 0
        output = (size, size, channels)
        rows.append(
            LayerRow(layer.name, kind, output, kernel, weights, biases, macs, field, stride)
        )
    return rows


def totals(rows: Iterable[LayerRow]) -> Totals:
    """Return the sums over the rows."""
    counts = [(row.parameters, row.weights, row.biases, row.macs) for row in rows]
    return Totals(*map(sum, zip(*counts, strict=True)))


def flops(rows: Iterable[LayerRow]) -> Flops:
    """Count the FLOPs for one crop, two per multiply-accumulate.

    forward = 2 M, training = 2 (3 M - M_1)

    M is the number of multiply-accumulates of all layers, M_1 that of the first layer: each layer's
    product is computed once forward, once for the gradient of its kernel and once for that of its
    input, which the first layer does not need. Taps that fall on padding count. Biases,
    activations, normalization, pooling, dropout, loss, preprocessing and the update do not.
    """
    macs = [row.macs for row in rows if row.macs]
    return Flops(FLOPS_OF_A_MAC * sum(macs), FLOPS_OF_A_MAC * (3 * sum(macs) - macs[0]))


def text(rows: Sequence[LayerRow]) -> str:
    """Return the table and its totals as plain text."""
    columns = [
        ["layer", *(row.name for row in rows)],
        ["kind", *(row.kind for row in rows)],
        ["output", *("x".join(map(str, row.output)) for row in rows)],
        ["kernel", *("x".join(map(str, row.kernel)) or "-" for row in rows)],
        _numbers("parameters", [row.parameters for row in rows]),
        _numbers("MACs", [row.macs for row in rows]),
        _numbers("field", [row.field for row in rows]),
        _numbers("stride", [row.stride for row in rows]),
    ]
    headers, *cells = zip(*columns, strict=True)
    total = totals(rows)
    return (
        f"{tables.table(headers, cells)}\n\n"
        f"{total.parameters:,} parameters: {total.weights:,} weights, {total.biases:,} biases\n"
        f"{total.macs:,} multiply-accumulates (MACs) for one crop"
    )


def _numbers(header: str, values: Iterable[int]) -> list[str]:
    # Right-aligned here, because a table aligns strings to the left.
    cells = [header, *(f"{value:,}" if value else "-" for value in values)]
    width = max(map(len, cells))
    return [cell.rjust(width) for cell in cells]
