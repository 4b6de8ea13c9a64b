"""Compute log posteriors of images, from crops or densely, by pure functions.

    logs = of_crops(network, params, images, extents, mean, offsets=crops.ten_crop, mirror=True)
    logs = of_whole(network, params, images, extents, mean)  # dense

Logs, because in float32 a class whose score is some 100 below the best has a posterior of 0, and
all such classes would tie. Posteriors p_k are averaged as log sum_k exp(log p_k) - log K.

Images of several sizes share a canvas: each is in its upper left, `extents` gives its size.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp

from deepconv import preprocess
from deepconv.evaluation import crops
from deepconv.models import Network
from deepconv.models.layers import inside, mirrored, zero_beyond

Average = Literal["scores", "posteriors"]
# From scores `[..., C]` to the logs of posteriors.
LogsOf = Callable[[jax.Array], jax.Array]


def of_crops(
    network: Network,
    params: Any,
    images: jax.Array,
    extents: jax.Array,
    mean: jax.typing.ArrayLike,
    *,
    offsets: Callable[[jax.Array, int], jax.Array],
    mirror: bool,
    logs_of: LogsOf = jax.nn.log_softmax,
) -> jax.Array:
    """Average the posteriors of crops, in logs (AlexNet section 4.1, VGG section 3.2).

    Args:
      network: the network; its `crop` is the crops' side.
      params: its parameters.
      images: uint8 RGB `[N, H, W, 3]`, each in the upper left of its canvas.
      extents: `[N, 2]` int, (height, width) of the images.
      mean: `[3]`, or a mean image `[S, S, 3]` of central squares, which the crops must lie in.
      offsets: function from extents and the crop's side to `[N, K, 2]`, see `crops`.
      mirror: whether each crop's mirror image counts too.
      logs_of: makes log posteriors of scores; of a network that predicts each class by itself,
        `jax.nn.log_sigmoid`.

    Returns:
      log posteriors, float32 `[N, C]`.

    Raises:
      ValueError: if the canvas is smaller than a crop.
    """
    crop = network.crop
    if min(images.shape[1:3]) < crop:
        raise ValueError(f"no crop of {crop} fits a canvas of {images.shape[1]}x{images.shape[2]}")
    squares = (extents - extents.min(axis=1, keepdims=True)) // 2

    without_mean = jax.vmap(preprocess.subtract, in_axes=(0, None, 0))

    def one(places: jax.Array) -> jax.Array:
        windows = crops.cut(images, places, crop).astype(jnp.float32)
        windows = without_mean(windows, mean, places - squares)
        if mirror:
            windows = jnp.concatenate([windows, windows[:, :, ::-1]])
        scores: Any = network.apply({"params": params}, windows)
        chex.assert_shape(
            scores,
            (None, 1, 1, None),
            custom_message=f"the score map of crops of {crop} pixels is not 1x1",
        )
        logs = logs_of(scores[:, 0, 0, :])
        return _mean(logs.reshape(-1, len(images), logs.shape[-1]))

    # One position at a time: its crops are a batch, and all crops at once would not fit in memory.
    return _mean(jax.lax.map(one, jnp.moveaxis(offsets(extents, crop), 1, 0)))


def _mean(logs: jax.Array) -> jax.Array:
    """Average posteriors over the first axis, given and returned as logs."""
    return jax.nn.logsumexp(logs, axis=0) - math.log(len(logs))


def of_whole(
    network: Network,
    params: Any,
    images: jax.Array,
    extents: jax.Array,
    mean: jax.typing.ArrayLike,
    *,
    average: Average = "scores",
    logs_of: LogsOf = jax.nn.log_softmax,
) -> jax.Array:
    """Score whole images densely, and their mirror images (VGG section 3.2).

    The class scores are averaged over the map, then the softmax is taken; the posteriors of an
    image and its mirror image are averaged.

    Args:
      network: a fully convolutional net.
      params: its parameters.
      images: uint8 RGB `[N, H, W, 3]`, each in the upper left of its canvas.
      extents: `[N, 2]` int, (height, width) of the images, large enough for a map of 1x1.
      mean: `[3]`.
      average: "scores" as in the paper, or "posteriors": softmax at every position of the map, then
        the mean.
      logs_of: see `of_crops`.

    Returns:
      log posteriors, float32 `[N, C]`.
    """
    score_map, sizes = maps_with_mirror(network, params, images, extents, mean)
    if average == "scores":
        logs = logs_of(mean_over_map(score_map, sizes))
    else:
        own = inside(sizes, score_map.shape[1], score_map.shape[2])
        at_each = logs_of(score_map)
        places = sizes.prod(axis=1)[:, None]
        logs = jax.nn.logsumexp(at_each, axis=(1, 2), where=own) - jnp.log(places)
    return _mean(logs.reshape(2, len(images), -1))


def maps_with_mirror(
    network: Network,
    params: Any,
    images: jax.Array,
    extents: jax.Array,
    mean: jax.typing.ArrayLike,
) -> tuple[jax.Array, jax.Array]:
    """Apply a network to whole images, then to their mirror images.

    Args:
      network: a fully convolutional net.
      params: its parameters.
      images: uint8 RGB `[N, H, W, 3]`, each in the upper left of its canvas.
      extents: `[N, 2]` int, (height, width) of the images.
      mean: `[3]`.

    Returns:
      The maps `[2 N, h, w, C]`, those of the mirror images last, and the (height, width) `[2 N, 2]`
      of each image's own part; what is beyond it is meaningless.
    """
    pixels = images.astype(jnp.float32) - mean
    pixels = jnp.concatenate([pixels, mirrored(pixels, extents)])
    both = jnp.concatenate([extents, extents])
    maps: Any = network.apply({"params": params}, pixels, extents=both)
    return maps, network.map_extents(both)


def mean_over_map(maps: jax.Array, sizes: jax.Array) -> jax.Array:
    """Average maps `[N, h, w, C]` over their own (height, width), `sizes` `[N, 2]`: `[N, C]`."""
    return zero_beyond(maps, sizes).sum(axis=(1, 2)) / sizes.prod(axis=1)[:, None]
