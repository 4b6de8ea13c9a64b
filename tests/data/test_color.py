"""Mean, mean image and components against NumPy on all pixels at once."""

import io

import numpy as np
import PIL.Image
import pytest

from deepconv import preprocess
from deepconv.data import color, decode
from deepconv.exceptions import UserError

SCALE = 16
# Shorter side SCALE: nothing is resampled, and the squares are slices.
SIZES = [(16, 16), (16, 23), (31, 16), (16, 20), (18, 16), (16, 17), (16, 40)]


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(3)
    # Channels with different spreads that go together in part, so that the components differ.
    mixing = np.array([[0.5, 0.1, 0.05], [0.5, 0.0, -0.1], [0.5, -0.1, 0.05]])
    images = []
    for height, width in SIZES:
        values = 100 + rng.normal(size=3) * 20 + rng.normal(size=(height, width, 3)) * 60 @ mixing.T
        images.append(np.clip(values, 0, 255).astype(np.uint8))
    return images


@pytest.fixture(scope="module")
def source(images, encode):
    return [{"image": encode(pixels, "PNG"), "label": 0} for pixels in images]


@pytest.fixture(scope="module")
def statistics(source):
    return color.of_training_set(source, SCALE, threads=2)


@pytest.fixture(scope="module")
def squares(images):
    squares = []
    for pixels in images:
        top, left = ((side - SCALE) // 2 for side in pixels.shape[:2])
        squares.append(pixels[top : top + SCALE, left : left + SCALE].astype(np.float64))
    return np.stack(squares)


def assert_same(one, other):
    for field in color.ColorStatistics._fields:
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def test_mean_is_that_of_all_pixels(statistics, squares):
    np.testing.assert_allclose(statistics.mean_rgb, squares.mean(axis=(0, 1, 2)), rtol=1e-12)


def test_mean_image_is_that_of_all_squares(statistics, squares):
    assert statistics.mean_image.dtype == np.float32
    np.testing.assert_allclose(statistics.mean_image, squares.mean(axis=0), rtol=1e-6)


def test_components_are_those_of_the_covariance_in_unit_range(statistics, squares):
    covariance = np.cov(squares.reshape(-1, 3) / 255, rowvar=False, bias=True)
    values, vectors = statistics.eigenvalues, statistics.eigenvectors
    np.testing.assert_allclose(vectors * values @ vectors.T, covariance, rtol=1e-9)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(covariance)[::-1], rtol=1e-9)


def test_images_are_rescaled_before_they_are_cropped(source):
    statistics = color.of_training_set(source, 12, threads=2)
    squares = []
    for record in source:
        image = PIL.Image.open(io.BytesIO(record["image"]))
        height, width = decode.rescaled_size(image.height, image.width, 12)
        resized = np.asarray(image.resize((width, height), PIL.Image.Resampling.BILINEAR))
        top, left = (height - 12) // 2, (width - 12) // 2
        squares.append(resized[top : top + 12, left : left + 12].astype(np.float64))
    expected = np.mean(squares, axis=0)
    assert statistics.mean_image.shape == (12, 12, 3)
    np.testing.assert_allclose(statistics.mean_image, expected, atol=1)
    np.testing.assert_allclose(statistics.mean_rgb, expected.mean(axis=(0, 1)), atol=0.1)


def test_order_and_threads_change_no_bit(source, statistics):
    assert_same(color.of_training_set(source[::-1], SCALE, threads=1), statistics)
    assert_same(color.of_training_set(source, SCALE, threads=5), statistics)


def test_unreadable_images_are_left_out(source, statistics, truncated):
    broken = [{"image": truncated, "label": 0}, {"image": b"", "label": 0}]
    assert_same(color.of_training_set([*broken, *source], SCALE), statistics)


def test_nothing_readable_is_an_error(truncated):
    with pytest.raises(UserError, match="no image"):
        color.of_training_set([{"image": truncated, "label": 0}], SCALE)


# The components of a covariance.


@pytest.mark.parametrize("seed", range(8))
def test_principal_components_rebuild_the_covariance(seed):
    root = np.random.default_rng(seed).normal(size=(3, 3))
    covariance = root @ root.T
    values, vectors = color.principal_components(covariance)
    np.testing.assert_allclose(vectors @ np.diag(values) @ vectors.T, covariance, atol=1e-12)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-12)
    assert values[0] >= values[1] >= values[2]
    for column in vectors.T:
        assert column[np.abs(column).argmax()] > 0


