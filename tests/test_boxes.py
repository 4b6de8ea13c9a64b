"""Boxes against the same in loops over single numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepconv import boxes
from deepconv.data.decode import Crop


def drawn(count, seed=0):
    low, high = np.sort(np.random.default_rng(seed).uniform(size=(2, count, 2)), axis=0)
    return np.concatenate([low, high], axis=1)


def iou_of_one(a, b):
    wide = min(a[2], b[2]) - max(a[0], b[0])
    tall = min(a[3], b[3]) - max(a[1], b[1])
    shared = wide * tall if wide > 0 and tall > 0 else 0.0
    whole = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / whole


def test_iou_is_that_of_each_pair_alone():
    some, others = drawn(40), drawn(30, seed=1)
    found = boxes.iou(some[:, None], others)
    expected = [[iou_of_one(a, b) for b in others] for a in some]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert (found > 0).any()
    assert (found == 0).any()


def test_iou_of_known_boxes():
    box = np.array([0.0, 0.0, 1.0, 1.0])
    others = np.array(
        [
            [0.0, 0.0, 1.0, 1.0],  # itself
            [0.0, 0.0, 0.5, 1.0],  # its half
            [0.5, 0.0, 1.5, 1.0],  # a third
            [1.0, 0.0, 2.0, 1.0],  # beside it
            [0.9, 0.9, 0.1, 0.1],  # turned around
            [0.3, 0.3, 0.3, 0.3],  # empty
        ]
    )
    np.testing.assert_allclose(boxes.iou(box, others), [1, 0.5, 1 / 3, 0, 0, 0], rtol=1e-15)
    assert boxes.iou(others[-1], others[-1]) == 0  # not 0/0


def test_decoding_undoes_encoding():
    some = drawn(100)
    codes = boxes.encode(some)
    np.testing.assert_allclose(boxes.decode(codes), some, atol=1e-15)
    np.testing.assert_allclose(codes[:, 2] * codes[:, 3], boxes.area(some), rtol=1e-12)
    known = boxes.encode(np.array([0.25, 0.5, 0.75, 1.0]))
    np.testing.assert_array_equal(known, [0.5, 0.75, 0.5, 0.5])
    narrow = boxes.decode(np.array([0.5, 0.5, -0.25, 0.5]))
    np.testing.assert_array_equal(narrow, [0.5, 0.25, 0.5, 0.75])


def test_mirroring_is_that_of_the_pixels():
    mask = np.zeros((20, 30), bool)
    mask[3:9, 4:25] = True
    box = np.array([4 / 30, 3 / 20, 25 / 30, 9 / 20])
    rows, columns = (np.flatnonzero(mask[:, ::-1].any(axis=axis)) for axis in (1, 0))
    expected = [columns[0] / 30, rows[0] / 20, (columns[-1] + 1) / 30, (rows[-1] + 1) / 20]
    np.testing.assert_allclose(boxes.mirror(box), expected, rtol=1e-15)
    codes = boxes.mirror_code(boxes.encode(box))
    np.testing.assert_allclose(boxes.decode(codes), expected, rtol=1e-15)


def test_a_box_in_a_window_is_that_of_its_pixels():
    # The picture is 200 x 100 when rescaled; a window of 40 x 50 begins at (30, 20).
    window = Crop(height=100, width=200, top=20, left=30, rows=40, columns=50)
    box = np.array([40 / 200, 25 / 100, 90 / 200, 50 / 100])
    expected = [10 / 50, 5 / 40, 60 / 50, 30 / 40]
    np.testing.assert_allclose(boxes.to_window(box, window), expected, rtol=1e-15)


@pytest.mark.parametrize("function", [boxes.encode, boxes.decode, boxes.mirror, boxes.mirror_code])
def test_functions_of_one_box_are_traced(function):
    some = drawn(7).astype(np.float32)
    np.testing.assert_allclose(jax.jit(function)(some), function(some), atol=2.0**-23)


def test_iou_is_traced():
    some, others = drawn(7).astype(np.float32), drawn(7, seed=1).astype(np.float32)
    found = jax.jit(boxes.iou)(jnp.asarray(some), jnp.asarray(others))
    # Differences of numbers in 0..1 are off by 2^-24; areas of 0.01 and more by a hundred times it.
    expected = boxes.iou(some.astype(np.float64), others.astype(np.float64))
    np.testing.assert_allclose(found, expected, atol=1e-4)
