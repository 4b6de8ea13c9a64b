"""Which boxes of an annotation can be used, and what is said about those that cannot.

    refusals = Refusals()
    try:
        box = fractions((3, 4, 10, 20), height=50, width=40)
    except BadBoxError as error:
        refusals.add("boxes.csv, line 7", error)
    refusals.end()

A box that cannot be used is as if it were not there; the run goes on.
"""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepconv import naming
from deepconv.data import decode

_LOG = logging.getLogger(__name__)

# So many refused boxes are logged one by one; the rest are counted.
MOST_LINES = 20


class BadBoxError(ValueError):
    """The box cannot be used; the message names it and says why."""


class Size(NamedTuple):
    """The size of a picture as it is stored, in pixels."""

    height: int
    width: int


class Refusals:
    """Logs what cannot be used, the first `MOST_LINES` one by one, and counts it.

    Attributes:
      count: how many there are.
    """

    def __init__(self) -> None:
        self.count = 0

    def add(self, where: str, why: object) -> None:
        """Count one more, and log it unless there have been many.

        Args:
          where: the file, and the line or the picture.
          why: what is wrong, such as a `BadBoxError`.
        """
        self.count += 1
        if self.count <= MOST_LINES:
            _LOG.warning("not used: %s: %s", naming.one_line(where), naming.one_line(str(why)))

    def end(self) -> None:
        """Log how many were not logged, if any."""
        if self.count > MOST_LINES:
            _LOG.warning("not used: and %d more", self.count - MOST_LINES)


def fractions(
    edges: Sequence[float],
    height: float,
    width: float,
    *,
    written: Sequence[float] | None = None,
    slack: float = 0.0,
) -> np.ndarray:
    """Return a box as fractions of its picture.

    Args:
      edges: (xmin, ymin, xmax, ymax) in pixels, 0 at the left and upper edge of the picture.
      height: height of the picture, in pixels.
      width: width of the picture, in pixels.
      written: the box as it is in its file, for messages; by default, the edges.
      slack: a box that exceeds the picture by so many pixels at most is clipped.

    Returns:
      float32 `[4]`, in 0..1, xmin < xmax and ymin < ymax.

    Raises:
      BadBoxError: if it is turned around, empty, outside the picture, or not four numbers.
    """
    box, size = np.asarray(edges, np.float64), np.array([width, height] * 2, np.float64)
    shown = f"the box ({', '.join(f'{edge:g}' for edge in written or edges)})"
    if not np.isfinite(box).all():
        raise BadBoxError(f"{shown} is not four numbers")
    if (box[2:] < box[:2]).any():
        raise BadBoxError(f"{shown} is turned around")
    if (box < -slack).any() or (box > size + slack).any():
        raise BadBoxError(f"{shown} is outside the picture, which is {width:g}x{height:g}")
    result = (np.clip(box, 0, size) / size).astype(np.float32)
    if (result[2:] <= result[:2]).any():
        raise BadBoxError(f"{shown} is empty")
    return result


def sizes(paths: Sequence[Path]) -> list[Size | None]:
    """Read the sizes of pictures from their headers, several at once.

    Returns:
      The size of each, or None if it cannot be read.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(_size, paths))


def _size(path: Path) -> Size | None:
    try:
        return Size(*decode.image_size(path.read_bytes()))
    except (OSError, decode.UnreadableImageError):
        return None
