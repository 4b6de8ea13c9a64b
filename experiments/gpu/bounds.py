r"""How far results may be from those of a float32 network on a CPU; pure functions.

The error of an array is \|a - b\| / \|b\|, with the Euclidean norm over all elements.

Every layer with weights rounds its factors and its result to a relative u (2^-8 in bfloat16, 2^-11
in TF32, 2^-24 in float32), and sums K products in float32, whose roundings grow like sqrt(K) 2^-24.
Roundings are as good as independent, so their squares add up from layer to layer. With a factor of
4 for both parts, since a library may sum in transformed coordinates (Winograd's):

    B_l^2 = sum over the layers i up to l of (4 u)^2 + (4 sqrt(K_i) 2^-24)^2

The update is further from the reference, because a ReLU and a maximum choose. An error of relative
size B in a ReLU's input flips a fraction of about B / pi of the signs, among normal values with
independent errors; half of all units pass a gradient, so the gradient's relative error is
sqrt(2 B / pi). Over all ReLUs and max-poolings j, with the bound B of the last layer:

    U = B + sqrt(sum_j 2 B_j / pi)
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deepconv.models import Network, summary
from deepconv.models.layers import Activation, Pool

FLOAT32 = 2.0**-24
SLACK = 4.0


class Bounds(NamedTuple):
    """Largest errors.

    Attributes:
      activations: by layer.
      update: of every parameter's velocity.
    """

    activations: dict[str, float]
    update: float


def bounds(network: Network, roundoff: float) -> Bounds:
    """Return the bounds of a network whose factors are rounded to a relative `roundoff`."""
    rows = {row.name: row for row in summary.layer_table(network.layers, network.crop)}
    square, choices = 0.0, 0.0
    activations = {}
    for layer in network.layers:
        row = rows.get(layer.name)
        if row and row.kernel:
            terms = _terms(row.kernel, local="local" in row.kind)
            square += (SLACK * roundoff) ** 2 + (SLACK * FLOAT32) ** 2 * terms
        activations[layer.name] = math.sqrt(square)
        if isinstance(layer, Activation | Pool):
            choices += 2 * activations[layer.name] / math.pi
    return Bounds(activations, math.sqrt(square) + math.sqrt(choices))


def _terms(kernel: Sequence[int], *, local: bool) -> int:
    """Return the number of products in a sum: of `[K, K, C, F]`, or `[h, w, K K C, F]`."""
    return kernel[2] if local else math.prod(kernel[:3])


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the relative error of an array; 0 if both are 0."""
    a, b = (np.asarray(x, np.float64) for x in (found, expected))
    size, difference = float(np.linalg.norm(b)), float(np.linalg.norm(a - b))
    if size == 0.0:
        return 0.0 if difference == 0.0 else math.inf
    return difference / size
