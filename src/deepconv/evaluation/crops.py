"""The positions of the papers' test crops: pure functions from image sizes to offsets."""

import jax
import jax.numpy as jnp


def center(extents: jax.Array, crop: int) -> jax.Array:
    """Return the offset of the central crop, rounded down (AlexNet, footnote of Table 1).

    Args:
      extents: `[N, 2]` int, (height, width) of the images in pixels, at least `crop`.
      crop: side of the crop.

    Returns:
      `[N, 1, 2]` int, (top, left).
    """
    return ((extents - crop) // 2)[:, None]


def ten_crop(extents: jax.Array, crop: int) -> jax.Array:
    """Return the corners and the center of the central square (AlexNet, section 4.1).

    With their mirror images these are ten crops. For crops of 224 in a square of 256, the offsets
    are (0, 0), (0, 32), (16, 16), (32, 0), (32, 32).

    Args:
      extents: see `center`.
      crop: side of the crops.

    Returns:
      `[N, 5, 2]` int, (top, left).
    """
    side = extents.min(axis=1, keepdims=True)
    origin, spare = (extents - side) // 2, side - crop
    places = jnp.array([[0, 0], [0, 2], [1, 1], [2, 0], [2, 2]])
    return origin[:, None] + places * spare[:, None] // 2


def nine_view(extents: jax.Array, crop: int) -> jax.Array:
    """Return a 3x3 grid of crops over the central square (the AlexNet paper's CIFAR-10 code).

    This is the test of section 3.3's nets, without mirror images. For crops of 24 in CIFAR-10's 32
    pixels the offsets are 0, 4, 8.

    Args:
      extents: see `center`.
      crop: side of the crops.

    Returns:
      `[N, 9, 2]` int, (top, left), row by row.
    """
    side = extents.min(axis=1, keepdims=True)
    return ((extents - side) // 2)[:, None] + _places(side - crop, 3)


def grid(extents: jax.Array, crop: int) -> jax.Array:
    """Return a 5x5 grid of crops over the whole image (VGG, section 3.2).

    The offsets along an axis are i (length - crop) / 4, rounded, halves up: for 224 in 256 pixels
    0, 8, 16, 24, 32.

    Args:
      extents: see `center`.
      crop: side of the crops.

    Returns:
      `[N, 25, 2]` int, (top, left), row by row.
    """
    return _places(extents - crop, 5)


def _places(spare: jax.Array, side: int) -> jax.Array:
    """Return the offsets of a grid over the spare length: i spare / (side - 1), halves up.

    Args:
      spare: `[N, 2]` int, or `[N, 1]` if it is the same for both axes.
      side: side of the grid.

    Returns:
      `[N, side * side, 2]` int, row by row.
    """
    steps = side - 1
    places = jnp.stack(jnp.meshgrid(jnp.arange(side), jnp.arange(side), indexing="ij"), -1)
    return (2 * places.reshape(-1, 2) * spare[:, None] + steps) // (2 * steps)


def cut(images: jax.Array, corners: jax.Array, crop: int) -> jax.Array:
    """Cut a crop from each image.

    Args:
      images: `[N, H, W, C]`.
      corners: `[N, 2]` int, (top, left) of the crops.
      crop: side of the crops.

    Returns:
      `[N, crop, crop, C]`.
    """

    @jax.vmap
    def one(image: jax.Array, at: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (at[0], at[1], 0), (crop, crop, image.shape[-1]))

    return one(images, corners)
