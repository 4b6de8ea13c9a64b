"""The descriptor of a whole image, and descriptors joined over scales and networks; pure.

    network = activations.cut(model.network, [aggregate.penultimate(model.network)])
    function = lambda *arguments: aggregate.of_whole(network, *arguments, mean)
    rows.compute(function, model.params, ...)  # [N, D], once for every scale Q
    aggregate.stack([at_256, at_384, at_512])  # [N, 3 D]

Every number is a float32: net D at three scales, stacked, is 12,288 numbers or 48 KiB an image, all
9,144 images of Caltech-101 together 429 MiB.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from deepconv.evaluation import posteriors
from deepconv.exceptions import UserError
from deepconv.models import Network
from deepconv.models.layers import Conv, Dropout, LocalConv, map_size


def penultimate(network: Network) -> str:
    """Return the layer that the classifier sees, dropout aside: relu7 of the papers' networks.

    The paper says "penultimate layer"; as in public code, that is after the ReLU.

    Raises:
      ValueError: if no layer but dropout is in front of the classifier.
    """
    layers = network.layers
    classifier = max(
        (at for at, layer in enumerate(layers) if isinstance(layer, Conv | LocalConv)), default=0
    )
    before = [layer.name for layer in layers[:classifier] if not isinstance(layer, Dropout)]
    if not before:
        raise ValueError("there is no layer in front of the classifier")
    return before[-1]


def require_dense(network: Network, scale: int) -> None:
    """Check that a network can be applied densely to images of a scale.

    Args:
      network: as far as the layer whose activations are wanted.
      scale: the shorter side Q of the images, in pixels.

    Raises:
      UserError: if a layer is locally connected, or the scale is too small for a map of 1x1.
    """
    local = [layer.name for layer in network.layers if isinstance(layer, LocalConv)]
    if local:
        raise UserError(
            f"{local[0]} is locally connected, so the network cannot be applied to whole images "
            "from there on; choose a layer before it"
        )
    try:
        map_size(network.layers, scale)
    except ValueError as error:
        raise UserError(f"Q={scale} is too small: {error}") from None


def of_whole(
    network: Network,
    params: Any,
    images: jax.Array,
    extents: jax.Array,
    mean: jax.typing.ArrayLike,
) -> jax.Array:
    """Describe whole images by activations averaged over all places (VGG appendix B).

    d = (a + a') / 2, a the mean of the last layer's map over its h * w places, a' that of the
    mirror image. Not normalized yet, see `average` and `stack`.

    Args:
      network: a fully convolutional net as far as the layer whose activations are wanted.
      params: its parameters; those of further layers are not used.
      images: uint8 RGB `[N, H, W, 3]`, each in the upper left of its canvas.
      extents: `[N, 2]` int, (height, width) of the images, large enough for a map of 1x1. The
        average is over the image's own part of the map, as if it were alone.
      mean: `[3]`.

    Returns:
      float32 `[N, D]`, D the channels of the last layer.

    Raises:
      ValueError: if a layer is locally connected.
    """
    if any(isinstance(layer, LocalConv) for layer in network.layers):
        raise ValueError("a network with locally connected layers cannot be applied densely")
    maps, sizes = posteriors.maps_with_mirror(network, params, images, extents, mean)
    means = posteriors.mean_over_map(maps, sizes)
    return means.reshape(2, len(images), -1).mean(axis=0)


def normalize(descriptors: np.ndarray) -> np.ndarray:
    """Divide each descriptor by its length, x / sqrt(sum_i x_i^2); one of zeros stays so.

    Args:
      descriptors: `[N, D]`.

    Returns:
      float32 `[N, D]`.
    """
    x = np.asarray(descriptors, np.float32)
    lengths = np.sqrt(np.einsum("nd,nd->n", x, x, dtype=np.float64))
    lengths[lengths == 0] = 1
    unit = np.empty_like(x)
    np.divide(x, lengths[:, None], out=unit, casting="same_kind")
    return unit


def average(descriptors: Sequence[np.ndarray]) -> np.ndarray:
    """Average the descriptors of several scales, then normalize (VGG appendix B, VOC).

    Args:
      descriptors: of each scale, `[N, D]`.

    Returns:
      float32 `[N, D]`, each of length 1.

    Raises:
      ValueError: if there are none, or their shapes differ.
    """
    shapes = {part.shape for part in descriptors}
    if len(shapes) != 1:
        raise ValueError(f"descriptors to average have one shape, not {sorted(shapes)}")
    total = np.zeros(shapes.pop(), np.float32)
    for part in descriptors:
        total += part
    total /= len(descriptors)
    return normalize(total)


def stack(descriptors: Sequence[np.ndarray]) -> np.ndarray:
    """Normalize descriptors, join them to a longer one, normalize that (VGG appendix B).

    For scales (Caltech), networks (D and E), or an image and the box of a person in it (actions).
    The paper does not say where it normalizes. Every part counts alike here; the last division, by
    sqrt(K) for K parts none of which is zero, only keeps lengths at 1, so that one C suits all.

    Args:
      descriptors: K of them, `[N, D_k]`.

    Returns:
      float32 `[N, sum of D_k]`, each of length 1.

    Raises:
      ValueError: if there are none, or they are of different numbers of images.
    """
    images = {len(part) for part in descriptors}
    if len(images) != 1:
        raise ValueError(f"descriptors to stack are of the same images, not of {sorted(images)}")
    return normalize(np.concatenate([normalize(part) for part in descriptors], axis=1))
