"""Boxes around objects: their coordinates, and how much two of them overlap; pure.

    box = np.array([0.1, 0.2, 0.5, 0.8])  # xmin, ymin, xmax, ymax, as fractions of the picture
    target = encode(to_window(box, crop))  # cx, cy, w, h, as fractions of the crop
    overlap = iou(box, other)

A box `[..., 4]` is (xmin, ymin, xmax, ymax), the x axis to the right, the y axis down, as fractions
of the picture's width and height unless stated otherwise: it stays the same at every scale. A
network predicts (cx, cy, w, h), the center, width and height as fractions of the crop that it sees,
which may exceed 0..1 (VGG appendix A). The functions take NumPy arrays and JAX arrays alike.
"""

from typing import Any

import numpy as np

from deepconv.data.decode import Crop


def encode(box: Any) -> Any:
    """Return (cx, cy, w, h) `[..., 4]` of (xmin, ymin, xmax, ymax) `[..., 4]`."""
    xp = box.__array_namespace__()
    low, high = box[..., :2], box[..., 2:]
    return xp.concat([(low + high) / 2, high - low], axis=-1)


def decode(code: Any) -> Any:
    """Return (xmin, ymin, xmax, ymax) `[..., 4]` of (cx, cy, w, h) `[..., 4]`; see `encode`.

    A network may predict a negative width or height; it counts as 0, and such a box overlaps
    nothing.
    """
    xp = code.__array_namespace__()
    center, half = code[..., :2], xp.maximum(code[..., 2:], xp.zeros_like(code[..., 2:])) / 2
    return xp.concat([center - half, center + half], axis=-1)


def mirror_code(code: Any) -> Any:
    """Return (cx, cy, w, h) `[..., 4]` after mirroring left and right: (1 - cx, cy, w, h)."""
    xp = code.__array_namespace__()
    return xp.concat([1 - code[..., :1], code[..., 1:]], axis=-1)


def mirror(box: Any) -> Any:
    """Return (xmin, ymin, xmax, ymax) `[..., 4]` after mirroring left and right."""
    xp = box.__array_namespace__()
    return xp.stack([1 - box[..., 2], box[..., 1], 1 - box[..., 0], box[..., 3]], axis=-1)


def to_window(box: np.ndarray, window: Crop) -> np.ndarray:
    """Return a box of the picture, `[..., 4]`, as fractions of a crop's width and height."""
    size = np.array([window.width, window.height] * 2)
    start = np.array([window.left, window.top] * 2)
    return np.asarray((box * size - start) / np.array([window.columns, window.rows] * 2))


def area(box: Any) -> Any:
    """Return the areas `[...]` of boxes `[..., 4]`; 0 for one turned around."""
    xp = box.__array_namespace__()
    sides = xp.maximum(box[..., 2:] - box[..., :2], xp.zeros((), dtype=box.dtype))
    return sides[..., 0] * sides[..., 1]


def intersection(box: Any, other: Any) -> Any:
    """Return the areas `[...]` that boxes `[..., 4]` share; the arguments are broadcast."""
    xp = box.__array_namespace__()
    low = xp.maximum(box[..., :2], other[..., :2])
    high = xp.minimum(box[..., 2:], other[..., 2:])
    return area(xp.concat([low, high], axis=-1))


def iou(box: Any, other: Any) -> Any:
    """Return intersection over union, `[...]` in 0..1, of boxes `[..., 4]`.

    |A and B| / (|A| + |B| - |A and B|), 0 where the union is empty. The coordinates may have any
    origin and unit, another one on each axis, as long as both boxes have the same.
    """
    xp = box.__array_namespace__()
    shared = intersection(box, other)
    union = area(box) + area(other) - shared
    return xp.where(union > 0, shared / xp.where(union > 0, union, xp.ones_like(union)), 0.0)
