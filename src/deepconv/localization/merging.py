"""OverFeat's greedy merge: from a box at every place of a map to few boxes of an image; pure.

    merged, sums = merge_boxes(boxes, scores, threshold=0.5)  # one image
    merged, sums = merge_all(boxes, scores, threshold=0.5)  # many; NaN boxes are padding
    best, score = best_boxes(merged, sums)  # one box per class

Sermanet et al. 2013, section 4.4, which VGG's appendix A takes over: as long as the two boxes that
match best match well enough, both are replaced by their mean.

Per merge, NumPy's calls cost more than their arithmetic on one image's boxes. Therefore many
images are merged side by side, a merge each per step. A step compares one box of every image with
its others and so takes time proportional to P, the whole about P^2; looking for the best pair anew
before every merge would take P^3.
"""

from collections.abc import Callable

import numpy as np

# Of one box `[4, L, 1]` with all boxes `[4, L, P]` of each of L images: `[L, P]`.
_Match = Callable[[np.ndarray, np.ndarray], np.ndarray]

# Images merged side by side have so many boxes together that a step's arrays stay in the cache.
_BOXES_AT_ONCE = 2**14


def merge_boxes(
    boxes: np.ndarray, scores: np.ndarray, *, threshold: float, match: str = "iou"
) -> tuple[np.ndarray, np.ndarray]:
    """Merge the boxes of one image; see `merge_all` for the rule and what it raises.

    Args:
      boxes: `[P, 4]`.
      scores: `[P]`, or `[P, K]` of K classes.
      threshold: largest match score of two boxes that are merged.
      match: `iou`, `overfeat` or `literal`.

    Returns:
      float64 boxes `[M, 4]`, M <= P, and their scores `[M]` or `[M, K]`; no padding.
    """
    merged, sums = merge_all(boxes[None], scores[None], threshold=threshold, match=match)
    present = ~np.isnan(merged[0, :, 0])
    return merged[0, present], sums[0, present]


