"""Mean class recall (Caltech) and mean average precision (VOC) (VGG appendix B); pure.

mean_class_recall(scores.argmax(axis=1), labels, classes=102).mean
mean_average_precision(scores, present, rule="11-point").of_class
"""

from typing import Literal, NamedTuple, get_args

import numpy as np

# "11-point" is VOC's until 2009, "all-point" its rule from 2010 on.
Rule = Literal["11-point", "all-point"]

# What is known of a class in an image; VOC's own files say 1, -1 and, for difficult objects, 0.
PRESENT, ABSENT, UNKNOWN = 1, 0, -1


class ClassMean(NamedTuple):
    """A metric of every class, and its mean.

    Attributes:
      mean: over the classes that have a value, as a fraction.
      of_class: float64 `[C]`, fractions; NaN for a class without positive examples.
      left_out: how many classes have no value, and are not in the mean.
    """

    mean: float
    of_class: np.ndarray
    left_out: int


def mean_class_recall(predicted: np.ndarray, labels: np.ndarray, classes: int) -> ClassMean:
    """Average the recalls of classes: mean_c (right images of c) / (images of c).

    A class without images has no recall: it is NaN, left out of the mean, and counted.

    Args:
      predicted: `[N]` int, 0..classes-1.
      labels: `[N]` int, 0..classes-1.
      classes: number of classes C.

    Raises:
      ValueError: if a number is not that of a class, the lengths differ, or there are no images.
    """
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    if predicted.shape != labels.shape:
        raise ValueError(f"{predicted.shape} predictions are not of {labels.shape} labels")
    for numbers in (predicted, labels):
        if (wrong := (numbers < 0) | (numbers >= classes)).any():
            raise ValueError(f"class {numbers[wrong][0]} is not in 0 to {classes - 1}")
    images = np.bincount(labels, minlength=classes)
    right = np.bincount(labels[predicted == labels], minlength=classes)
    recalls = np.full(classes, np.nan)
    np.divide(right, images, out=recalls, where=images > 0)
    return _mean(recalls)


def average_precision(
    scores: np.ndarray, labels: np.ndarray, rule: Rule, *, known: np.ndarray | None = None
) -> float:
    """Compute a class's average precision by one of VOC's rules.

    With p(r) = max of the precisions at recalls >= r: 11-point is the mean of p over r = 0, 0.1,
    ..., 1 (VOC 2007, VOCevalcls), all-point is the integral of p over r (VOC 2010 and later).

    Images of equal score enter the ranking together, so their order does not matter; the devkit
    takes them in the order of its list. Recalls are compared in whole numbers: the devkit's own
    comparison misses a recall of 3/10, which is below its sum of three times 0.1.

    Args:
      scores: `[N]`, the higher the more certainly the class is present.
      labels: `[N]` bool, or 1 and 0.
      rule: "11-point" or "all-point".
      known: `[N]` bool; where it is False, the example is left out, as VOC's difficult ones are.

    Returns:
      The average precision, 0..1; NaN if no known example is positive.

    Raises:
      ValueError: if the rule is unknown, the lengths differ, a label is another number, or a score
        is NaN.
    """
    if rule not in get_args(Rule):
        raise ValueError(f"unknown rule {rule!r}; one of {', '.join(get_args(Rule))}")
    scores, labels = np.asarray(scores), np.asarray(labels)
    if known is not None:
        scores, labels = scores[known], labels[known]
    if scores.shape != labels.shape:
        raise ValueError(f"{scores.shape} scores are not of {labels.shape} labels")
    if np.isnan(scores).any():
        raise ValueError("a score is NaN")
    if (wrong := (labels != 0) & (labels != 1)).any():
        raise ValueError(f"label {labels[wrong][0]} is not 0 or 1")
    positives = int(np.count_nonzero(labels))
    if not positives:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    # The last image of each run of equal scores.
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    found = np.cumsum(labels[order], dtype=np.int64)[last]
    precision = found / (last + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    if rule == "11-point":
        first = np.searchsorted(10 * found, np.arange(11) * positives)
        return float(best_from_here[first].mean())
    return float(np.sum(np.diff(found, prepend=0) * best_from_here) / positives)


def mean_average_precision(scores: np.ndarray, present: np.ndarray, rule: Rule) -> ClassMean:
    """Average the average precisions of classes.

    A class that is present in no known image has none: it is NaN, left out of the mean, and
    counted.

    Args:
      scores: `[N, C]`.
      present: `[N, C]` int: PRESENT, ABSENT, or UNKNOWN, which leaves the image out for that class.
      rule: see `average_precision`.

    Raises:
      ValueError: as `average_precision`; or if no class is present anywhere.
    """
    scores, present = np.asarray(scores), np.asarray(present)
    if scores.shape != present.shape:
        raise ValueError(f"{scores.shape} scores are not of {present.shape} labels")
    check_present(present)
    return _mean(
        np.array(
            [
                average_precision(column, truth == PRESENT, rule, known=truth != UNKNOWN)
                for column, truth in zip(scores.T, present.T, strict=True)
            ]
        )
    )


def check_present(present: np.ndarray) -> None:
    """Check that labels say PRESENT, ABSENT or UNKNOWN.

    Raises:
      ValueError: if one is another number.
    """
    if (wrong := ~np.isin(present, (PRESENT, ABSENT, UNKNOWN))).any():
        raise ValueError(
            f"label {present[wrong][0]} is not 1 (present), 0 (absent) or -1 (unknown)"
        )


def _mean(of_class: np.ndarray) -> ClassMean:
    has_value = ~np.isnan(of_class)
    if not has_value.any():
        raise ValueError("no class has a positive example")
    return ClassMean(float(of_class[has_value].mean()), of_class, int((~has_value).sum()))
