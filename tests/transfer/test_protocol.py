"""The protocols on made descriptors: how C is chosen and told, and what cannot be fitted."""

import numpy as np
import pytest

from deepconv.evaluation import class_means
from deepconv.exceptions import UserError
from deepconv.transfer import protocol, svm
from deepconv.transfer.linear import scores
from deepconv.transfer.protocol import Part

NAMES = ("cat", "dog", "sea")


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def of_classes(seed, images=20, noise=0.8):
    """Return a split: a center for each of three classes, and noise around it."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(3), images // 3)
    x = unit(np.eye(6)[labels] + noise * rng.normal(size=(len(labels), 6)))
    half = len(labels) // 2
    ids = [f"{seed}_{number}.jpg" for number in range(half, len(labels))]
    return Part(x[:half], labels[:half], x[half:], labels[half:], ids)


def of_labels(seed=0, images=80):
    rng = np.random.default_rng(seed)
    present = (rng.random((images, 3)) < 0.4).astype(np.int8)
    x = unit(present @ np.eye(3, 6) + 0.3 * rng.normal(size=(images, 6)))
    present[5, 0] = present[images - 5, 1] = -1
    half = images // 2
    ids = [f"{number}.jpg" for number in range(half, images)]
    return Part(x[:half], present[:half], x[half:], present[half:], ids)


def test_each_split_has_its_own_c_and_the_mean_is_over_them():
    parts = [of_classes(seed, 60) for seed in (0, 1, 2)]
    linear, result = protocol.on_classes(iter(parts), NAMES, seed=3, candidates=(0.1, 1.0, 10.0))
    recalls = []
    for part, about in zip(parts, result["splits"], strict=True):
        choice = svm.choose_C(part.train, part.train_targets, (0.1, 1.0, 10.0), 3)
        assert about["C"] == choice.C
        assert about["tried"] == [list(pair) for pair in choice.tried]
        own = svm.fit(part.train, part.train_targets, choice.C)
        predicted = scores(own, part.test).argmax(axis=1)
        recalls.append(class_means.mean_class_recall(predicted, part.test_targets, 3).mean)
    assert result["mean"] == pytest.approx(np.mean(recalls))
    assert result["deviation"] == pytest.approx(np.std(recalls, ddof=1))
    first = svm.fit(parts[0].train, parts[0].train_targets, result["splits"][0]["C"])
    np.testing.assert_array_equal(linear.weights, first.weights)


def test_a_single_split_has_no_deviation():
    assert protocol.on_classes([of_classes(0)], NAMES, seed=0).result["deviation"] is None


def test_a_c_at_the_edge_of_those_tried_is_told():
    part = of_classes(0)
    (note,) = protocol.on_classes([part] * 2, NAMES, seed=0, candidates=(1e-9,)).result["notes"][:1]
    assert note == (
        "C=1e-09 is the smallest that was tried, and was chosen in 2 of 2 splits: a smaller one "
        "may be better"
    )
    inside = protocol._about([svm.Choice(1.0, ())], (0.1, 1.0, 10.0))
    assert inside["notes"] == []
    largest = protocol._about([svm.Choice(1.0, ()), svm.Choice(10.0, ())], (0.1, 1.0, 10.0))
    assert "C=10 is the largest that was tried, and was chosen in 1 of 2" in largest["notes"][0]


def test_several_labels_are_scored_by_both_rules():
    part = of_labels()
    linear, result = protocol.on_labels(part, NAMES, rule="all-point", seed=0)
    found = scores(linear, part.test)
    for rule in ("11-point", "all-point"):
        expected = class_means.mean_average_precision(found, part.test_targets, rule)
        assert result["means"][rule] == pytest.approx(expected.mean)
        for row in result["classes"]:
            of_class = expected.of_class[NAMES.index(row["name"])]
            assert row["average_precision"][rule] == pytest.approx(of_class)
    assert result["mean"] == result["means"]["all-point"]
    assert result["metric"] == "mean average precision, all-point"
    assert len(result["splits"]) == 1


def test_what_cannot_be_fitted_is_named():
    part = of_labels()
    for value, words in ((0, "class dog is in no training picture"), (1, "class dog is absent")):
        targets = part.train_targets.copy()
        targets[:, 1] = value
        with pytest.raises(UserError, match=words):
            protocol.on_labels(part._replace(train_targets=targets), NAMES, rule="11-point", seed=0)
    nothing = part._replace(test_targets=np.zeros_like(part.test_targets))
    with pytest.raises(UserError, match="no class is in any of the test pictures"):
        protocol.on_labels(nothing, NAMES, rule="11-point", seed=0)
    classes = of_classes(0)
    with pytest.raises(UserError, match="class sky has no training pictures"):
        protocol.on_classes([classes], (*NAMES, "sky"), seed=0)
    alone = classes._replace(train=classes.train[:3], train_targets=classes.train_targets[:3])
    with pytest.raises(UserError, match="too few training pictures to choose C"):
        protocol.on_classes([alone], NAMES, seed=0)
    with pytest.raises(ValueError, match="no splits"):
        protocol.on_classes([], NAMES, seed=0)
