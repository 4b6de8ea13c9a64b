"""Seeded splits of Caltech-101 and -256 into training and test images (VGG appendix B); pure.

    source = caltech.open_caltech("caltech101", path)
    for split in draw(CALTECH["caltech101"], source.file_names, source.labels, seed=0):
        fit(descriptors[split.train], labels[split.train], ...)

The background counts as a class like any other: the paper counts 102 classes of Caltech-101 and 257
of Caltech-256, which they only have with BACKGROUND_Google and 257.clutter.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deepconv.exceptions import UserError


class Protocol(NamedTuple):
    """How a data set is split.

    Attributes:
      train: training images of each class.
      test: test images of each class at most; None for all the others.
      splits: how often it is split.
    """

    train: int
    test: int | None
    splits: int


# Appendix B; by the names of `caltech.open_caltech`.
CALTECH = {"caltech101": Protocol(30, 50, 3), "caltech256": Protocol(60, None, 3)}


class Split(NamedTuple):
    """Numbers of records, int `[n]`, ascending.

    Attributes:
      train: to train on.
      test: to test on.
    """

    train: np.ndarray
    test: np.ndarray


def draw(
    protocol: Protocol, file_names: Sequence[str], labels: Sequence[int], *, seed: int
) -> tuple[Split, ...]:
    """Draw the splits of a data set.

    The images of a class are ranked by a hash of (seed, number of the split, file name); the first
    are trained on, the next are tested. So a split depends on nothing else, not on the order of the
    images or the other classes, and an image more or less moves few others.

    Args:
      protocol: how many images, and splits.
      file_names: `<class>/<name>` of each image.
      labels: of each image.
      seed: of the draw.

    Raises:
      UserError: if a class has too few images to train on, and test at least one.
    """
    return tuple(
        _draw(protocol, file_names, labels, f"{seed}:{number}") for number in range(protocol.splits)
    )


def _draw(protocol: Protocol, file_names: Sequence[str], labels: Sequence[int], seed: str) -> Split:
    by_class: dict[int, list[int]] = {}
    for record, label in enumerate(labels):
        by_class.setdefault(int(label), []).append(record)
    train: list[int] = []
    test: list[int] = []
    for records in by_class.values():
        if len(records) <= protocol.train:
            raise UserError(
                f"class {file_names[records[0]].split('/')[0]} has {len(records)} pictures, but "
                f"{protocol.train} are trained on and others tested"
            )
        ranked = sorted(records, key=lambda record: _rank(seed, file_names[record]))
        rest = ranked[protocol.train :]
        train += ranked[: protocol.train]
        test += rest[: protocol.test]
    return Split(np.array(sorted(train), int), np.array(sorted(test), int))


def _rank(seed: str, file_name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{file_name}".encode(errors="surrogateescape")).digest()
