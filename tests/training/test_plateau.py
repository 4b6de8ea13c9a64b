"""The schedule against a list of errors worked by hand."""

import math

import numpy as np
import pytest

from deepconv.training import plateau


def run(errors, **settings):
    state = plateau.initial()
    drops = []
    for error in errors:
        state = plateau.update(state, error, **settings)
        drops.append(int(state.drops))
    return state, drops


def test_drops_after_patience_evaluations_without_improvement():
    errors = [0.9, 0.8, 0.8, 0.85, 0.7, 0.7, 0.7, 0.7, 0.7]
    _, drops = run(errors, patience=2, min_delta=0.0)
    assert drops == [0, 0, 0, 1, 1, 1, 2, 2, 3]


def test_min_delta_asks_for_a_real_improvement():
    state, drops = run([0.500, 0.495, 0.492, 0.480], patience=2, min_delta=0.01)
    assert drops == [0, 0, 1, 1]
    assert float(state.best) == pytest.approx(0.48)


def test_an_error_that_is_no_number_is_no_improvement():
    state, drops = run([0.5, math.nan, math.nan], patience=2, min_delta=0.0)
    assert drops == [0, 0, 1]
    assert float(state.best) == pytest.approx(0.5)


@pytest.mark.parametrize(("drops", "expected"), [(0, 1e-2), (1, 1e-3), (2, 1e-4), (3, 1e-5)])
def test_learning_rate_is_divided_by_ten_at_each_drop(drops, expected):
    state = plateau.initial()._replace(drops=np.int32(drops))
    rate = plateau.learning_rate(state, base=0.01, factor=0.1)
    assert float(rate) == pytest.approx(expected, rel=1e-6)


def test_finished_at_the_plateau_after_the_last_drop():
    _, drops = run([0.5] * 9, patience=2, min_delta=0.0)
    assert drops == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    for count, done in ((3, False), (4, True)):
        state = plateau.initial()._replace(drops=np.int32(count))
        assert bool(plateau.finished(state, max_drops=3)) is done
