"""Summarize the posteriors of a set of images: errors, intervals, classes, confusions.

report(log_posteriors, labels, class_names, image_ids)["top1_error"]
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from deepconv.evaluation import errors

# 95 percent of a normal distribution is within this many standard deviations of its mean.
_Z = 1.959963984540054
MOST_CONFUSED = 20
WORST_IMAGES = 20


def interval(wrong: int, images: int) -> tuple[float, float]:
    """Return Wilson's 95 % confidence interval of an error, as fractions.

    (p + z^2 / 2n ± z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), p = wrong / n.

    Args:
      wrong: number of misclassified images.
      images: number of images n.
    """
    p, z2 = wrong / images, _Z**2 / images
    middle, reach = p + z2 / 2, _Z * math.sqrt((p * (1 - p) + z2 / 4) / images)
    return max(0.0, (middle - reach) / (1 + z2)), min(1.0, (middle + reach) / (1 + z2))


def report(
    log_posteriors: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    image_ids: Sequence[str],
) -> dict[str, Any]:
    """Summarize an evaluation.

    Classes are ranked by the logs, so posteriors too small for float32 do not tie.

    Args:
      log_posteriors: float `[N, C]`; -inf is a posterior of 0.
      labels: `[N]` int, 0..C-1.
      class_names: names of the C classes.
      image_ids: names of the N images.

    Returns:
      `images`; `top1_error`, `top1_interval`, `top5_error`, `top5_interval` as fractions; `loss`,
      the mean of -log of the true class's posterior, in nats; `classes`, the classes with their
      errors, worst first; `confusions`, the most frequent pairs of a true and a predicted class;
      `worst`, the images whose true class has the lowest posterior, with their five best labels.

    Raises:
      ValueError: if there are no images, or a label is not a class number.
    """
    images, classes = len(labels), log_posteriors.shape[1]
    if not images:
        raise ValueError("there are no images to evaluate")
    if (wrong := (labels < 0) | (labels >= classes)).any():
        raise ValueError(f"label {labels[wrong][0]} is not in 0 to {classes - 1}")
    ranks = np.asarray(errors.ranks(jnp.asarray(log_posteriors), jnp.asarray(labels)))
    first, fifth = ranks >= 1, ranks >= 5
    of_true = log_posteriors[np.arange(images), labels].astype(np.float64)
    return {
        "images": images,
        "top1_error": float(first.mean()),
        "top1_interval": interval(int(first.sum()), images),
        "top5_error": float(fifth.mean()),
        "top5_interval": interval(int(fifth.sum()), images),
        "loss": float(-of_true.mean()),
        "classes": _by_class(first, fifth, labels, class_names),
        "confusions": _confusions(log_posteriors.argmax(axis=1), first, labels, class_names),
        "worst": _worst(log_posteriors, of_true, labels, class_names, image_ids),
    }


def _by_class(
    first: np.ndarray, fifth: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    rows = [
        {
            "name": name,
            "images": int(of_class.sum()),
            "top1_error": float(first[of_class].mean()),
            "top5_error": float(fifth[of_class].mean()),
        }
        for number, name in enumerate(class_names)
        if (of_class := labels == number).any()
    ]
    return sorted(rows, key=lambda row: row["top1_error"], reverse=True)


def _confusions(
    predicted: np.ndarray, wrong: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    pairs, counts = np.unique(
        np.stack([labels[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True
    )
    most = np.argsort(-counts, kind="stable")[:MOST_CONFUSED]
    return [
        {"true": class_names[true], "predicted": class_names[other], "images": int(count)}
        for (true, other), count in zip(pairs[most], counts[most], strict=True)
    ]


def _worst(
    log_posteriors: np.ndarray,
    of_true: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    image_ids: Sequence[str],
) -> list[dict[str, Any]]:
    rows = []
    for number in np.argsort(of_true, kind="stable")[:WORST_IMAGES]:
        best = np.argsort(-log_posteriors[number], kind="stable")[:5]
        rows.append(
            {
                "image": image_ids[number],
                "true": class_names[labels[number]],
                "posterior": float(np.exp(of_true[number])),
                "best": [[class_names[c], float(np.exp(log_posteriors[number, c]))] for c in best],
            }
        )
    return rows
