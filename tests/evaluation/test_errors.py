"""Ranks and counts against a stable sort in numpy."""

import jax.numpy as jnp
import numpy as np
import pytest

from deepconv.evaluation import errors


def numpy_ranks(scores, labels):
    order = np.argsort(-scores, axis=1, kind="stable")
    return (order == labels[:, None]).argmax(axis=1)


@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_ranks_equal_a_stable_sort_with_and_without_ties(levels):
    rng = np.random.default_rng(levels)
    scores = rng.integers(0, levels, (200, 12)).astype(np.float32)
    labels = rng.integers(0, 12, 200)
    found = errors.ranks(jnp.asarray(scores), jnp.asarray(labels))
    np.testing.assert_array_equal(found, numpy_ranks(scores, labels))


def test_a_net_that_says_the_same_of_every_class_is_at_chance():
    labels = jnp.arange(10)
    counts = errors.counts(jnp.zeros((10, 10)), {"label": labels}, jnp.ones(10, bool))
    assert (int(counts["top1_error"]), int(counts["top5_error"])) == (9, 5)


def test_a_score_that_is_no_number_is_never_right():
    scores = jnp.full((4, 10), jnp.nan).at[0, 3].set(1.0)
    counts = errors.counts(scores, {"label": jnp.array([3, 0, 0, 0])}, jnp.ones(4, bool))
    assert (int(counts["top1_error"]), int(counts["top5_error"])) == (4, 4)


def test_masked_images_count_for_nothing_even_with_a_loss_that_is_no_number():
    scores = jnp.array([[2.0, 0.0], [0.0, 2.0], [jnp.nan, 0.0]])
    label, mask = jnp.array([0, 0, 0]), jnp.array([True, True, False])
    counts = errors.counts(scores, {"label": label}, mask)
    assert int(counts["top1_error"]) == 1
    expected = 2 * np.log(1 + np.exp(-2.0)) + 2.0
    assert float(counts["loss"]) == pytest.approx(expected, rel=1e-6)
