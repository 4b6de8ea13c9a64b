"""ILSVRC's localization errors: by hand, and against loops over images, guesses and true boxes."""

import numpy as np
import pytest

from deepconv.evaluation.report import interval
from deepconv.localization.report import report, report_given_class

NAMES = ("ant", "bee", "cat", "dog", "elk", "fox")
BOX = np.array([0.0, 0.0, 0.5, 0.5])
HALF = np.array([0.0, 0.0, 0.5, 0.25])  # overlaps BOX by exactly 0.5: not enough
MORE = np.array([0.0, 0.0, 0.5, 0.26])
FAR = np.array([0.6, 0.6, 0.9, 0.9])


def overlap(a, b):
    """Return intersection over union in float64; 0 of a NaN or empty union."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [max(0.0, x[2] - x[0]) * max(0.0, x[3] - x[1]) for x in (a, b)]
    union = sum(areas) - width * height
    return width * height / union if union > 0 else 0.0


def best_overlap(box, true_boxes):
    if np.isnan(box).any():
        return 0.0
    box = [float(x) for x in box]
    return max((overlap(box, [float(x) for x in true]) for true in true_boxes), default=0.0)


@pytest.fixture
def by_hand():
    """Return the report of five images: found, found second, by half, not guessed, elsewhere."""
    classes = np.array([[0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [0, 1, 2, 3, 4]] + [[1, 2, 3, 4, 5]] * 2)
    labels = np.array([0, 0, 0, 0, 1])
    boxes = np.tile(FAR, (5, 5, 1))
    boxes[0, 0], boxes[1, 1], boxes[2, 0], boxes[3] = BOX, MORE, HALF, BOX
    scores = np.tile([5.0, 4, 3, 2, 1], (5, 1))
    scores[3] += 1
    true = [np.stack([FAR + 0.1, BOX]), BOX[None], BOX[None], BOX[None], BOX[None]]
    return report(classes, boxes, scores, labels, true, NAMES, [f"{n}.jpg" for n in "abcde"])


def test_errors_are_those_counted_by_hand(by_hand):
    assert by_hand["images"] == 5
    assert by_hand["top5_localization_error"] == 3 / 5
    assert by_hand["top1_localization_error"] == 4 / 5
    assert (by_hand["top5_error"], by_hand["top1_error"]) == (1 / 5, 2 / 5)
    assert by_hand["top5_localization_interval"] == interval(3, 5)
    assert by_hand["top1_localization_interval"] == interval(4, 5)
    assert (by_hand["top5_interval"], by_hand["top1_interval"]) == (interval(1, 5), interval(2, 5))
    assert by_hand["mean_iou"] == pytest.approx((1 + 0.52 + 0.5 + 0) / 4)


def test_classes_have_their_own_errors_the_worst_first(by_hand):
    assert [(row["name"], row["images"]) for row in by_hand["classes"]] == [("bee", 1), ("ant", 4)]
    ant = by_hand["classes"][1]
    assert ant["top5_localization_error"] == 2 / 4
    assert ant["top1_localization_error"] == 3 / 4
    assert (ant["top5_error"], ant["top1_error"]) == (1 / 4, 2 / 4)


def test_the_worst_images_have_their_guesses(by_hand):
    assert "".join(row["image"][0] for row in by_hand["worst"]) == "decba"
    first = by_hand["worst"][0]
    assert (first["true"], first["iou"]) == ("ant", 0)  # its boxes are right, its classes are not
    assert first["guesses"] == [[name, 6.0 - n, 1.0] for n, name in enumerate(NAMES[1:])]
    assert by_hand["worst"][2]["guesses"][0] == ["ant", 5.0, 0.5]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_report_is_that_of_loops_in_float64(dtype):
    rng = np.random.default_rng(0)
    images = 400
    labels = rng.integers(0, 6, images)
    classes = np.stack([rng.permutation(6)[:5] for _ in range(images)])
    middle, half = rng.uniform(0.3, 0.7, (images, 1, 2)), rng.uniform(0.1, 0.4, (images, 1, 2))
    near = np.concatenate([middle - half, middle + half], axis=2)
    boxes = (near + 0.06 * rng.normal(size=(images, 5, 4))).astype(dtype)
    boxes[rng.uniform(size=(images, 5)) < 0.05] = np.nan
    true = [
        (of_image + 0.06 * rng.normal(size=(rng.integers(0, 5), 4))).astype(dtype)
        for of_image in near
    ]
    scores = rng.uniform(size=(images, 5))
    found = report(classes, boxes, scores, labels, true, NAMES, [str(n) for n in range(images)])

    wrong5 = wrong1 = 0
    right = []
    for image in range(images):
        hits = [
            classes[image, g] == labels[image] and best_overlap(boxes[image, g], true[image]) > 0.5
            for g in range(5)
        ]
        wrong5 += not any(hits)
        wrong1 += not hits[0]
        for g in range(5):
            if classes[image, g] == labels[image]:
                right.append(best_overlap(boxes[image, g], true[image]))
    assert 0 < wrong5 < wrong1 < images
    assert found["top5_localization_error"] == wrong5 / images
    assert found["top1_localization_error"] == wrong1 / images
    assert found["top5_error"] == (images - len(right)) / images
    assert found["mean_iou"] == pytest.approx(np.mean(right), rel=1e-12)
    assert sum(row["images"] for row in found["classes"]) == images
    total = sum(row["images"] * row["top5_localization_error"] for row in found["classes"])
    assert total == pytest.approx(wrong5)
    for row in found["worst"]:
        image = int(row["image"])
        for g, (_, score, iou) in enumerate(row["guesses"]):
            assert score == scores[image, g]
            assert iou == pytest.approx(best_overlap(boxes[image, g], true[image]), abs=1e-12)

    given = report_given_class(boxes[:, 0], labels, true, NAMES, [str(n) for n in range(images)])
    overlaps = [best_overlap(boxes[image, 0], true[image]) for image in range(images)]
    missed = sum(not x > 0.5 for x in overlaps)
    assert given["localization_error"] == missed / images
    assert given["localization_interval"] == interval(missed, images)
    assert given["mean_iou"] == pytest.approx(np.mean(overlaps), rel=1e-12)
    worst = [int(row["image"]) for row in given["worst"]]
    assert worst == np.argsort(overlaps, kind="stable")[:20].tolist()


def test_the_report_of_a_given_class_by_hand():
    boxes = np.stack([BOX, HALF, MORE, np.full(4, np.nan), FAR])
    true = [BOX[None], BOX[None], BOX[None], BOX[None], np.zeros((0, 4))]
    labels = np.array([0, 0, 1, 1, 2])
    found = report_given_class(boxes, labels, true, NAMES, list("abcde"))
    assert (found["images"], found["localization_error"]) == (5, 3 / 5)
    assert found["mean_iou"] == pytest.approx((1 + 0.5 + 0.52) / 5)
    assert found["classes"] == [
        {"name": "cat", "images": 1, "localization_error": 1.0},
        {"name": "ant", "images": 2, "localization_error": 0.5},
        {"name": "bee", "images": 2, "localization_error": 0.5},
    ]
    assert [row["image"] for row in found["worst"]] == ["d", "e", "b", "c", "a"]
    assert found["worst"][2] == {"image": "b", "true": "ant", "iou": 0.5}


def test_without_a_right_class_there_is_no_mean_overlap_and_no_score_is_infinite():
    classes, boxes = np.array([[1]]), np.full((1, 1, 4), np.nan)
    found = report(classes, boxes, np.array([[-np.inf]]), np.array([0]), [BOX[None]], NAMES, ["a"])
    assert found["mean_iou"] is None
    assert found["worst"][0]["guesses"] == [["bee", None, 0.0]]


def call(images=2, guesses=5, boxes=None, scores=None, labels=None, true=None, names=None):
    return report(
        np.zeros((images, guesses), int),
        np.zeros((images, guesses, 4)) if boxes is None else boxes,
        np.zeros((images, guesses)) if scores is None else scores,
        np.zeros(images, int) if labels is None else labels,
        [BOX[None]] * images if true is None else true,
        NAMES,
        ["a"] * images if names is None else names,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 0}, "no images"),
        ({"guesses": 0}, "no guesses"),
        ({"boxes": np.zeros((2, 4, 4))}, "boxes .* are not"),
        ({"boxes": np.zeros((2, 5, 5))}, "boxes .* are not"),
        ({"scores": np.zeros(2)}, "scores .* are not"),
        ({"true": [BOX[None]]}, "true boxes of 1"),
        ({"true": [BOX[None], BOX]}, r"true boxes \(4,\) of a are not"),
        ({"names": ["a"]}, "names of 1 images"),
        ({"labels": np.array([0, 6])}, "label 6 is not in 0 to 5"),
        ({"labels": np.array([-1, 0])}, "label -1 is not in 0 to 5"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        call(**options)


def test_a_guess_that_no_class_has_is_refused():
    with pytest.raises(ValueError, match="label 6 is not in 0 to 5"):
        report(
            np.array([[6]]),
            BOX[None, None],
            np.ones((1, 1)),
            np.array([0]),
            [BOX[None]],
            NAMES,
            "a",
        )


def test_a_box_of_a_given_class_for_each_image_is_required():
    with pytest.raises(ValueError, match=r"boxes \(2, 5, 4\)"):
        report_given_class(np.zeros((2, 5, 4)), np.zeros(2, int), [BOX[None]] * 2, NAMES, "ab")
    with pytest.raises(ValueError, match="no images"):
        report_given_class(np.zeros((0, 4)), np.zeros(0, int), [], NAMES, [])