def merge_all(
    boxes: np.ndarray, scores: np.ndarray, *, threshold: float, match: str = "iou"
) -> tuple[np.ndarray, np.ndarray]:
    """Merge the boxes of each of N images (OverFeat, section 4.4).

    Repeated until the smallest match score of two boxes is above the threshold: the two, i < j, are
    replaced by the mean of their coordinates. Of pairs with the same match score the one with the
    smallest i is taken, and of these the one with the smallest j. The mean takes the place of i,
    and j is removed. The score of a merged box is the sum of the scores of the boxes that it was
    made of, in their order.

    The papers print neither threshold nor k, and OverFeat's words for the match score, taken
    literally, merge boxes the rather the less they overlap. Match scores, smaller is better:

      iou: 1 - intersection over union, in 0..1.
      overfeat: distance of the centers - intersection area.
      literal: distance of the centers + intersection area, OverFeat's words.

    Args:
      boxes: `[N, P, 4]`, (xmin, ymin, xmax, ymax) as fractions of the picture; a box that is not
        finite is padding. Where every class has boxes of its own, N counts pairs of an image and a
        class.
      scores: `[N, P]`, or `[N, P, K]` of K classes; those of padding are ignored.
      threshold: largest match score of two boxes that are merged.
      match: `iou`, `overfeat` or `literal`.

    Returns:
      float64 boxes `[N, P, 4]`, NaN in places where no box is left, and their float64 scores,
      -inf in such places, in the shape of `scores`.

    Raises:
      ValueError: if the shapes do not fit, the threshold is not finite, or there is no such match.
    """
    images, places = boxes.shape[:2]
    if boxes.shape[2:] != (4,) or scores.shape[:2] != (images, places):
        raise ValueError(f"boxes {boxes.shape} and scores {scores.shape} are not [N, P, 4], [N, P]")
    if match not in _MATCHES:
        raise ValueError(f"match {match!r} is not one of {', '.join(_MATCHES)}")
    if not np.isfinite(threshold):
        raise ValueError(f"threshold {threshold} is not finite")
    merged = np.full((images, places, 4), np.nan)
    sums = np.full(scores.shape, -np.inf)
    if not places:
        return merged, sums
    at_once = max(1, _BOXES_AT_ONCE // places)
    for start in range(0, images, at_once):
        part = slice(start, start + at_once)
        corners, alive, owner = _merge(boxes[part], threshold, _MATCHES[match])
        merged[part][alive] = corners[alive]
        sums[part] = _sums(scores[part], alive, owner)
    return merged, sums


def best_boxes(merged: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the box with the highest score of each class, clipped to the picture.

    Of boxes with the same score the first is taken.

    Args:
      merged: `[..., P, 4]` boxes as fractions of the picture, of one image or of many.
      scores: `[..., P, K]` of K classes.

    Returns:
      float64 boxes `[..., K, 4]`, NaN where there are none, and their scores `[..., K]`.

    Raises:
      ValueError: if P = 0.
    """
    best = scores.argmax(axis=-2)
    found = np.take_along_axis(merged, best[..., None], axis=-2)
    return np.clip(found, 0.0, 1.0), np.take_along_axis(scores, best[..., None, :], -2)[..., 0, :]


def _merge(
    boxes: np.ndarray, threshold: float, match: _Match
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes `[L, P, 4]`, which of them are left `[L, P]`, and where each went `[L, P]`.

    For every box the smallest match score with a later one is kept, and with which: its partner. If
    that one is merged or removed, the kept score can only be too small. The partner is then
    forgotten, and looked for again if the score comes up as the smallest of all.
    """
    alive = np.isfinite(boxes).all(axis=2)
    # One array per coordinate: NumPy is slow along axes of length 4.
    corners = np.moveaxis(np.where(alive[..., None], boxes, 0.0), 2, 0).astype(np.float64, "C")
    lanes, places = alive.shape
    lane, place = np.arange(lanes), np.arange(places)
    parent = np.tile(place, (lanes, 1))
    partner = np.full((lanes, places), -1)
    nearest = np.where(alive, -np.inf, np.inf)
    while True:
        i = nearest.argmin(axis=1)
        if not (nearest[lane, i] <= threshold).any():
            return np.moveaxis(corners, 0, 2), alive, _roots(parent)
        j = partner[lane, i]
        merging = (nearest[lane, i] <= threshold) & (j >= 0)
        at, first, second = lane[merging], i[merging], j[merging]
        corners[:, at, first] = (corners[:, at, first] + corners[:, at, second]) / 2
        alive[at, second] = False
        parent[at, second] = first
        nearest[at, second] = np.inf
        moved, removed = np.where(merging, i, -1)[:, None], np.where(merging, j, -1)[:, None]
        partner[(partner == moved) | (partner == removed)] = -1

        # In an image that is done with, i may be the place of a box that was removed.
        both = alive & alive[lane, i, None]
        score = np.where(both, match(corners[:, lane, i, None], corners), np.inf)
        later = place > i[:, None]
        row = np.where(later, score, np.inf)
        partner[lane, i] = row.argmin(axis=1)
        nearest[lane, i] = row[lane, partner[lane, i]]
        closer = (score < nearest) | ((score == nearest) & (partner > i[:, None]))
        closer &= place < i[:, None]
        np.copyto(nearest, score, where=closer)
        np.copyto(partner, i[:, None], where=closer)


def _roots(parent: np.ndarray) -> np.ndarray:
    """Return the last of each box's chain of parents, `[L, P]`."""
    while True:
        further = np.take_along_axis(parent, parent, axis=1)
        if (further == parent).all():
            return parent
        parent = further


def _sums(scores: np.ndarray, alive: np.ndarray, owner: np.ndarray) -> np.ndarray:
    sums = np.zeros(scores.shape)
    np.add.at(sums, (np.arange(len(owner))[:, None], owner), scores)
    sums[~alive] = -np.inf
    return sums


def _iou(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    shared = _intersection(one, others)
    union = _area(one) + _area(others) - shared
    return np.asarray(1 - shared / np.where(union > 0, union, 1.0))


def _overfeat(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.asarray(_distance(one, others) - _intersection(one, others))


def _literal(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.asarray(_distance(one, others) + _intersection(one, others))


def _area(corners: np.ndarray) -> np.ndarray:
    xmin, ymin, xmax, ymax = corners
    return np.asarray(np.maximum(xmax - xmin, 0.0) * np.maximum(ymax - ymin, 0.0))


def _intersection(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    low, high = np.maximum(one[:2], others[:2]), np.minimum(one[2:], others[2:])
    return _area(np.concatenate([low, high]))


def _distance(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    x, y = (one[:2] + one[2:]) / 2 - (others[:2] + others[2:]) / 2
    return np.asarray(np.sqrt(x * x + y * y))


_MATCHES: dict[str, _Match] = {"iou": _iou, "overfeat": _overfeat, "literal": _literal}
