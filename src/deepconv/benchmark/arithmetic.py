"""The floating-point operations that a network's images cost, counted from its layers.

arithmetic.of(network).training  # FLOPs of one image in one update
"""

from typing import NamedTuple

from deepconv import summary
from deepconv.models import Network

FLOPS_OF_A_MAC = 2  # a multiplication and an addition


class Arithmetic(NamedTuple):
    """FLOPs of one crop; see `of` for what is counted.

    Attributes:
      forward: of its scores.
      training: of its scores and of all gradients.
    """

    forward: int
    training: int


def of(network: Network) -> Arithmetic:
    """Count the FLOPs of one crop, two for each multiply-accumulate.

    forward = 2 M, training = 2 (3 M - M_1)

    M are the multiply-accumulates of `summary.layer_table` and M_1 those of the first layer: each
    layer's product is made once forward, once for the gradient of its kernel and once for that of
    its input, which the first layer does not need. Taps that fall on padding count. Biases,
    activations, normalization, pooling, dropout, loss, preprocessing and the update do not.

    Args:
      network: the network; the crop is its own.
    """
    macs = [row.macs for row in summary.layer_table(network.layers, network.crop) if row.macs]
    return Arithmetic(
        forward=FLOPS_OF_A_MAC * sum(macs), training=FLOPS_OF_A_MAC * (3 * sum(macs) - macs[0])
    )
