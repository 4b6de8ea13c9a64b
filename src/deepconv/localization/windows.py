"""Boxes of whole images, from the central crop or from every place of the map; pure.

    boxes = of_center(network, params, images, extents, mean, labels=labels)
    found = of_whole(network, params, images, extents, mean, class_maps=..., classes=top5, most=108)

A network for boxes is fully convolutional like a classifier: on an image larger than its crop it
gives a map, at each place of which is the box of the crop that begins `stride` pixels further.
Images of several sizes share a canvas: each lies in its upper left, `extents` says how large it is.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from deepconv import boxes
from deepconv.evaluation import crops
from deepconv.models import Network
from deepconv.models.layers import Layer, inside
from deepconv.models.summary import layer_table


def stride_of(layers: Sequence[Layer], crop: int) -> int:
    """Return how many pixels two neighboring places of a network's map are apart."""
    return layer_table(layers, crop)[-1].stride


def of_center(
    network: Network,
    params: Any,
    images: jax.Array,
    extents: jax.Array,
    mean: jax.typing.ArrayLike,
    *,
    labels: jax.Array,
) -> jax.Array:
    """Return the box of a given class from the central crop (VGG appendix A, Table 8).

    Args:
      network: with one box, or one for each class.
      params: its parameters.
      images: uint8 RGB `[N, H, W, 3]`, each in the upper left of its canvas.
      extents: `[N, 2]` int, (height, width) of the images.
      mean: `[3]`.
      labels: int `[N]`, the class of each image.

    Returns:
      float32 `[N, 4]`, (xmin, ymin, xmax, ymax) as fractions of the image.
    """
    crop = network.crop
    corners = crops.center(extents, crop)[:, 0]
    pixels = crops.cut(images, corners, crop).astype(jnp.float32) - mean
    outputs: Any = network.apply({"params": params}, pixels)
    codes = _of_classes(outputs, labels[:, None])[:, 0, 0, 0]
    return _to_image(codes, corners, extents, crop)


def of_whole(
    network: Network,
    params: Any,
    images: jax.Array,
    extents: jax.Array,
    mean: jax.typing.ArrayLike,
    *,
    class_maps: jax.Array,
    classes: jax.Array,
    most: int,
) -> jax.Array:
    """Return the boxes of some classes at every place of the map (VGG appendix A).

    Args:
      network: with one box, or one for each class.
      params: its parameters.
      images: uint8 RGB `[N, H, W, 3]`, each in the upper left of its canvas.
      extents: `[N, 2]` int, (height, width) of the images.
      mean: `[3]`.
      class_maps: `[N, h, w, C]` float32, a classifier's scores at the same places.
      classes: `[N, K]` int, the classes whose boxes are wanted.
      most: number of places P; of a larger map, those count where one of the classes has the
        highest posteriors.

    Returns:
      float32 `[N, P, K, 5]`, (xmin, ymin, xmax, ymax) as fractions of the image and the posterior
      of the class at the place; NaN beyond the image's own part of the map. Places are in rows from
      the upper left.
    """
    pixels = images.astype(jnp.float32) - mean
    outputs: Any = network.apply({"params": params}, pixels, extents=extents)
    count, rows, columns = outputs.shape[:3]
    sizes = network.map_extents(extents)
    stride = stride_of(network.layers, network.crop)
    at = stride * jnp.stack(jnp.meshgrid(jnp.arange(rows), jnp.arange(columns), indexing="ij"), -1)
    corners = jnp.broadcast_to(at[None, :, :, None], (count, rows, columns, 1, 2))
    found = _to_image(
        _of_classes(outputs, classes), corners, extents[:, None, None, None], network.crop
    )
    posteriors = jnp.take_along_axis(
        jax.nn.softmax(class_maps), classes[:, None, None, :], axis=3, mode="clip"
    )
    together = jnp.concatenate([found, posteriors[..., None]], axis=-1)
    own = inside(sizes, rows, columns)
    together = jnp.where(own[..., None], together, jnp.nan)
    places = together.reshape(count, rows * columns, *together.shape[3:])
    if rows * columns <= most:
        spare = most - rows * columns
        padding = [(0, 0), (0, spare), (0, 0), (0, 0)]
        return jnp.pad(places, padding, constant_values=jnp.nan)
    highest = jnp.where(jnp.isnan(places[..., 4]), -1.0, places[..., 4]).max(axis=2)
    _, kept = jax.lax.top_k(highest, most)
    kept = jnp.sort(kept, axis=1)
    return jnp.take_along_axis(places, kept[:, :, None, None], axis=1)


def _of_classes(outputs: jax.Array, classes: jax.Array) -> jax.Array:
    """Return the boxes `[N, h, w, K, 4]` of classes `[N, K]` from `[N, h, w, 4 or 4 C]`."""
    by_class = outputs.reshape(*outputs.shape[:3], -1, 4)
    if by_class.shape[3] == 1:
        return jnp.broadcast_to(by_class, (*outputs.shape[:3], classes.shape[1], 4))
    return jnp.take_along_axis(by_class, classes[:, None, None, :, None], axis=3, mode="clip")


def _to_image(codes: jax.Array, corners: jax.Array, extents: jax.Array, crop: int) -> jax.Array:
    """Return codes `[..., 4]` of crops as boxes of the image.

    Args:
      codes: (cx, cy, w, h) as fractions of a crop.
      corners: `[..., 2]`, (top, left) of the crops, in pixels.
      extents: `[..., 2]`, (height, width) of the images, in pixels.
      crop: side of the crops, in pixels.
    """
    start = jnp.concatenate([corners[..., ::-1]] * 2, axis=-1)
    size = jnp.concatenate([extents[..., ::-1]] * 2, axis=-1)
    found: jax.Array = (boxes.decode(codes) * crop + start) / size
    return found
