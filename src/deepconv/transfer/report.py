"""Summarize linear classifiers on a test set beside the paper's Tables 11 and 12; pure.

of_classes([Scores(scores, labels, image_ids), ...], class_names)["mean"]  # over the splits
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from deepconv.evaluation import class_means
from deepconv.evaluation.several_labels import best_classes

MOST_CONFUSED = 20
WORST_IMAGES = 20

ACTIONS = "voc2012_action"

# VGG Tables 11 and 12, in percent: the methods with a result for a data set, VOC's mean average
# precision or Caltech's mean class recall and its deviation. A star: trained on more classes, 2,000
# of Wei et al. and 1,512 of Oquab et al.
PUBLISHED: dict[str, tuple[tuple[str, float, float | None], ...]] = {
    "voc2007": (
        ("Chatfield et al.", 82.4, None),
        ("He et al.", 82.4, None),
        ("Wei et al.", 81.5, None),
        ("Wei et al. *", 85.2, None),
        ("VGG Net-D", 89.3, None),
        ("VGG Net-E", 89.3, None),
        ("VGG Net-D & Net-E", 89.7, None),
    ),
    "voc2012": (
        ("Zeiler & Fergus", 79.0, None),
        ("Chatfield et al.", 83.2, None),
        ("Wei et al.", 81.7, None),
        ("Wei et al. *", 90.3, None),
        ("VGG Net-D", 89.0, None),
        ("VGG Net-E", 89.0, None),
        ("VGG Net-D & Net-E", 89.3, None),
    ),
    "caltech101": (
        ("Zeiler & Fergus", 86.5, 0.5),
        ("Chatfield et al.", 88.4, 0.6),
        ("He et al.", 93.4, 0.5),
        ("VGG Net-D", 91.8, 1.0),
        ("VGG Net-E", 92.3, 0.5),
        ("VGG Net-D & Net-E", 92.7, 0.5),
    ),
    "caltech256": (
        ("Zeiler & Fergus", 74.2, 0.3),
        ("Chatfield et al.", 77.6, 0.1),
        ("VGG Net-D", 85.0, 0.2),
        ("VGG Net-E", 85.1, 0.3),
        ("VGG Net-D & Net-E", 86.2, 0.3),
    ),
    ACTIONS: (
        ("Oquab et al. *", 70.2, None),
        ("Gkioxari et al.", 73.6, None),
        ("Hoai", 76.3, None),
        ("VGG Net-D & Net-E, image only", 79.2, None),
        ("VGG Net-D & Net-E, image and box", 84.0, None),
    ),
}
# Images to train on and to test with, as published, where the data set has splits of its own.
IMAGES = {"voc2007": (5011, 4952), "voc2012": (11540, 10991)}


class Scores(NamedTuple):
    """The scores of a split's test images.

    Attributes:
      scores: `[N, C]`.
      labels: int `[N]`.
      image_ids: names of the images.
    """

    scores: np.ndarray
    labels: np.ndarray
    image_ids: Sequence[str]


def of_classes(splits: Sequence[Scores], class_names: Sequence[str]) -> dict[str, Any]:
    """Summarize images of one class each by the mean class recall (Caltech).

    Args:
      splits: the test images of each split; an image may be in several.
      class_names: names of the C classes.

    Returns:
      `metric`; `mean` over the splits, as a fraction, and their `deviation` (the square root of the
      unbiased variance), None of a single split; `of_splits`, of each the mean class recall, the
      accuracy and the number of images; `left_out`, how many classes have no image in any split;
      `classes`, with recalls over all splits, worst first; `confusions`, the most frequent pairs of
      a true and a predicted class; `worst`, the images whose class's score is farthest below the
      best other one, `margin`, with the five best classes of that split.

    Raises:
      ValueError: see `class_means.mean_class_recall`.
    """
    classes = len(class_names)
    found = [
        class_means.mean_class_recall(each.scores.argmax(axis=1), each.labels, classes)
        for each in splits
    ]
    scores = np.concatenate([each.scores for each in splits])
    labels = np.concatenate([each.labels for each in splits])
    ids = [name for each in splits for name in each.image_ids]
    predicted = scores.argmax(axis=1)
    means = [each.mean for each in found]
    images = np.bincount(labels, minlength=classes)
    right = np.bincount(labels[predicted == labels], minlength=classes)
    return {
        "metric": "mean class recall",
        "mean": float(np.mean(means)),
        "deviation": float(np.std(means, ddof=1)) if len(means) > 1 else None,
        "of_splits": [
            {
                "mean_class_recall": one.mean,
                "accuracy": float((each.scores.argmax(axis=1) == each.labels).mean()),
                "images": len(each.labels),
            }
            for one, each in zip(found, splits, strict=True)
        ],
        "left_out": int((images == 0).sum()),
        "classes": sorted(
            (
                {
                    "name": class_names[number],
                    "images": int(images[number]),
                    "recall": float(right[number] / images[number]),
                }
                for number in np.flatnonzero(images).tolist()
            ),
            key=lambda row: row["recall"],
        ),
        "confusions": _confusions(predicted, labels, class_names),
        "worst": _worst(scores, labels, ids, class_names),
    }


def _confusions(
    predicted: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    wrong = predicted != labels
    pairs, counts = np.unique(
        np.stack([labels[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True
    )
    return [
        {
            "true": class_names[pairs[at][0]],
            "predicted": class_names[pairs[at][1]],
            "images": int(counts[at]),
        }
        for at in np.argsort(-counts, kind="stable")[:MOST_CONFUSED]
    ]


def _worst(
    scores: np.ndarray, labels: np.ndarray, ids: Sequence[str], class_names: Sequence[str]
) -> list[dict[str, Any]]:
    rows = np.arange(len(labels))
    others = scores.copy()
    others[rows, labels] = -np.inf
    margins = scores[rows, labels] - others.max(axis=1)
    listed: dict[str, dict[str, Any]] = {}
    for row in np.argsort(margins, kind="stable"):
        if len(listed) == WORST_IMAGES:
            break
        listed.setdefault(
            ids[row],
            {
                "image": ids[row],
                "true": [class_names[labels[row]]],
                "margin": float(margins[row]),
                "best": best_classes(scores[row], class_names),
            },
        )
    return [*listed.values()]
