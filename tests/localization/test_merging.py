"""The greedy merge: against itself written as the paper says it, pair by pair."""

import math

import numpy as np
import pytest

from deepconv import boxes as geometry
from deepconv.localization import merging
from deepconv.localization.merging import best_boxes, merge_all, merge_boxes

MATCHES = ("iou", "overfeat", "literal")


def area(box):
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def match_score(a, b, match):
    shared = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    if match == "iou":
        union = area(a) + area(b) - shared
        return 1 - (shared / union if union > 0 else 0.0)
    x, y = (a[0] + a[2]) / 2 - (b[0] + b[2]) / 2, (a[1] + a[3]) / 2 - (b[1] + b[3]) / 2
    distance = math.sqrt(x * x + y * y)
    return distance - shared if match == "overfeat" else distance + shared


def naive(boxes, scores, threshold, match):
    """Look at all pairs before every merge; return `{place: (box, score)}` of what is left."""
    left = {place: [float(x) for x in box] for place, box in enumerate(boxes)}
    made_of = {place: [place] for place in left}
    while True:
        pairs = [(match_score(left[i], left[j], match), i, j) for i in left for j in left if i < j]
        if not pairs or min(pairs)[0] > threshold:
            break
        _, i, j = min(pairs)
        left[i] = [(a + b) / 2 for a, b in zip(left[i], left[j], strict=True)]
        del left[j]
        made_of[i] += made_of.pop(j)
    sums = dict.fromkeys(left, 0.0)
    for place in left:
        for window in sorted(made_of[place]):
            sums[place] = sums[place] + scores[window].astype(np.float64)
    return {place: (left[place], sums[place]) for place in left}


def problem(rng):
    """Draw boxes of a kind that is hard: few different ones, on a grid, around objects, any."""
    places = int(rng.choice([0, 1, 2, 3, 5, 8, 13, 20, 40]))
    kind = rng.integers(5)
    if kind == 0:  # multiples of 1/4: many ties, empty and turned boxes
        return rng.integers(0, 5, (places, 4)) / 4
    if kind == 1:  # duplicates
        return rng.uniform(size=(3, 4))[rng.integers(0, 3, places)]
    middle, half = rng.uniform(size=(places, 2)), rng.uniform(0.02, 0.4, (places, 2))
    if kind == 2:  # one object, seen with noise
        middle, half = 0.5 + 0.1 * (middle - 0.5), 0.25 + 0.2 * (half - 0.2)
    if kind == 3:  # equal boxes on a grid: the same match score for many pairs
        middle, half = rng.integers(0, 8, (places, 2)) / 8, np.full((places, 2), 0.125)
    return np.concatenate([middle - half, middle + half], axis=1)


@pytest.mark.parametrize("match", MATCHES)
def test_the_merge_is_the_naive_one_bit_for_bit(match):
    rng = np.random.default_rng(MATCHES.index(match))
    merges = 0
    for _ in range(300):
        boxes = problem(rng)
        if rng.integers(2):
            boxes = boxes.astype(np.float32)
        scores = rng.uniform(size=(len(boxes), 3)).astype(np.float32)
        threshold = rng.choice([-0.1, 0.0, 0.1, 0.25, 0.5, 0.75, 1.0])
        expected = naive(boxes, scores, threshold, match)
        merged, sums = merge_boxes(boxes, scores, threshold=threshold, match=match)
        merges += len(boxes) - len(merged)
        assert merged.shape == (len(expected), 4)
        assert sums.shape == (len(expected), 3)
        for got, got_score, (box, score) in zip(merged, sums, expected.values(), strict=True):
            assert got.tolist() == box
            assert got_score.tolist() == score.tolist()
    assert merges > 500


