"""Where the papers' test crops lie: pure functions from the sizes of images to offsets."""

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

    With their mirror images these are ten. In a square of 256: (0, 0), (0, 32), (16, 16), (32, 0),
    (32, 32) for crops of 224.

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


def grid(extents: jax.Array, crop: int, side: int = 5) -> jax.Array:
    """Return a regular grid of crops over the whole image (VGG, section 3.2).

    The offsets along an axis are i (length - crop) / (side - 1), rounded, a half upwards: for 224
    in 256 pixels 0, 8, 16, 24, 32.

    Args:
      extents: see `center`.
      crop: side of the crops.
      side: of the grid, in crops.

    Returns:
      `[N, side * side, 2]` int, (top, left), row by row.
    """
    steps = side - 1
    places = jnp.stack(jnp.meshgrid(jnp.arange(side), jnp.arange(side), indexing="ij"), -1)
    spare = (extents - crop)[:, None]
    return (2 * places.reshape(-1, 2) * spare + steps) // (2 * steps)
