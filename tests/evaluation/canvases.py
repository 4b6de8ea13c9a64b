"""Images of several sizes on canvases, for the tests of whole images."""

import jax.numpy as jnp
import numpy as np


def noise(*sizes, seed=0):
    """Return images of different contents, and their sizes."""
    rng = np.random.default_rng(seed)
    images = []
    for height, width in sizes:
        coarse = rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3)).astype(np.uint8)
        images.append(np.kron(coarse, np.ones((8, 8, 1), np.uint8))[:height, :width])
    return images


def on_canvas(images, height, width, fill=0):
    """Return images in the upper left of canvases, and their sizes."""
    canvas = np.full((len(images), height, width, 3), fill, np.uint8)
    for row, image in enumerate(images):
        canvas[row, : image.shape[0], : image.shape[1]] = image
    return jnp.asarray(canvas), jnp.array([image.shape[:2] for image in images])
