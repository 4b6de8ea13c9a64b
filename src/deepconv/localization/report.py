"""Summarize where a set of images' objects were found: ILSVRC's localization errors; pure.

    report(classes, boxes, scores, labels, true_boxes, names, ids)["top5_localization_error"]
    report_given_class(boxes, labels, true_boxes, names, ids)["localization_error"]

An object is found by a pair of a class and a box: the class is the true one, and the box and one
of the true boxes have an intersection over union of more than 0.5. All true boxes of an image are
of its class.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepconv.boxes import iou
from deepconv.evaluation.report import WORST_IMAGES, interval

FOUND = 0.5  # an overlap above it


def report(
    classes: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    true_boxes: Sequence[np.ndarray],
    class_names: Sequence[str],
    image_ids: Sequence[str],
) -> dict[str, Any]:
    """Summarize guesses of class and box (VGG tables 9 and 10, ILSVRC's localization task).

    An image is wrong unless one of its guesses finds an object.

    Args:
      classes: `[N, G]` int, the guessed classes, best first; ILSVRC allows G = 5.
      boxes: `[N, G, 4]`, a box for each, as fractions of the picture; NaN overlaps nothing.
      scores: `[N, G]`, which are listed.
      labels: `[N]` int, the true classes, 0..C-1.
      true_boxes: of each image `[K, 4]`, of any number K of objects.
      class_names: names of the C classes.
      image_ids: names of the N images.

    Returns:
      `images`; `top5_localization_error` of all guesses and `top1_localization_error` of the first,
      `top5_error` and `top1_error` of their classes alone, as fractions, each with its interval;
      `mean_iou` of the true class's box with the true box that it overlaps most, over the images
      whose true class was guessed, None without any; `classes`, the classes with their errors, the
      highest top-5 localization error first; `worst`, the images whose true class's box overlaps
      least, by 0 if the class was not guessed, with name, score and overlap of each guess. Of
      images with the same overlap the one with the highest first score comes first. A score that
      is not finite, of a class without a box, is None.

    Raises:
      ValueError: if there are no images or guesses, shapes do not fit, or a label is no class.
    """
    images, guesses = classes.shape
    _check(labels, true_boxes, class_names, image_ids)
    if not guesses:
        raise ValueError("there are no guesses")
    if (images, boxes.shape, scores.shape) != (len(labels), (*classes.shape, 4), classes.shape):
        raise ValueError(
            f"classes {classes.shape}, boxes {boxes.shape}, scores {scores.shape} and labels"
            f" {labels.shape} are not [N, G], [N, G, 4], [N, G] and [N]"
        )
    _check_classes(classes.ravel(), class_names)
    overlaps = _overlaps(boxes, true_boxes)
    right = classes == labels[:, None]
    found = right & (overlaps > FOUND)
    guessed = right.any(axis=1)
    of_true = np.where(right, overlaps, 0.0).max(axis=1)
    wrong = {
        "top5_localization": ~found.any(axis=1),
        "top1_localization": ~found[:, 0],
        "top5": ~guessed,
        "top1": ~right[:, 0],
    }
    return {
        "images": images,
        **_errors(wrong),
        "mean_iou": float(of_true[guessed].mean()) if guessed.any() else None,
        "classes": _by_class(wrong, labels, class_names),
        "worst": [
            {
                "image": image_ids[image],
                "true": class_names[labels[image]],
                "iou": float(of_true[image]),
                "guesses": [
                    [
                        class_names[label],
                        float(score) if np.isfinite(score) else None,
                        float(overlap),
                    ]
                    for label, score, overlap in zip(
                        classes[image], scores[image], overlaps[image], strict=True
                    )
                ],
            }
            for image in np.lexsort([-scores[:, 0], of_true])[:WORST_IMAGES]
        ],
    }


def report_given_class(
    boxes: np.ndarray,
    labels: np.ndarray,
    true_boxes: Sequence[np.ndarray],
    class_names: Sequence[str],
    image_ids: Sequence[str],
) -> dict[str, Any]:
    """Summarize boxes of classes that were given (VGG table 8).

    Args:
      boxes: `[N, 4]`, of the true class, as fractions of the picture; NaN overlaps nothing.
      labels: `[N]` int, the true classes, 0..C-1.
      true_boxes: of each image `[K, 4]`, of any number K of objects.
      class_names: names of the C classes.
      image_ids: names of the N images.

    Returns:
      `images`; `localization_error`, as a fraction, and its interval; `mean_iou` with the true box
      that each overlaps most; `classes`, the classes with their errors, worst first; `worst`, the
      images whose box overlaps least.

    Raises:
      ValueError: if there are no images, shapes do not fit, or a label is no class.
    """
    _check(labels, true_boxes, class_names, image_ids)
    if boxes.shape != (len(labels), 4):
        raise ValueError(f"boxes {boxes.shape} and labels {labels.shape} are not [N, 4] and [N]")
    overlaps = _overlaps(boxes[:, None], true_boxes)[:, 0]
    wrong = {"localization": ~(overlaps > FOUND)}
    return {
        "images": len(labels),
        **_errors(wrong),
        "mean_iou": float(overlaps.mean()),
        "classes": _by_class(wrong, labels, class_names),
        "worst": [
            {
                "image": image_ids[image],
                "true": class_names[labels[image]],
                "iou": float(overlaps[image]),
            }
            for image in np.argsort(overlaps, kind="stable")[:WORST_IMAGES]
        ],
    }


def _check(
    labels: np.ndarray,
    true_boxes: Sequence[np.ndarray],
    class_names: Sequence[str],
    image_ids: Sequence[str],
) -> None:
    if not len(labels):
        raise ValueError("there are no images to evaluate")
    if not len(labels) == len(true_boxes) == len(image_ids):
        raise ValueError(
            f"{len(labels)} labels, true boxes of {len(true_boxes)} and names of {len(image_ids)}"
            " images"
        )
    for name, of_image in zip(image_ids, true_boxes, strict=True):
        if of_image.ndim != 2 or of_image.shape[1] != 4:
            raise ValueError(f"the true boxes {of_image.shape} of {name} are not [K, 4]")
    _check_classes(labels, class_names)


def _check_classes(labels: np.ndarray, class_names: Sequence[str]) -> None:
    classes = len(class_names)
    if (wrong := (labels < 0) | (labels >= classes)).any():
        raise ValueError(f"label {labels[wrong][0]} is not in 0 to {classes - 1}")


def _overlaps(boxes: np.ndarray, true_boxes: Sequence[np.ndarray]) -> np.ndarray:
    """Return the overlap of boxes `[N, G, 4]` with the image's true box that suits each best."""
    owner = np.repeat(np.arange(len(boxes)), [len(of_image) for of_image in true_boxes])
    every = np.concatenate([*true_boxes]).astype(np.float64)
    overlaps = np.zeros(boxes.shape[:2])
    np.maximum.at(overlaps, owner, iou(boxes[owner].astype(np.float64), every[:, None]))
    return overlaps


def _errors(wrong: dict[str, np.ndarray]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, which in wrong.items():
        values[f"{name}_error"] = float(which.mean())
        values[f"{name}_interval"] = interval(int(which.sum()), len(which))
    return values


def _by_class(
    wrong: dict[str, np.ndarray], labels: np.ndarray, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return each class's errors, the class where the first kind is highest first."""
    rows = [
        {
            "name": name,
            "images": int(of_class.sum()),
            **{f"{kind}_error": float(which[of_class].mean()) for kind, which in wrong.items()},
        }
        for number, name in enumerate(class_names)
        if (of_class := labels == number).any()
    ]
    return sorted(rows, key=lambda row: row[f"{next(iter(wrong))}_error"], reverse=True)
