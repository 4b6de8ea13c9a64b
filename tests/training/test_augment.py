"""Flip, color shift and mean against NumPy, image by image."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepconv import preprocess
from deepconv.data import color
from deepconv.training import augment

EIGENVALUES, EIGENVECTORS = color.IMAGENET.eigenvalues, color.IMAGENET.eigenvectors
MAGNITUDES = color.pca_magnitudes(EIGENVALUES, "lambda")
ALPHAS = np.array([0.1, -0.05, 0.2])
# The shift of these factors with ImageNet's components, in units of the pixels' range.
SHIFT = np.array([-0.012658363, -0.01336077, -0.011661918])


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (16, 6, 8, 3), dtype=np.uint8),
        "offset": rng.integers(0, 5, (16, 2), dtype=np.int32),
        "target": {"label": np.arange(16, dtype=np.int32)},
    }


@pytest.fixture(scope="module")
def mean_image():
    return np.random.default_rng(1).uniform(80, 150, (12, 12, 3)).astype(np.float32)


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def less_mean_image(batch, mean_image):
    height, width = batch["image"].shape[1:3]
    return np.stack(
        [
            image - mean_image[top : top + height, left : left + width]
            for image, (top, left) in zip(
                batch["image"].astype(np.float32), batch["offset"], strict=True
            )
        ]
    )


# Flip.


def test_flip_mirrors_left_and_right_or_does_nothing_half_the_time():
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    where = jnp.arange(5)  # a target that says which column is which
    flip = functools.partial(augment.random_flip, mirror=lambda columns: columns[::-1])
    flipped, columns = jax.vmap(flip, (None, None, 0))(jnp.asarray(image), where, keys(1000))
    flipped = np.asarray(flipped)
    assert flipped.dtype == np.uint8
    mirrored = (flipped == np.flip(image, axis=1)).all(axis=(1, 2, 3))
    same = (flipped == image).all(axis=(1, 2, 3))
    assert np.all(mirrored ^ same)
    np.testing.assert_array_equal(columns[:, 0] == 4, mirrored)
    # 500 in the mean, with a standard deviation of 15.8.
    assert 420 < mirrored.sum() < 580


# Color.


@pytest.mark.parametrize(("magnitudes", "unit"), [(EIGENVALUES, 1), (MAGNITUDES, 255)])
def test_shift_is_the_papers_vector(magnitudes, unit):
    shift = augment.pca_shift(jnp.array(ALPHAS), jnp.array(EIGENVECTORS), jnp.array(magnitudes))
    np.testing.assert_allclose(shift, unit * SHIFT, rtol=2e-6)


def test_shift_is_the_matrix_product():
    rng = np.random.default_rng(2)
    alphas, vectors, magnitudes = rng.normal(size=3), rng.normal(size=(3, 3)), rng.normal(size=3)
    expected = vectors @ np.diag(magnitudes) @ alphas
    shift = augment.pca_shift(*map(jnp.asarray, (alphas, vectors, magnitudes)))
    np.testing.assert_allclose(shift, expected, rtol=1e-5, atol=1e-6)


def test_jitter_adds_one_color_to_all_pixels_of_an_image(batch):
    images = batch["image"].astype(np.float32)
    jitter = jax.vmap(augment.pca_jitter, (0, 0, None, None, None))
    shift = np.asarray(jitter(images, keys(16), EIGENVECTORS, MAGNITUDES, 10.0)) - images
    assert np.ptp(shift, axis=(1, 2)).max() < 1e-3
    # Each image has a shift of its own, and it goes beyond 0..255 without being cut.
    assert len(np.unique(shift[:, 0, 0].round(2), axis=0)) == 16
    assert np.abs(shift).max() > 255


def test_jitter_has_the_covariance_of_the_formula():
    jitter = jax.vmap(augment.pca_jitter, (None, 0, None, None, None))
    black = np.zeros((1, 1, 3), np.float32)
    shifts = np.asarray(jitter(black, keys(8000), EIGENVECTORS, MAGNITUDES, 0.1)).reshape(-1, 3)
    shifts = shifts.astype(np.float64)
    covariance = 0.01 * EIGENVECTORS @ np.diag(MAGNITUDES**2) @ EIGENVECTORS.T
    std = np.sqrt(np.diag(covariance))
    # Of 8000 draws a mean is known to 1.1 percent of a deviation, a deviation to 0.8 percent.
    np.testing.assert_allclose(shifts.mean(axis=0) / std, 0, atol=0.05)
    np.testing.assert_allclose(shifts.std(axis=0), std, rtol=0.04)
    # Along the components: Gaussian, of their deviations, and none goes with another.
    along = shifts @ EIGENVECTORS / (0.1 * MAGNITUDES)
    np.testing.assert_allclose(np.cov(along, rowvar=False), np.eye(3), atol=0.07)
    np.testing.assert_allclose(np.mean(along**4, axis=0), 3, atol=0.4)


# Mean.


def test_mean_color_is_subtracted():
    image = np.random.default_rng(4).integers(0, 256, (6, 8, 3)).astype(np.float32)
    mean = np.array([123.68, 116.779, 103.939], np.float32)
    result = preprocess.subtract(jnp.asarray(image), jnp.asarray(mean), jnp.array([3, 4]))
    np.testing.assert_array_equal(result, image - mean)


@pytest.mark.parametrize("offset", [(0, 0), (6, 4), (2, 0), (0, 3)])
def test_mean_image_is_subtracted_where_the_crop_was(offset, mean_image):
    image = np.random.default_rng(5).integers(0, 256, (6, 8, 3)).astype(np.float32)
    top, left = offset
    result = preprocess.subtract(
        jnp.asarray(image), jnp.asarray(mean_image), jnp.array(offset, jnp.int32)
    )
    np.testing.assert_array_equal(result, image - mean_image[top : top + 6, left : left + 8])


# All of it on a batch.


def test_evaluation_subtracts_each_images_own_part_of_the_mean(batch, mean_image):
    result = augment.for_evaluation(batch, jnp.asarray(mean_image))
    assert result.dtype == jnp.float32
    np.testing.assert_array_equal(result, less_mean_image(batch, mean_image))


def for_training(batch, keys, mean, *, flip, pca_std):
    result, target = augment.for_training(
        batch,
        keys,
        mean=jnp.asarray(mean),
        flip=flip,
        pca_std=pca_std,
        eigenvectors=jnp.asarray(EIGENVECTORS),
        magnitudes=jnp.asarray(MAGNITUDES),
    )
    assert result.dtype == jnp.float32
    for name, values in batch["target"].items():
        np.testing.assert_array_equal(target[name], values)
    return np.asarray(result)


def test_training_without_augmentation_is_evaluation(batch, mean_image):
    result = for_training(batch, keys(16), mean_image, flip=False, pca_std=0.0)
    np.testing.assert_array_equal(result, less_mean_image(batch, mean_image))


def test_training_mirrors_after_the_mean_and_then_shifts(batch, mean_image):
    expected = less_mean_image(batch, mean_image)
    result = for_training(batch, keys(16), mean_image, flip=True, pca_std=0.1)
    straight = np.ptp(result - expected, axis=(1, 2)).max(axis=-1) < 1e-3
    mirrored = np.ptp(result - expected[:, :, ::-1], axis=(1, 2)).max(axis=-1) < 1e-3
    assert np.all(straight ^ mirrored)
    assert 0 < mirrored.sum() < 16
    shifts = np.where(mirrored[:, None], result[:, 0, 0] - expected[:, 0, -1], 0) + np.where(
        straight[:, None], result[:, 0, 0] - expected[:, 0, 0], 0
    )
    assert len(np.unique(shifts.round(3), axis=0)) == 16


def test_an_images_augmentation_depends_on_its_own_key_alone(batch, mean_image):
    whole = for_training(batch, keys(16), mean_image, flip=True, pca_std=0.1)
    for number in (0, 5, 15):
        part = jax.tree.map(lambda values: values[number : number + 1], batch)
        alone = for_training(
            part, keys(16)[number : number + 1], mean_image, flip=True, pca_std=0.1
        )
        np.testing.assert_allclose(alone[0], whole[number], rtol=1e-6, atol=1e-4)
    other = for_training(batch, keys(16, seed=1), mean_image, flip=True, pca_std=0.1)
    assert np.all(np.abs(other - whole).max(axis=(1, 2, 3)) > 1e-3)


def test_flip_and_shift_are_drawn_apart():
    # Were both drawn from one key, the first factor would tell which images are mirrored.
    image = np.zeros((2000, 1, 2, 3), np.uint8)
    image[:, :, 0] = 100
    batch = {"image": image, "offset": np.zeros((2000, 2), np.int32), "target": {}}
    result = for_training(batch, keys(2000), np.zeros(3, np.float32), flip=True, pca_std=0.1)
    mirrored = result[:, 0, 1].mean(axis=-1) > result[:, 0, 0].mean(axis=-1)
    along = (result.sum(axis=2)[:, 0] - 100) @ EIGENVECTORS
    correlation = np.corrcoef(np.concatenate([mirrored[:, None], along], axis=1).T)[0, 1:]
    assert np.abs(correlation).max() < 0.1
