"""A fitted linear classifier, as plain arrays; pure, and without scikit-learn.

predicted = scores(linear, descriptors).argmax(axis=1)
"""

from typing import NamedTuple

import numpy as np


class Linear(NamedTuple):
    """One linear function for each class.

    Attributes:
      weights: float32 `[D, C]`.
      bias: float32 `[C]`.
    """

    weights: np.ndarray
    bias: np.ndarray


def scores(linear: Linear, descriptors: np.ndarray) -> np.ndarray:
    """Compute x W + b; where it is positive, an SVM says that the class is present.

    Args:
      linear: the classifier.
      descriptors: x, `[N, D]`.

    Returns:
      float32 `[N, C]`.

    Raises:
      ValueError: if the descriptors have another D.
    """
    if descriptors.ndim != 2 or descriptors.shape[1] != len(linear.weights):
        raise ValueError(
            f"descriptors of shape {descriptors.shape} do not fit a classifier of "
            f"{len(linear.weights)} numbers an image"
        )
    return np.asarray(np.asarray(descriptors, np.float32) @ linear.weights + linear.bias)
