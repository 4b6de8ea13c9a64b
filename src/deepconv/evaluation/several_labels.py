"""Summarize the scores of images with several labels each: average precision (VOC); pure.

of_labels(scores, present, "11-point", class_names, image_ids)["mean"]
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepconv.evaluation import class_means
from deepconv.evaluation.class_means import ABSENT, PRESENT, Rule

WORST_IMAGES = 20
BEST = 5


def of_labels(
    scores: np.ndarray,
    present: np.ndarray,
    rule: Rule,
    class_names: Sequence[str],
    image_ids: Sequence[str],
) -> dict[str, Any]:
    """Summarize images of several classes each by the mean average precision (VOC).

    Args:
      scores: `[N, C]`.
      present: `[N, C]` int, 1 present, 0 absent, -1 unknown.
      rule: that of `mean`.
      class_names: names of the C classes.
      image_ids: names of the N images.

    Returns:
      `metric`; `mean`, by the rule, as a fraction; `deviation`, None; `means` by both rules;
      `images`; `left_out`, how many classes are in no image; `classes`, with the average precisions
      and the number of images, worst first; `worst`, the images with a class that scores farthest
      on the wrong side of 0, which class it is, and the five best classes.

    Raises:
      ValueError: see `class_means.mean_average_precision`.
    """
    rules: tuple[Rule, ...] = ("11-point", "all-point")
    found = {each: class_means.mean_average_precision(scores, present, each) for each in rules}
    of_class = found[rule].of_class
    ranked = np.argsort(of_class, kind="stable").tolist()  # those without a value are last
    return {
        "metric": f"mean average precision, {rule}",
        "mean": found[rule].mean,
        "deviation": None,
        "means": {each: found[each].mean for each in rules},
        "images": len(scores),
        "left_out": found[rule].left_out,
        "classes": [
            {
                "name": class_names[number],
                "images": int((present[:, number] == PRESENT).sum()),
                "average_precision": {each: float(found[each].of_class[number]) for each in rules},
            }
            for number in ranked[: len(ranked) - found[rule].left_out]
        ],
        "worst": _worst_labels(scores, present, class_names, image_ids),
    }


def _worst_labels(
    scores: np.ndarray,
    present: np.ndarray,
    class_names: Sequence[str],
    image_ids: Sequence[str],
) -> list[dict[str, Any]]:
    wrong_by = np.where(present == PRESENT, -scores, np.where(present == ABSENT, scores, -np.inf))
    worst = np.argsort(-wrong_by.max(axis=1), kind="stable")[:WORST_IMAGES]
    return [
        {
            "image": image_ids[image],
            "true": [
                name
                for name, value in zip(class_names, present[image], strict=True)
                if value == PRESENT
            ],
            "class": class_names[int(wrong_by[image].argmax())],
            "margin": float(-wrong_by[image].max()),
            "best": best_classes(scores[image], class_names),
        }
        for image in worst.tolist()
    ]


def best_classes(scores: np.ndarray, class_names: Sequence[str]) -> list[list[Any]]:
    """Return (name, score) of the classes with the highest of the scores `[C]`, best first."""
    order = np.argsort(-scores, kind="stable")[:BEST]
    return [[class_names[number], float(scores[number])] for number in order]
