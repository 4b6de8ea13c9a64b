"""Descriptors of a set of images: of every network at every scale, joined (VGG appendix B).

    how = How(scales=(256, 384, 512), combine="stack")
    layers = require([net_d, net_e], how)
    table = describe([net_d, net_e], layers, how, source, survey, into=into, threads=8)
    table.shape  # [N, 24576]: 4,096 numbers x 3 scales x 2 networks

The rows of a network at a scale are kept as they are computed, before they are normalized, so that
a second call continues a killed one, and any combination of scales and networks uses them again.

Memory: the table is in memory, 4 bytes a number. One image of net D at three stacked scales is
12,288 numbers, 48 KiB; Caltech-101 is 0.45 GB, Caltech-256 1.5 GB, twice that with net E. Joining
takes a thousand images at a time; the rows of one network at one scale are in memory once more when
they have been computed, before there is a table. The files are as large as the stacked table.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from deepconv import parallel, preprocess
from deepconv.config.schema import predicts_boxes
from deepconv.data.pipeline import Source
from deepconv.exceptions import UserError
from deepconv.inference import activations, rows
from deepconv.inference.buckets import Survey
from deepconv.inference.model import Model
from deepconv.inference.rows import Memory, Store
from deepconv.models import Network
from deepconv.transfer import aggregate

# Images that are joined at a time.
_AT_ONCE = 1024

# Where the rows of a network at a scale go: `(number of the network, scale, shape) -> rows`.
Into = Callable[[int, int, tuple[int, ...]], Store | Memory]


class How(NamedTuple):
    """How images are described.

    Attributes:
      scales: the shorter sides Q, in pixels.
      combine: "stack" or "average", what becomes of several scales; networks are always stacked.
      layer: whose activations; empty: the last in front of each network's classifier.
    """

    scales: tuple[int, ...]
    combine: Literal["stack", "average"] = "stack"
    layer: str = ""


def require(nets: Sequence[Model], how: How) -> list[str]:
    """Return the layer of each network, after checking that it can describe images.

    Raises:
      UserError: if a network predicts boxes, has no such layer, or cannot be applied densely at a
        scale; or if a scale is given twice.
    """
    if len({*how.scales}) < len(how.scales):
        raise UserError(f"a scale is given twice: {', '.join(map(str, how.scales))}")
    layers = []
    for net in nets:
        if predicts_boxes(net.config):
            raise UserError(
                f"{net.name} predicts boxes, not classes; describe images with a classifier"
            )
        try:
            layer = how.layer or aggregate.penultimate(net.network)
            network = activations.cut(net.network, [layer])
        except ValueError as error:
            raise UserError(f"{net.name}: {error}") from None
        for scale in how.scales:
            try:
                aggregate.require_dense(network, scale)
            except UserError as error:
                raise UserError(f"{net.name}: {error}") from None
        layers.append(layer)
    return layers


def width(nets: Sequence[Model], layers: Sequence[str], how: How) -> int:
    """Return how many numbers the descriptor of an image has."""
    scales = len(how.scales) if how.combine == "stack" else 1
    return scales * sum(
        _channels(activations.cut(net.network, [layer]), net.params)
        for net, layer in zip(nets, layers, strict=True)
    )


def _channels(network: Network, params: Any) -> int:
    images = jax.ShapeDtypeStruct((1, network.crop, network.crop, 3), jnp.float32)
    shape: Any = jax.eval_shape(lambda x: network.apply({"params": params}, x), images)
    return int(shape.shape[-1])


def describe(
    nets: Sequence[Model],
    layers: Sequence[str],
    how: How,
    source: Source,
    survey: Survey,
    *,
    into: Into,
    mesh: Mesh | None = None,
    threads: int,
    strict: bool = True,
) -> np.ndarray:
    """Describe images, or those that are still missing.

    Args:
      nets: the networks, their parameters on all devices.
      layers: of each, see `require`.
      how: the scales, and what becomes of them.
      source: the images.
      survey: of them.
      into: where the rows of a network at a scale go.
      mesh: the devices that share each batch; by default all.
      threads: how many decode.
      strict: whether an image that cannot be read is an error; otherwise its row is NaN.

    Returns:
      float32 `[N, D]`, each of length 1.

    Raises:
      UserError: if an image cannot be read.
    """
    parts: list[list[Store | Memory]] = []
    for number, (net, layer) in enumerate(zip(nets, layers, strict=True)):
        network = activations.cut(net.network, [layer])
        shape = (len(source), _channels(network, net.params))
        parts.append([into(number, scale, shape) for scale in how.scales])
        for scale, part in zip(how.scales, parts[-1], strict=True):
            if not part.done.all():
                _compute(
                    net,
                    network,
                    source,
                    survey,
                    part,
                    scale=scale,
                    mesh=mesh or parallel.data_mesh(),
                    threads=threads,
                    strict=strict,
                )
    return _joined(parts, how)


def _compute(
    net: Model,
    network: Network,
    source: Source,
    survey: Survey,
    into: Store | Memory,
    *,
    scale: int,
    mesh: Mesh,
    threads: int,
    strict: bool,
) -> None:
    mean = preprocess.mean_for(net.colors, net.config.input.mean, square=None)

    def descriptors(params: Any, images: jax.Array, extents: jax.Array) -> jax.Array:
        return aggregate.of_whole(network, params, images, extents, mean)

    rows.compute(
        descriptors,
        net.params,
        source,
        survey.rescaled(scale),
        into,
        scale=scale,
        pixels=net.pixels_at_once,
        mesh=mesh,
        threads=threads,
        description=f"{net.name}, {network.layers[-1].name}, Q={scale}",
        strict=strict,
    )


def _joined(parts: Sequence[Sequence[Store | Memory]], how: How) -> np.ndarray:
    """Join the rows of every scale (inner) and network (outer); a missing row is NaN."""
    count, stacked = len(parts[0][0].rows), how.combine == "stack"
    numbers = sum(
        part.rows.shape[1] for of_net in parts for part in of_net[: None if stacked else 1]
    )
    table = np.empty((count, numbers), np.float32)
    for start in range(0, count, _AT_ONCE):
        block = slice(start, start + _AT_ONCE)
        of_nets = [[_rows(part, block) for part in of_net] for of_net in parts]
        if not stacked:
            of_nets = [[aggregate.average(of_net)] for of_net in of_nets]
        table[block] = aggregate.stack([each for of_net in of_nets for each in of_net])
    return table


def _rows(part: Store | Memory, block: slice) -> np.ndarray:
    return np.where(part.done[block, None], part.rows[block], np.float32(np.nan))
