"""Metrics by hand, against the devkit's rule recomputed in fractions, and scikit-learn's."""

import zipfile
from fractions import Fraction

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, precision_recall_curve

from deepconv.evaluation import class_means
from deepconv.evaluation.class_means import (
    average_precision,
    mean_average_precision,
    mean_class_recall,
)

RULES = ["11-point", "all-point"]


def devkit(scores, truth, rule):
    """VOCevalcls (2007) and VOCap (2010), in exact fractions; truth is VOC's 1, -1 or 0."""
    tp = fp = 0
    recall, precision = [], []
    positives = int((np.asarray(truth) > 0).sum())  # Python's integers do not overflow
    for index in sorted(range(len(scores)), key=lambda i: -scores[i]):
        tp += truth[index] > 0
        fp += truth[index] < 0
        if tp + fp:  # 0 / 0 is NaN in MATLAB, and its max passes over it
            recall.append(Fraction(int(tp), positives))
            precision.append(Fraction(int(tp), int(tp + fp)))
    if rule == "11-point":
        at = [Fraction(i, 10) for i in range(11)]
        best = [
            max((p for p, r in zip(precision, recall, strict=True) if r >= t), default=0)
            for t in at
        ]
        return float(sum(best) / 11)
    mrec, mpre = [0, *recall, 1], [0, *precision, 0]
    for i in range(len(mpre) - 2, -1, -1):
        mpre[i] = max(mpre[i], mpre[i + 1])
    return float(sum((mrec[i] - mrec[i - 1]) * mpre[i] for i in range(1, len(mrec))))


@pytest.mark.parametrize("rule", RULES)
def test_average_precision_is_the_devkits(rule):
    rng = np.random.default_rng(0)
    for images in (1, 2, 5, 10, 40, 100):
        for share in (0.05, 0.3, 0.9):
            scores = rng.permutation(images).astype(np.float32)
            truth = rng.choice([1, 0, -1], images, p=[share, 0.08, 0.92 - share])
            truth[0] = 1
            found = average_precision(scores, truth == 1, rule, known=truth != 0)
            assert found == pytest.approx(devkit(scores, truth, rule), abs=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_vocs_own_labels_are_judged_as_the_devkit_does(shared_data, rule):
    lists = "VOCdevkit/VOC2007/ImageSets/Main"
    with zipfile.ZipFile(shared_data("voc2007_2000_s144.zip")) as archive:
        names = sorted(n for n in archive.namelist() if n.startswith(lists) and "_test" in n)
        columns = [
            [int(line.split()[1]) for line in archive.read(name).decode().splitlines()]
            for name in names
        ]
    truth = np.array(columns).T
    assert truth.shape == (1000, 20)
    assert (truth == 0).any(axis=0).sum() > 10  # difficult ones
    rng = np.random.default_rng(0)
    scores = rng.normal(size=truth.shape) + (truth >= 0)
    present = np.select([truth == 1, truth == -1], [class_means.PRESENT, class_means.ABSENT], -1)
    found = mean_average_precision(scores, present, rule)
    expected = [devkit(scores[:, c], truth[:, c], rule) for c in range(20)]
    np.testing.assert_allclose(found.of_class, expected, atol=1e-12)
    assert found.mean == pytest.approx(np.mean(expected))


def test_by_hand():
    # Ranked: right, wrong, right, wrong, right: precisions 1, 2/3, 3/5 at recalls 1/3, 2/3, 1.
    scores, labels = np.array([9, 8, 7, 6, 5.0]), np.array([1, 0, 1, 0, 1])
    # Recalls 0, .1, .2, .3 have 1; .4, .5, .6 have 2/3; .7, .8, .9, 1 have 3/5.
    assert average_precision(scores, labels, "11-point") == pytest.approx((4 + 2 + 2.4) / 11)
    assert average_precision(scores, labels, "all-point") == pytest.approx((1 + 2 / 3 + 0.6) / 3)
    # The envelope lifts a low precision at the top of the ranking.
    labels = np.array([0, 1, 1, 1, 0])
    for rule in RULES:
        assert average_precision(scores, labels, rule) == pytest.approx(3 / 4)
        assert average_precision(scores, labels == 1, rule) == pytest.approx(3 / 4)
        assert average_precision(scores, np.ones(5), rule) == 1


def test_a_recall_of_three_tenths_is_reached_by_three_of_ten():
    """In floating point 3 * 0.1 is above 0.3, which would cost that point."""
    labels = np.r_[[1, 1, 1], np.zeros(16), np.ones(7), np.zeros(100)]
    best = [1] * 4 + [10 / 26] * 7
    found = average_precision(-np.arange(len(labels)), labels, "11-point")
    assert found == pytest.approx(sum(best) / 11)


def test_equal_scores_enter_together():
    for rule in RULES:
        for labels in ([1, 0, 0, 0], [0, 0, 0, 1]):
            assert average_precision(np.zeros(4), labels, rule) == 0.25
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 5, 60), rng.integers(0, 2, 60)
    order = rng.permutation(60)
    for rule in RULES:
        one = average_precision(scores, labels, rule)
        assert one == average_precision(scores[order], labels[order], rule)


