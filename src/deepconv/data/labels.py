"""Check that labels are class numbers."""

from collections.abc import Callable

import numpy as np

from deepconv.exceptions import UserError

# tfds' label for images of unknown class, as in a challenge's test split.
UNKNOWN = -1


def check_labels(
    labels: np.ndarray, classes: int, *, dataset: str, name_of: Callable[[int], str]
) -> None:
    """Check that every label is a class number.

    Args:
      labels: `[N]` int.
      classes: number of classes C.
      dataset: name of the data set, for the message.
      name_of: maps an index of `labels` to the name of its record.

    Raises:
      UserError: if a label is not in 0..C-1; the message names the first such record.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if not len(wrong):
        return
    label = int(labels[wrong[0]])
    remedy = (
        "-1 means an unknown class: choose a split with labels"
        if label == UNKNOWN
        else "fix the data set (deepconv data check finds all such records of a prepared set)"
    )
    raise UserError(
        f"{dataset}: {name_of(int(wrong[0]))} has label {label}, but the {classes} classes are "
        f"numbered 0 to {classes - 1}; {remedy}"
    )