@pytest.mark.parametrize("match", MATCHES)
@pytest.mark.parametrize("at_once", [1, 50, 2**14])
def test_many_images_with_padding_are_merged_as_each_alone(monkeypatch, match, at_once):
    monkeypatch.setattr(merging, "_BOXES_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    own = [problem(rng) for _ in range(60)]
    boxes, scores = np.full((60, 44, 4), np.nan), np.full((60, 44), np.nan)
    for number, of_image in enumerate(own):
        # Padding may be anywhere; the others keep their order.
        at = np.sort(rng.permutation(44)[: len(of_image)])
        boxes[number, at], scores[number, at] = of_image, rng.uniform(size=len(at))
    merged, sums = merge_all(boxes, scores, threshold=0.5, match=match)
    for number in range(60):
        real = ~np.isnan(scores[number])
        expected = naive(boxes[number, real], scores[number, real], 0.5, match)
        places = np.flatnonzero(real)[list(expected)]
        assert np.flatnonzero(~np.isnan(merged[number, :, 0])).tolist() == places.tolist()
        for place, (box, score) in zip(places, expected.values(), strict=True):
            assert merged[number, place].tolist() == box
            assert sums[number, place] == score
        gone = np.setdiff1d(np.arange(44), places)
        assert np.isnan(merged[number, gone]).all()
        assert (sums[number, gone] == -np.inf).all()


def test_the_match_scores_are_those_of_the_shared_geometry():
    rng = np.random.default_rng(0)
    boxes = np.concatenate([problem(rng) for _ in range(20)])
    corners = boxes.T[:, None, :]
    for number, box in enumerate(boxes):
        one = corners[:, :, number, None]
        np.testing.assert_array_equal(merging._iou(one, corners)[0], 1 - geometry.iou(box, boxes))
        shared = geometry.intersection(box, boxes)
        centers = geometry.encode(boxes)[:, :2]
        distance = np.linalg.norm(centers[number] - centers, axis=1)
        np.testing.assert_allclose(merging._overfeat(one, corners)[0], distance - shared)
        np.testing.assert_allclose(merging._literal(one, corners)[0], distance + shared)


def test_a_merge_by_hand():
    boxes = np.array([[0, 0, 0.4, 0.4], [0.6, 0.6, 1, 1], [0, 0, 0.4, 0.5], [0.1, 0, 0.5, 0.4]])
    # 0 and 2 overlap by 0.8, and their mean with 3 by 0.12 / 0.22.
    merged, sums = merge_boxes(boxes, np.array([1.0, 2, 4, 8]), threshold=0.4)
    np.testing.assert_allclose(merged, [[0, 0, 0.4, 0.45], boxes[1], boxes[3]])
    assert sums.tolist() == [5, 2, 8]
    merged, sums = merge_boxes(boxes, np.array([1.0, 2, 4, 8]), threshold=0.5)
    np.testing.assert_allclose(merged, [[0.05, 0, 0.45, 0.425], boxes[1]])
    assert sums.tolist() == [13, 2]


def test_of_equally_good_pairs_the_first_is_merged():
    """Three boxes in a row, the middle one as far from either neighbor."""
    boxes = np.array([[0.0, 0, 0.5, 1], [0.25, 0, 0.75, 1], [0.5, 0, 1, 1]])
    merged, sums = merge_boxes(boxes, np.array([1.0, 2, 4]), threshold=0.7)
    assert merged.tolist() == [[0.125, 0, 0.625, 1], [0.5, 0, 1, 1]]
    assert sums.tolist() == [3, 4]


def test_the_threshold_itself_still_merges():
    boxes = np.array([[0.0, 0, 0.5, 1], [0.25, 0, 0.5, 1]])
    assert len(merge_boxes(boxes, np.ones(2), threshold=0.5)[0]) == 1
    assert len(merge_boxes(boxes, np.ones(2), threshold=0.4999)[0]) == 2


def test_the_literal_match_prefers_boxes_that_do_not_overlap():
    boxes = np.array([[0, 0, 0.8, 0.8], [0.05, 0, 0.85, 0.8], [0.8, 0.8, 0.82, 0.82]])
    assert merging._literal(boxes[0][:, None], boxes[1][:, None]) > merging._literal(
        boxes[0][:, None], boxes[2][:, None]
    )


def test_each_class_has_its_best_box_within_the_picture():
    merged = np.array([[-0.2, 0.1, 0.5, 1.3], [0.2, 0.2, 0.4, 0.4], [0.3, 0.3, 0.6, 0.6]])
    scores = np.array([[1.0, 3, 2], [4, 3, 2.5], [2, 1, 2.5]])
    boxes, best = best_boxes(merged, scores)
    assert boxes.tolist() == [merged[1].tolist(), [0, 0.1, 0.5, 1], merged[1].tolist()]
    assert best.tolist() == [4, 3, 2.5]


def test_the_best_boxes_of_many_images_are_those_of_each():
    rng = np.random.default_rng(0)
    boxes = np.stack([rng.uniform(-0.1, 1.1, (7, 4)) for _ in range(10)])
    boxes[3], boxes[4, 2:] = np.nan, np.nan
    merged, sums = merge_all(boxes, rng.uniform(size=(10, 7, 5)), threshold=0.5)
    found, best = best_boxes(merged, sums)
    assert np.isnan(found[3]).all()
    assert (best[3] == -np.inf).all()
    for number in {*range(10)} - {3}:
        for k in range(5):
            place = sums[number, :, k].argmax()
            assert best[number, k] == sums[number, place, k]
            assert found[number, k].tolist() == merged[number, place].clip(0, 1).tolist()


@pytest.mark.parametrize(
    ("boxes", "scores", "options", "message"),
    [
        ((2, 3, 4), (2, 4), {}, "not"),
        ((2, 3, 5), (2, 3), {}, "not"),
        ((2, 3, 4), (2, 3), {"match": "nms"}, "'nms' is not one of iou, overfeat, literal"),
        ((2, 3, 4), (2, 3), {"threshold": np.inf}, "threshold inf is not finite"),
        ((2, 3, 4), (2, 3), {"threshold": np.nan}, "threshold nan is not finite"),
    ],
)
def test_what_does_not_fit_is_refused(boxes, scores, options, message):
    with pytest.raises(ValueError, match=message):
        merge_all(np.zeros(boxes), np.zeros(scores), **{"threshold": 0.5, **options})
