"""Each schedule against its formula, at every step."""

import math

import numpy as np
import pytest

from deepconv.training import schedule


def rates(function, steps):
    return [float(function(step)) for step in range(steps)]


def test_a_constant_rate_stays():
    function = schedule.create("constant", base=0.02, total=5)
    np.testing.assert_allclose(rates(function, 5), 0.02, rtol=1e-6)


def test_the_rate_drops_at_its_steps():
    function = schedule.create("steps", base=0.1, total=8, factor=0.5, drops=(2, 5))
    expected = [0.1, 0.1, 0.05, 0.05, 0.05, 0.025, 0.025, 0.025]
    np.testing.assert_allclose(rates(function, 8), expected, rtol=1e-6)


@pytest.mark.parametrize("warmup", [0, 4])
def test_a_cosine_rises_to_the_rate_and_falls_to_nothing(warmup):
    total, base = 20, 0.3
    expected = [
        base * step / warmup
        if step < warmup
        else base / 2 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
        for step in range(total + 1)
    ]
    function = schedule.create("cosine", base=base, total=total, warmup=warmup)
    np.testing.assert_allclose(rates(function, total + 1), expected, rtol=1e-5, atol=1e-7)


def test_the_plateau_goes_by_the_error():
    assert schedule.create("plateau", base=0.1, total=10) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "linear"}, "unknown schedule.name 'linear'; choose from plateau, constant"),
        ({"name": "cosine", "warmup": 10}, "is 10 updates, but the whole run has 10"),
    ],
)
def test_what_is_no_schedule_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        schedule.create(base=0.1, total=10, **options)