def test_the_all_point_rule_is_the_envelope_of_scikit_learns_curve():
    rng = np.random.default_rng(0)
    for levels in (4, 30, 10**6):
        scores, labels = rng.integers(0, levels, 80), rng.integers(0, 2, 80)
        precision, recall, _ = precision_recall_curve(labels, scores)  # recall falls
        envelope = np.maximum.accumulate(precision[:-1])
        expected = -(np.diff(recall) * envelope).sum()
        found = average_precision(scores, labels, "all-point")
        assert found == pytest.approx(expected, abs=1e-12)
        assert found >= average_precision_score(labels, scores) - 1e-12


def test_it_equals_scikit_learns_where_precision_never_rises():
    # Its sum is over the precisions themselves, so equal if they are their own envelope.
    scores, labels = -np.arange(8.0), np.array([1, 1, 1, 0, 0, 0, 0, 0])
    for truth in (labels, np.array([1, 1, 0, 0, 0, 0, 0, 1])):
        expected = average_precision_score(truth, scores)
        assert average_precision(scores, truth, "all-point") == pytest.approx(expected, abs=1e-12)


def test_unknown_examples_are_as_if_they_were_not_there():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(50, 3))
    present = rng.integers(-1, 2, (50, 3))
    for rule in RULES:
        found = mean_average_precision(scores, present, rule)
        for number in range(3):
            kept = present[:, number] >= 0
            expected = average_precision(scores[kept, number], present[kept, number], rule)
            assert found.of_class[number] == expected
        assert found.mean == pytest.approx(found.of_class.mean())
        assert found.left_out == 0


def test_a_class_without_positives_is_left_out_and_counted():
    scores = np.arange(8.0).reshape(4, 2)
    assert np.isnan(average_precision(scores[:, 0], np.zeros(4), "11-point"))
    found = mean_average_precision(scores, np.array([[0, 0], [-1, 0], [-1, 0], [0, 1]]), "11-point")
    np.testing.assert_array_equal(found.of_class, [np.nan, 1])
    assert (found.mean, found.left_out) == (1, 1)
    with pytest.raises(ValueError, match="no class has a positive example"):
        mean_average_precision(scores, np.zeros((4, 2), int), "11-point")


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="unknown rule 'voc'"):
        average_precision(np.zeros(2), np.ones(2), "voc")
    with pytest.raises(ValueError, match="a score is NaN"):
        average_precision(np.array([np.nan, 1]), np.ones(2), "11-point")
    with pytest.raises(ValueError, match="label 2 is not 0 or 1"):
        average_precision(np.zeros(2), np.array([2, 0]), "11-point")
    with pytest.raises(ValueError, match="label 2 is not 1"):
        mean_average_precision(np.zeros((1, 1)), np.array([[2]]), "11-point")
    with pytest.raises(ValueError, match="are not of"):
        mean_average_precision(np.zeros((2, 1)), np.ones((1, 2)), "11-point")
    with pytest.raises(ValueError, match="are not of"):
        average_precision(np.zeros(2), np.ones(3), "11-point")


def test_recall_is_averaged_over_classes_not_images():
    labels = np.array([0] * 90 + [1] * 10)
    found = mean_class_recall(np.zeros(100, int), labels, 2)
    assert (found.mean, found.of_class.tolist(), found.left_out) == (0.5, [1, 0], 0)
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 7, 200), rng.integers(0, 7, 200)
    expected = balanced_accuracy_score(labels, predicted)
    assert mean_class_recall(predicted, labels, 7).mean == pytest.approx(expected)


def test_a_class_without_images_has_no_recall():
    found = mean_class_recall(np.array([0, 1, 2]), np.array([0, 1, 1]), 4)
    np.testing.assert_array_equal(found.of_class, [1, 0.5, np.nan, np.nan])
    assert (found.mean, found.left_out) == (0.75, 2)
    with pytest.raises(ValueError, match="class 4 is not in 0 to 3"):
        mean_class_recall(np.array([4]), np.array([0]), 4)
    with pytest.raises(ValueError, match="class -1 is not in 0 to 3"):
        mean_class_recall(np.array([0]), np.array([-1]), 4)
    with pytest.raises(ValueError, match="are not of"):
        mean_class_recall(np.array([0]), np.array([0, 1]), 4)
    with pytest.raises(ValueError, match="no class has a positive"):
        mean_class_recall(np.array([], int), np.array([], int), 4)


def test_the_numbers_of_labels_have_names():
    class_means.check_present(
        np.array([[class_means.PRESENT, class_means.ABSENT, class_means.UNKNOWN]])
    )
