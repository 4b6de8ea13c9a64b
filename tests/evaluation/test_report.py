"""What an evaluation says, on a set small enough to count by hand."""

import numpy as np
import pytest

from deepconv.evaluation.report import interval, report

NAMES = ("ant", "bee", "cat", "dog", "elk", "fox")


@pytest.mark.parametrize(
    ("wrong", "images", "expected"),
    [  # Wilson's interval without continuity correction, as in published tables
        (0, 10, (0.0, 0.2775)),
        (5, 10, (0.2366, 0.7634)),
        (81, 263, (0.2553, 0.3662)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_the_interval_is_wilsons(wrong, images, expected):
    assert interval(wrong, images) == pytest.approx(expected, abs=5e-5)


@pytest.fixture
def summary():
    # Rows: ants taken for bees twice and right once, a cat right, an elk seen last of all.
    labels = np.array([0, 0, 0, 2, 4])
    posteriors = np.array(
        [
            [0.3, 0.5, 0.05, 0.05, 0.05, 0.05],
            [0.2, 0.4, 0.1, 0.1, 0.1, 0.1],
            [0.9, 0.02, 0.02, 0.02, 0.02, 0.02],
            [0.1, 0.1, 0.5, 0.1, 0.1, 0.1],
            [0.3, 0.2, 0.2, 0.15, 0.05, 0.1],
        ]
    )
    return report(np.log(posteriors), labels, NAMES, [f"{n}.jpg" for n in "abcde"])


def test_errors_are_those_counted_by_hand(summary):
    assert summary["images"] == 5
    assert (summary["top1_error"], summary["top5_error"]) == (3 / 5, 1 / 5)
    assert summary["loss"] == pytest.approx(-np.log([0.3, 0.2, 0.9, 0.5, 0.05]).mean())
    assert summary["top1_interval"] == interval(3, 5)
    assert summary["top5_interval"] == interval(1, 5)


def test_classes_have_their_own_errors_the_worst_first(summary):
    assert [(row["name"], row["images"]) for row in summary["classes"]] == [
        ("elk", 1),
        ("ant", 3),
        ("cat", 1),
    ]
    assert summary["classes"][1]["top1_error"] == 2 / 3
    assert summary["classes"][0]["top5_error"] == 1


def test_the_most_frequent_confusions_come_first(summary):
    assert summary["confusions"] == [
        {"true": "ant", "predicted": "bee", "images": 2},
        {"true": "elk", "predicted": "ant", "images": 1},
    ]


def test_the_worst_images_have_their_five_best_labels(summary):
    first = summary["worst"][0]
    assert (first["image"], first["true"]) == ("e.jpg", "elk")
    assert first["posterior"] == pytest.approx(0.05)
    assert [name for name, _ in first["best"]] == ["ant", "bee", "cat", "dog", "fox"]
    assert "".join(row["image"][0] for row in summary["worst"]) == "ebadc"


def test_an_empty_set_is_refused():
    with pytest.raises(ValueError, match="no image"):
        report(np.zeros((0, 6)), np.zeros(0, int), NAMES, [])


@pytest.mark.parametrize("label", [-1, 6])
def test_a_label_that_no_class_has_is_refused(label):
    with pytest.raises(ValueError, match=f"label {label} is not in 0 to 5"):
        report(np.zeros((2, 6)), np.array([0, label]), NAMES, ["a.jpg", "b.jpg"])


def test_classes_whose_posteriors_have_vanished_are_ranked_and_their_loss_is_exact():
    """Against float64, which has posteriors down to 1e-308: scores of some hundreds, 60 classes."""
    rng = np.random.default_rng(0)
    scores = 200 * rng.normal(size=(100, 60)).clip(-1.5, 1.5) + rng.normal(size=(100, 60))
    exact = scores - scores.max(axis=1, keepdims=True)
    exact -= np.log(np.exp(exact).sum(axis=1, keepdims=True))
    labels = np.argsort(-scores, axis=1)[np.arange(100), rng.integers(0, 60, 100)]
    rank = (scores > scores[np.arange(100), labels][:, None]).sum(axis=1)
    names = [str(number) for number in range(60)]
    logs = exact.astype(np.float32)
    assert (np.exp(logs)[np.arange(100), labels] == 0).sum() > 50
    found = report(logs, labels, names, names + names[:40])
    assert found["top1_error"] == (rank >= 1).mean()
    assert found["top5_error"] == (rank >= 5).mean()
    of_true = exact[np.arange(100), labels]
    assert found["loss"] == pytest.approx(-of_true.mean(), rel=1e-6)
    best = [[name for name, _ in row["best"]] for row in found["worst"]]
    order = np.argsort(of_true)[:20]
    assert best == [[str(c) for c in np.argsort(-scores[number])[:5]] for number in order]
