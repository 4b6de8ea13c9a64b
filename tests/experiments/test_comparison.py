"""Conditions are run once per seed, and their curves and intervals are the runs'."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from deepconv.training import loop
from experiments import comparison
from experiments.comparison import Condition, Curve


@pytest.fixture
def runs(tmp_path, monkeypatch):
    made = []

    def train(config, folder, source=None):
        made.append((folder.name, config.seed, source and source.name))
        folder.mkdir(parents=True, exist_ok=True)
        rows = [{"kind": "train", "epoch": e / 2, "top1_error": 1 - e / 10} for e in range(1, 7)]
        rows.insert(2, {"kind": "eval", "epoch": 1.0, "top1_error": 0.9})
        lines = "".join(json.dumps({"step": 0, **row}) + "\n" for row in rows)
        (folder / "metrics.jsonl").write_text(lines)
        (folder / "result.json").write_text(json.dumps({"last": {"top1_error": config.rate / 4}}))

    monkeypatch.setattr(loop, "train", train)
    pair = (
        Condition("A, Gaussian", ConfigDict({"seed": 0, "rate": 1})),
        Condition("E, from A", ConfigDict({"seed": 0, "rate": 2}), source="A, Gaussian"),
    )
    return comparison.run(pair, tmp_path, 2), made


def test_every_condition_is_run_for_every_seed_from_the_same_seeds_source(runs):
    assert runs[1] == [
        ("a_gaussian_seed0", 0, None),
        ("e_from_a_seed0", 0, "a_gaussian_seed0"),
        ("a_gaussian_seed1", 1, None),
        ("e_from_a_seed1", 1, "a_gaussian_seed1"),
    ]
    assert comparison.last_errors(runs[0]["E, from A"]) == [50.0, 50.0]


def test_the_running_error_is_the_mean_over_the_last_epoch(runs):
    curve = comparison.running_training_errors(runs[0]["A, Gaussian"][0])
    np.testing.assert_allclose(curve.epochs, [1.0, 1.5, 2.0, 2.5, 3.0])
    np.testing.assert_allclose(curve.errors, [0.85, 0.75, 0.65, 0.55, 0.45])


def test_when_an_error_is_reached():
    curve = Curve(np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.3, 0.25]))
    assert (curve.reaches(0.3), curve.reaches(0.25), curve.reaches(0.2)) == (2.0, 3.0, None)
    assert comparison.each([2.0, None]) == "2.0 never"


def test_differences_are_paired_and_have_an_interval_of_students_t():
    seeds = [{"a": 3.0, "b": 1.0}, {"a": 9.0, "b": 6.0}, {"a": 5.0, "b": 1.0}]
    # 2, 3 and 4: their mean has the standard error 1 / sqrt(3), and t is 4.303.
    assert comparison.difference(seeds, "a", "b") == "a - b: +3.0 ± 2.5"
    assert comparison.interval([2, 3, 4]) == pytest.approx((3, 4.3027 / 3**0.5), abs=1e-4)
    assert comparison.difference(seeds[:1], "b", "a") == "b - a: -2.0"
    assert comparison.interval([2.0]) == (2.0, None)
