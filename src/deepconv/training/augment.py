"""Preprocessing on the device: flip, RGB PCA jitter, mean; pure functions of (image, key).

Written for one image; `jax.vmap` batches them, with one key per image.
"""

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from deepconv import preprocess


def unchanged(target: Any) -> Any:
    """Return a target, such as a label, that stays the same when its image is mirrored."""
    return target


def random_flip(
    image: jax.Array, target: Any, key: jax.Array, mirror: Callable[[Any], Any] = unchanged
) -> tuple[jax.Array, Any]:
    """Mirror left and right with probability 1/2 (AlexNet section 4.1).

    Args:
      image: `[H, W, 3]`, any dtype.
      target: of the image, a tree of arrays.
      key: PRNG key.
      mirror: from the target to that of the mirror image.

    Returns:
      The image and its target, both mirrored or neither.
    """
    flip = jax.random.bernoulli(key)
    both = (image[:, ::-1], mirror(target)), (image, target)
    chosen: tuple[jax.Array, Any] = jax.tree.map(functools.partial(jnp.where, flip), *both)
    return chosen


def pca_shift(alphas: jax.Array, eigenvectors: jax.Array, magnitudes: jax.Array) -> jax.Array:
    """Return the color shift [p1 p2 p3] [a1 m1, a2 m2, a3 m3]^T (AlexNet section 4.1).

    Args:
      alphas: `[3]`, the image's random numbers.
      eigenvectors: `[3, 3]`, rows R, G, B, columns components.
      magnitudes: `[3]`, in the same units as the pixels; see `color.pca_magnitudes`.

    Returns:
      `[3]` R, G, B, in the units of `magnitudes`.
    """
    chex.assert_shape(
        [alphas, eigenvectors, magnitudes],
        [(3,), (3, 3), (3,)],
        custom_message="alphas and magnitudes must be [3], eigenvectors [3, 3]",
    )
    # Three products and a sum by hand: a matrix product would run at the accelerator's reduced
    # precision.
    return jnp.sum(eigenvectors * (alphas * magnitudes), axis=1)


def pca_jitter(
    image: jax.Array, key: jax.Array, eigenvectors: jax.Array, magnitudes: jax.Array, std: float
) -> jax.Array:
    """Add the same random color shift to every pixel of an image.

    Args:
      image: `[H, W, 3]` float, 0..255; the result is not clipped.
      key: PRNG key.
      eigenvectors: `[3, 3]`, see `pca_shift`.
      magnitudes: `[3]`, in 0..255 units.
      std: standard deviation of the three Gaussian factors, 0.1 in the paper.
    """
    alphas = std * jax.random.normal(key, (3,))
    return image + pca_shift(alphas, eigenvectors, magnitudes)


def for_evaluation(batch: dict[str, Any], mean: jax.Array) -> jax.Array:
    """Return a batch's crops as a network takes them: float32 `[N, H, W, 3]`, mean subtracted."""
    images = batch["image"].astype(jnp.float32)
    return jax.vmap(preprocess.subtract, in_axes=(0, None, 0))(images, mean, batch["offset"])


def for_training(
    batch: dict[str, Any],
    keys: jax.Array,
    *,
    mean: jax.Array,
    flip: bool,
    pca_std: float,
    eigenvectors: jax.Array,
    magnitudes: jax.Array,
    mirror: Callable[[Any], Any] = unchanged,
) -> tuple[jax.Array, Any]:
    """Augment a batch's crops and subtract the mean.

    Args:
      batch: a dict with `image` uint8 `[N, H, W, 3]`, `offset` and `target`.
      keys: `[N]`, one per image.
      mean: see `preprocess.subtract`.
      flip: whether to mirror at random.
      pca_std: see `pca_jitter`; 0 leaves the colors unchanged.
      eigenvectors: see `pca_shift`.
      magnitudes: see `pca_shift`.
      mirror: from one target to that of the mirror image.

    Returns:
      The images, float32 `[N, H, W, 3]`, and their targets.
    """
    images, target = for_evaluation(batch, mean), batch["target"]
    split = jax.vmap(jax.random.split)(keys)
    if flip:
        flipped = functools.partial(random_flip, mirror=mirror)
        images, target = jax.vmap(flipped)(images, target, split[:, 0])
    if pca_std:
        jitter = jax.vmap(pca_jitter, in_axes=(0, 0, None, None, None))
        images = jitter(images, split[:, 1], eigenvectors, magnitudes, pca_std)
    return images, target
