"""Diagnose a net that does not learn: find the layer whose activations ignore the image."""

import math
from collections.abc import Mapping

import numpy as np

# Ratio of the spread between images to the magnitude. Healthy layers have 0.1 to 1. Below this
# ratio the biases dominate, and the gradients are too small for SGD at the papers' rates.
VANISHED = 1e-3
EXPLODED = 1e6
# A net whose loss is still this share of ln(C) after an epoch has learned nothing.
STUCK = 0.99


def is_stuck(loss: float, classes: int) -> bool:
    """Return whether a softmax cross-entropy, in nats, is still the ln(C) of random guessing."""
    chance = math.log(classes)
    return STUCK * chance < loss < chance / STUCK


def faulty_layer(activations: Mapping[str, np.ndarray]) -> tuple[str, str] | None:
    """Name the first layer whose activations have vanished or exploded.

    Args:
      activations: activations by layer, in order, each `[N, ...]`, of N >= 2 different images.

    Returns:
      (layer, what is wrong with it), or None if all layers are healthy.
    """
    for name, values in activations.items():
        values = np.asarray(values, np.float64)
        size = np.sqrt(np.mean(values**2))
        if not np.isfinite(size) or size > EXPLODED:
            return name, f"exploded: the root mean square is {size:.3g}"
        spread = np.sqrt(np.mean(values.var(axis=0)))
        if spread <= VANISHED * size:
            return (
                name,
                f"vanished: the spread between images is {spread:.3g} at a magnitude of {size:.3g}",
            )
    return None
