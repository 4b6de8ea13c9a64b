"""Offsets against the papers' own and against numpy."""

import jax.numpy as jnp
import numpy as np
import pytest

from deepconv.evaluation import crops

SIZES = [(256, 256), (256, 341), (341, 256), (224, 300), (512, 683), (225, 224), (257, 1001)]


def test_the_ten_crops_of_a_square_of_256_are_alexnets():
    found = crops.ten_crop(jnp.array([[256, 256]]), 224)
    assert found[0].tolist() == [[0, 0], [0, 32], [16, 16], [32, 0], [32, 32]]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_ten_crops_lie_in_the_central_square(height, width):
    found = np.asarray(crops.ten_crop(jnp.array([[height, width]]), 224))[0]
    side = min(height, width)
    first = np.array([(height - side) // 2, (width - side) // 2])
    spare = side - 224
    corners = [[0, 0], [0, spare], [spare // 2, spare // 2], [spare, 0], [spare, spare]]
    np.testing.assert_array_equal(found, first + corners)


@pytest.mark.parametrize(("side", "step"), [(224, 0), (256, 8), (384, 40), (512, 72)])
def test_the_grid_of_a_square_has_even_steps(side, step):
    found = np.asarray(crops.grid(jnp.array([[side, side]]), 224))[0]
    rows, columns = np.divmod(np.arange(25), 5)
    np.testing.assert_array_equal(found, np.stack([rows, columns], -1) * step)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_grid_spans_the_whole_image(height, width):
    found = np.asarray(crops.grid(jnp.array([[height, width]]), 224))[0].reshape(5, 5, 2)
    for axis, length in enumerate((height, width)):
        offsets = found[:, 0, 0] if axis == 0 else found[0, :, 1]
        expected = np.floor(np.linspace(0, length - 224, 5) + 0.5)
        np.testing.assert_array_equal(offsets, expected)
    assert (found[..., 0] == found[:, :1, 0]).all()
    assert (found[..., 1] == found[:1, :, 1]).all()


def test_the_nine_views_of_cifar10_have_the_offsets_of_the_papers_code():
    found = crops.nine_view(jnp.array([[32, 32]]), 24)
    assert found[0].tolist() == [[top, left] for top in (0, 4, 8) for left in (0, 4, 8)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_nine_views_span_the_central_square(height, width):
    found = np.asarray(crops.nine_view(jnp.array([[height, width]]), 224))[0].reshape(3, 3, 2)
    side = min(height, width)
    along = np.floor(np.linspace(0, side - 224, 3) + 0.5).astype(int)
    assert (found[..., 0] == ((height - side) // 2 + along)[:, None]).all()
    assert (found[..., 1] == (width - side) // 2 + along).all()


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_central_crop_is_that_of_training(height, width):
    found = crops.center(jnp.array([[height, width]]), 224)
    assert found.tolist() == [[[(height - 224) // 2, (width - 224) // 2]]]


def test_images_of_several_sizes_have_their_own_offsets():
    sizes = jnp.array(SIZES)
    for offsets in (crops.center, crops.ten_crop, crops.nine_view, crops.grid):
        together = np.asarray(offsets(sizes, 224))
        for row, size in enumerate(SIZES):
            np.testing.assert_array_equal(together[row], offsets(jnp.array([size]), 224)[0])
