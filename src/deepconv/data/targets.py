"""What the crop of a record's image is to be recognized as: the target of a task; pure.

    CLASS.of(record, window)  # {"label": int32}
    BOX.of(record, window)  # and the box of the object, as the network sees it
    LABELS.of(record, window)  # {"labels": int8 [C]}

A record is a dict with `image` (the bytes of a file) and `label`; with boxes it has `boxes` too,
with several labels `labels`, and for a task of one's own `target` (a dict of arrays) instead.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from deepconv import boxes
from deepconv.data.decode import Crop

# Of one image, for the error during training; of more boxes, the largest in the crop count.
MOST_BOXES = 32

Record = Mapping[str, Any]

_WHOLE = np.array([0.0, 0.0, 1.0, 1.0])


class Target(NamedTuple):
    """How the target of a crop is made of a record.

    Attributes:
      of: `(record, window) -> {name: array}`, of the same shapes for every record.
      shown: `(record, window) -> fraction` of what is to be recognized that the crop shows, 0..1.
        A training crop that shows too little is drawn again; see `Geometry.random`.
    """

    of: Callable[[Record, Crop], dict[str, np.ndarray]]
    shown: Callable[[Record, Crop], float]


def _label(record: Record, _: Crop) -> dict[str, np.ndarray]:
    if "target" in record:
        return {name: np.asarray(value) for name, value in record["target"].items()}
    return {"label": np.asarray(record["label"], np.int32)}


def _everything(_: Record, __: Crop) -> float:
    return 1.0


def _box(record: Record, window: Crop) -> dict[str, np.ndarray]:
    """Return the target of a crop to find a box in (VGG appendix A).

    Of several objects of the image's class the network is to find the one of which the crop shows
    the most.

    Returns:
      `label` int32; `box` float32 `[4]`, (cx, cy, w, h) of that object as fractions of the crop,
      beyond 0..1 where the crop cuts it; `boxes` float32 `[MOST_BOXES, 4]`, (xmin, ymin, xmax,
      ymax) of all of them as fractions of the crop, zeros where there are fewer.
    """
    inside = _most_shown_first(record, window)[:MOST_BOXES]
    padded = np.zeros((MOST_BOXES, 4), np.float32)
    padded[: len(inside)] = inside
    return {
        "label": np.asarray(record["label"], np.int32),
        "box": boxes.encode(inside[0]).astype(np.float32),
        "boxes": padded,
    }


def _labels(record: Record, _: Crop) -> dict[str, np.ndarray]:
    """Return `labels` int8 `[C]`: 1 where a class is present, 0 absent, -1 unknown."""
    return {"labels": np.asarray(record["labels"], np.int8)}


def _visible(record: Record, window: Crop) -> float:
    box = _most_shown_first(record, window)[0]
    return float(boxes.intersection(box, _WHOLE) / boxes.area(box))


def _most_shown_first(record: Record, window: Crop) -> np.ndarray:
    """Return the boxes as fractions of the crop, float64 `[K, 4]`, by their area in it."""
    inside = boxes.to_window(np.asarray(record["boxes"], np.float64), window)
    order = np.argsort(-boxes.intersection(inside, _WHOLE), kind="stable")
    return np.asarray(inside[order])


CLASS = Target(_label, _everything)
BOX = Target(_box, _visible)
LABELS = Target(_labels, _everything)