def test_principal_components_of_a_covariance_solved_by_hand():
    values, vectors = color.principal_components(np.array([[2, 0, 0], [0, 5, -4], [0, -4, 5.0]]))
    np.testing.assert_allclose(values, [9, 2, 1], atol=1e-12)
    half = np.sqrt(0.5)
    # Which of two equally large entries is the positive one, rounding decides.
    np.testing.assert_allclose(
        np.abs(vectors), [[0, 1, 0], [half, 0, half], [half, 0, half]], atol=1e-12
    )
    assert vectors[1, 0] == pytest.approx(-vectors[2, 0])
    assert vectors[1, 2] == pytest.approx(vectors[2, 2])


def test_imagenet_components_are_orthonormal():
    vectors = color.IMAGENET.eigenvectors
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=5e-5)


# What multiplies the random factors.


def test_lambda_is_the_eigenvalue_of_unit_range_pixels():
    magnitudes = color.pca_magnitudes(color.IMAGENET.eigenvalues, "lambda")
    np.testing.assert_allclose(magnitudes, [55.4625, 4.794, 1.1475], rtol=1e-12)


def test_sqrt_is_the_standard_deviation():
    # In 0..255 units, so that the shift's scale is that of the pixels themselves.
    np.testing.assert_allclose(
        color.pca_magnitudes(np.array([0.25, 0.01, 0.0004]), "sqrt"), [127.5, 25.5, 5.1], rtol=1e-12
    )


def test_unknown_convention_is_an_error():
    with pytest.raises(ValueError, match="variance"):
        color.pca_magnitudes(np.ones(3), "variance")


# What is subtracted.


def test_the_mean_that_a_config_names_is_subtracted(statistics):
    side = len(statistics.mean_image)
    image = preprocess.mean_for(statistics, "image", square=side)
    np.testing.assert_array_equal(image, statistics.mean_image)
    # A mean image fits crops of central squares of its own size alone.
    rgb = statistics.mean_rgb.astype(np.float32)
    for kind, square in (("rgb", side), ("image", None), ("image", side + 1)):
        found = preprocess.mean_for(statistics, kind, square=square)
        np.testing.assert_array_equal(found, rgb)
    published = preprocess.mean_for(color.IMAGENET, "rgb", square=side)
    np.testing.assert_array_equal(published, np.float32([123.68, 116.779, 103.939]))
    with pytest.raises(ValueError, match="no mean image"):
        preprocess.mean_for(color.IMAGENET, "image", square=side)


def test_a_central_crop_has_the_central_part_of_the_mean_image_subtracted(statistics):
    side = len(statistics.mean_image)
    part = preprocess.mean_of_central_crop(statistics, "image", side - 3)
    np.testing.assert_array_equal(part, statistics.mean_image[1:-2, 1:-2])
    np.testing.assert_array_equal(
        preprocess.mean_of_central_crop(statistics, "rgb", side - 3),
        statistics.mean_rgb.astype(np.float32),
    )


# Keeping them.


class Untouchable:
    def __len__(self):
        raise AssertionError("the source was asked for its length")

    def __getitem__(self, record):
        raise AssertionError("the source was read")


def test_stored_statistics_are_computed_once(tmp_path, source, statistics):
    path = tmp_path / "color.npz"
    assert_same(color.stored(source, SCALE, path), statistics)
    assert [entry.name for entry in tmp_path.iterdir()] == ["color.npz"]
    read = color.stored(Untouchable(), SCALE, path)
    assert_same(read, statistics)
    assert read.mean_image.dtype == np.float32


def test_statistics_that_cannot_be_kept_are_computed_all_the_same(tmp_path, caplog, encode):
    source = [{"image": encode(np.full((8, 8, 3), 7, np.uint8), "PNG")}]
    (tmp_path / "file").write_text("")
    statistics = color.stored(source, 8, tmp_path / "file" / "color.npz")
    np.testing.assert_allclose(statistics.mean_rgb, 7)
    assert "file/color.npz" in caplog.text


def test_statistics_that_would_have_to_be_unpickled_are_refused(tmp_path):
    arrays = {"mean_rgb": np.array([print], object), "eigenvalues": 0, "eigenvectors": 0}
    np.savez(tmp_path / "colors.npz", **arrays)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        color.load(tmp_path / "colors.npz")
