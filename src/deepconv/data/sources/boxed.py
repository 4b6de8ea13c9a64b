"""Records with boxes: those of a source whose pictures have any.

    boxes = Boxes.of([[], [np.array([0.1, 0.2, 0.5, 0.8])]])  # of two records, the second has one
    source, part = with_boxes(source, part, boxes)
    source[0]["boxes"]  # float32 [K, 4], K >= 1

The coordinates are those of `deepconv.boxes`: (xmin, ymin, xmax, ymax), as fractions of the
picture's width and height in 0..1.
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from deepconv.data.pipeline import Source
from deepconv.data.sources.identity import BOXES, Part

_LOG = logging.getLogger(__name__)


class Boxes(NamedTuple):
    """The boxes of N records, M in total.

    Attributes:
      starts: int64 `[N + 1]`; those of record i are `corners[starts[i] : starts[i + 1]]`.
      corners: float32 `[M, 4]`, fractions of the picture.
    """

    starts: np.ndarray
    corners: np.ndarray

    @classmethod
    def of(cls, records: Iterable[Sequence[np.ndarray]]) -> Self:
        """Return the boxes of records, given those of each as arrays `[4]`."""
        listed = list(records)
        starts = np.cumsum([0, *map(len, listed)], dtype=np.int64)
        flat = [box for boxes in listed for box in boxes]
        return cls(starts, np.asarray(flat, np.float32).reshape(-1, 4))

    @property
    def counts(self) -> np.ndarray:
        """How many boxes each record has, int64 `[N]`."""
        return np.diff(self.starts)

    def of_record(self, record: int) -> np.ndarray:
        """Return the boxes of one record, float32 `[K, 4]`."""
        return self.corners[self.starts[record] : self.starts[record + 1]]

    def digest(self) -> str:
        """Return a short hash of all boxes, and of which records they belong to."""
        content = hashlib.sha256(self.starts.astype("<i8").tobytes())
        content.update(self.corners.astype("<f4").tobytes())
        return content.hexdigest()[:16]


class BoxedSource:
    """The records of a source that have boxes, with them, under the key `boxes`.

    Attributes:
      source: all records.
      boxes: the boxes of each of them.
      records: the numbers of those that have one, int64 `[len(self)]`.
    """

    def __init__(self, source: Source, boxes: Boxes) -> None:
        self.source = source
        self.boxes = boxes
        self.records = np.flatnonzero(boxes.counts)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, record: int) -> dict[str, Any]:
        """Read one record; `boxes` is float32 `[K, 4]` with K >= 1."""
        return {**self.source[int(self.records[record])], "boxes": self.boxes_of(record)}

    def boxes_of(self, record: int) -> np.ndarray:
        """Return the boxes of one record, float32 `[K, 4]`, without reading its image."""
        return self.boxes.of_record(int(self.records[record]))


def with_boxes(source: Source, part: Part, boxes: Boxes) -> tuple[BoxedSource, Part]:
    """Add boxes to a source, and leave out the records that have none.

    Args:
      source: the records.
      part: identifies them.
      boxes: of each of them.

    Returns:
      The records that have a box, possibly none, and what identifies them and their boxes.
    """
    boxed = BoxedSource(source, boxes)
    if missing := len(source) - len(boxed):
        _LOG.info(
            "%s: %d of %d images have no box and are left out", part.split, missing, len(source)
        )
    content = f"{len(boxes.corners)} {boxes.digest()}"
    return boxed, part._replace(records=len(boxed), contents={**part.contents, BOXES: content})
