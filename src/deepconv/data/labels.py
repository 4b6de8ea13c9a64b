"""Which labels a data set may have."""

from collections.abc import Callable

import numpy as np

from deepconv.exceptions import UserError

# What tfds gives an image whose class is not known, as in a challenge's test split.
UNKNOWN = -1


def check_labels(
    labels: np.ndarray, classes: int, *, dataset: str, name_of: Callable[[int], str]
) -> None:
    """Make sure that every label is the number of a class.

    Args:
      labels: `[N]` int.
      classes: C, how many classes there are.
      dataset: what the labels are of, for the message.
      name_of: from a place in `labels` to the name of its record.

    Raises:
      UserError: if a label is not in 0..C-1; the first such record is named.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if not len(wrong):
        return
    label = int(labels[wrong[0]])
    remedy = (
        "-1 stands for an unknown class, so choose a split that has labels"
        if label == UNKNOWN
        else "mend it (deepconv data check finds all such records of a prepared set)"
    )
    raise UserError(
        f"{dataset}: {name_of(int(wrong[0]))} has the label {label}, and the {classes} classes are "
        f"numbered from 0 to {classes - 1}; {remedy}"
    )
