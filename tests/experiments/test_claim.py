"""A verdict follows from the paired differences alone; dead nets are counted."""

import math

import pytest

from experiments import claim
from experiments.claim import LAST, Contrast, Quantity, outcome


def record(last=None, *, epochs=(0.9, 0.5, 0.6), measured=None):
    return {
        "last": None if last is None else {"top1_error": last},
        "chance": 0.9,
        "errors": {"epoch": [1.0, 2.0, 3.0], "top1_error": [*epochs], "training_error": [*epochs]},
        "measured": measured or {},
    }


def contrast(quantity=LAST, **options):
    return Contrast("worse is larger", "7", "worse", "better", quantity, **options)


def of(worse, better):
    return {
        "worse": {seed: record(value) for seed, value in enumerate(worse)},
        "better": {seed: record(value) for seed, value in enumerate(better)},
    }


def test_reproduced_only_if_the_whole_interval_is_on_the_claimed_side():
    found = outcome(contrast(), of((0.5, 0.6, 0.7), (0.48, 0.57, 0.66)))
    # Differences of 2, 3 and 4 points.
    assert (found.mean, found.seeds) == (pytest.approx(3.0), (0, 1, 2))
    assert found.high - found.mean == pytest.approx(4.3027 / 3**0.5, abs=1e-3)
    assert found.verdict == "reproduced"
    reverse = outcome(contrast(), of((0.48, 0.57, 0.66), (0.5, 0.6, 0.7)))
    assert reverse.verdict == "not reproduced"
    noisy = outcome(contrast(), of((0.5, 0.6, 0.7), (0.4, 0.6, 0.69)))
    assert noisy.low < 0 < noisy.mean
    assert noisy.verdict == "cannot be told here"


def test_one_seed_cannot_tell_and_none_was_not_run():
    assert outcome(contrast(), of((0.9,), (0.1,))).verdict == "cannot be told here"
    assert outcome(contrast(), of((0.9,), ())).verdict == "not run"
    # Only the seeds of both sides are paired.
    assert outcome(contrast(), of((0.9, 0.8, 0.7), (0.1, 0.2))).seeds == (0, 1)


def test_a_gain_that_is_excluded():
    nothing = of((0.5, 0.6, 0.7), (0.5, 0.601, 0.702))
    assert outcome(contrast(), nothing).verdict == "cannot be told here"
    assert outcome(contrast(beyond=-1.0), nothing).verdict == "reproduced"


def test_a_run_that_diverged_is_at_chance():
    found = outcome(contrast(), of((None, None, None), (0.5, 0.5, 0.5)))
    assert found.mean == pytest.approx(40.0)
    assert claim.is_at_chance(record(None))
    assert [claim.is_at_chance(record(error)) for error in (0.86, 0.85)] == [True, False]
    assert claim.measured("nine", "", error=True).of(record(None)) == pytest.approx(90.0)


def test_a_missing_number_does_not_decide():
    epochs = Quantity("epochs", lambda r: r["measured"].get("epochs"))
    some = {
        "worse": {s: record(0.5, measured={"epochs": 20.0 + s}) for s in range(3)},
        "better": {s: record(0.5, measured={"epochs": 10.0}) for s in range(3)},
    }
    assert outcome(contrast(epochs), some).verdict == "reproduced"
    some["better"][3], some["worse"][3] = record(0.5), record(0.5, measured={"epochs": 9.0})
    found = outcome(contrast(epochs), some)
    assert (found.seeds, found.verdict) == ((0, 1, 2), "cannot be told here")


def test_ratios_have_an_interval_of_their_logarithms():
    found = outcome(contrast(ratio=True), of((0.2, 0.4, 0.8), (0.1, 0.1, 0.1)))
    assert found.mean == pytest.approx(4.0)  # of 2, 4 and 8
    reach = 4.3027 * math.log(2) / 3**0.5
    assert math.log(found.high / 4) == pytest.approx(reach, abs=1e-3)
    assert math.log(4 / found.low) == pytest.approx(reach, abs=1e-3)


def test_epochs_and_the_best():
    run = record(0.6)
    assert claim.epochs_to(0.55).of(run) == 2.0
    assert claim.epochs_to(0.4).of(run) is None
    assert claim.LEAVES_CHANCE.of(run) == 2.0
    assert (claim.last_error(run), claim.best_error(run)) == pytest.approx((60.0, 50.0))


def test_how_many_seeds_would_do():
    # A t-test of pairs with an effect of one deviation needs 10 for 80 % power (Cohen 1988).
    assert claim.seeds_needed(1.0, 1.0) in (9, 10)
    # Far from few: (1.960 + 0.842)^2 (deviation / effect)^2.
    assert claim.seeds_needed(1.0, 10.0) == pytest.approx(785 + 2, abs=2)
    assert claim.seeds_needed(1.0, 0.0) == 2
    noisy = outcome(contrast(effect=2.0), of((0.5, 0.6, 0.7), (0.4, 0.6, 0.69)))
    assert (noisy.verdict, noisy.needed > 3) == ("cannot be told here", True)
