"""Which mean is subtracted from an image, and the subtraction: decided here and nowhere else.

    mean = mean_for(colors, config.input.mean, square=256)  # of crops of central squares of 256
    pixels = subtract(pixels, mean, offset)

VGG subtracts the mean RGB (section 2.1). AlexNet subtracts a mean image of the central squares that
its crops are cut from (section 2). A mean image fits only crops of such squares of its own size;
from anything else that such a network is shown, the mean RGB is subtracted.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from deepconv.data.color import ColorStatistics


def mean_for(colors: ColorStatistics, kind: str, *, square: int | None) -> np.ndarray:
    """Return the mean to subtract.

    Args:
      colors: of the training set.
      kind: "rgb" or "image", as `config.input.mean`.
      square: side of the central squares that the images are crops of, in pixels; None for whole
        images and for crops from anywhere in them.

    Returns:
      float32, 0..255: `[3]`, or a mean image `[square, square, 3]`.

    Raises:
      ValueError: if the kind is "image" and the mean image is not known.
    """
    if kind == "image" and colors.mean_image is None:
        raise ValueError("the color statistics have no mean image")
    if kind == "image" and colors.mean_image is not None and len(colors.mean_image) == square:
        return np.asarray(colors.mean_image, np.float32)
    return np.asarray(colors.mean_rgb, np.float32)


def mean_of_central_crop(colors: ColorStatistics, kind: str, crop: int) -> np.ndarray:
    """Return the mean to subtract from central crops.

    Args:
      colors: of the training set.
      kind: "rgb" or "image", as `config.input.mean`.
      crop: side of the crops, in pixels.

    Returns:
      float32, 0..255: `[3]`, or the central part of the mean image, `[crop, crop, 3]`.

    Raises:
      ValueError: if the kind is "image" and the mean image is not known.
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
    # A mean of one number would be broadcast.
    chex.assert_axis_dimension(
        mean, -1, 3, custom_message=f"a mean has 3 channels, not the shape {mean.shape}"
    )
    if mean.ndim == 1:
        return image - mean
    return image - jax.lax.dynamic_slice(mean, (offset[0], offset[1], 0), image.shape)
