"""Decide which mean to subtract from an image, and subtract it; no other module does.

    mean = mean_for(colors, config.input.mean, square=256)  # for crops of central 256-pixel squares
    pixels = subtract(pixels, mean, offset)

VGG subtracts the mean RGB (section 2.1). AlexNet subtracts a mean image of the central squares that
its crops are cut from (section 2). A mean image fits only crops of central squares of its
own size; from any other input, such a network subtracts the mean RGB.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from deepconv.data.color import ColorStatistics


def mean_for(colors: ColorStatistics, kind: str, *, square: int | None) -> np.ndarray:
    """Return the mean to subtract.

    Args:
      colors: the training set's color statistics.
      kind: "rgb" or "image", as `config.input.mean`.
      square: side of the central squares that the images are crops of, in pixels; None for whole
        images and for crops from anywhere in them.

    Returns:
      float32, 0..255: `[3]`, or a mean image `[square, square, 3]`.

    Raises:
      ValueError: if the kind is "image" and there is no mean image.
    """
    if kind == "image" and colors.mean_image is None:
        raise ValueError("the color statistics have no mean image")
    if kind == "image" and colors.mean_image is not None and len(colors.mean_image) == square:
        return np.asarray(colors.mean_image, np.float32)
    return np.asarray(colors.mean_rgb, np.float32)


def mean_of_central_crop(colors: ColorStatistics, kind: str, crop: int) -> np.ndarray:
    """Return the mean to subtract from central crops.

    Args:
      colors: the training set's color statistics.
      kind: "rgb" or "image", as `config.input.mean`.
      crop: side of the crops, in pixels.

    Returns:
      float32, 0..255: `[3]`, or the central part of the mean image, `[crop, crop, 3]`.

    Raises:
      ValueError: if the kind is "image" and there is no mean image.
    """
    square = None if colors.mean_image is None else len(colors.mean_image)
    mean = mean_for(colors, kind, square=square)
    if mean.ndim == 1:
        return mean
    start = (len(mean) - crop) // 2
    return mean[start : start + crop, start : start + crop]


def subtract(image: jax.Array, mean: jax.typing.ArrayLike, offset: jax.Array) -> jax.Array:
    """Subtract the mean from one image.

    Args:
      image: `[H, W, 3]` float, 0..255.
      mean: `[3]`, or a mean image `[S, S, 3]` of which the crop's own part is subtracted.
      offset: `[2]` int32, top and left of the crop in the SxS square.

    Returns:
      float `[H, W, 3]`.
    """
    mean = jnp.asarray(mean)
    # Without this check, a mean with one channel would be broadcast.
    chex.assert_axis_dimension(
        mean, -1, 3, custom_message=f"the mean must have 3 channels, not shape {mean.shape}"
    )
    if mean.ndim == 1:
        return image - mean
    return image - jax.lax.dynamic_slice(mean, (offset[0], offset[1], 0), image.shape)
