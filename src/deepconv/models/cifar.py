"""The four-layer nets of the AlexNet paper's CIFAR-10 experiments (sections 3.1 and 3.3).

The paper refers to cuda-convnet's parameter files: layers-conv-local-13pct.cfg, and
layers-conv-local-11pct.cfg with local response normalization. Widths, paddings and initial weights
are taken from those files.
"""

from typing import Literal

from deepconv.models.layers import (
    ACTIVATIONS,
    LRN,
    Activation,
    Conv,
    Layer,
    LocalConv,
    Pool,
    map_size,
)
from deepconv.models.width import scaled, with_gain_of


def cifar(
    num_classes: int = 10,
    *,
    width: float = 1.0,
    crop: int = 24,
    lrn: bool = False,
    local3: int = 32,
    activation: Literal["relu", "tanh"] = "relu",
    keep_gain: bool = False,
) -> tuple[Layer, ...]:
    """Lay out the four-layer net.

    Args:
      num_classes: outputs of fc10.
      width: factor of the number of kernels of every hidden layer.
      crop: side of the crop in pixels.
      lrn: whether to normalize after pool1 and before pool2 (n = 9, alpha = 0.001 / 9, beta = 0.75,
        k = 1).
      local3: number of kernels of local3, before `width`: 64 in the net with LRN.
      activation: the non-linearity of every hidden layer (Figure 1 compares the two).
      keep_gain: whether a narrow net gets the full net's initial gain; see `with_gain_of`.

    Returns:
      The layers.

    Raises:
      ValueError: if the activation is unknown, the width is not positive or the crop is too small.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"unknown model.activation {activation!r}; choose from {', '.join(ACTIVATIONS)}"
        )

    def norm(name: str) -> list[Layer]:
        return [LRN(name, size=9, k=1.0, alpha=0.001 / 9)] if lrn else []

    trunk = [
        Conv("conv1", scaled(64, width), 5, padding=(2, 2), std=1e-4),
        Activation("relu1", activation),
        Pool("pool1", window=3, stride=2, ceil=True),
        *norm("norm1"),
        Conv("conv2", scaled(64, width), 5, padding=(2, 2)),
        Activation("relu2", activation),
        *norm("norm2"),
        Pool("pool2", window=3, stride=2, ceil=True),
        LocalConv("local3", scaled(local3, width), 3, padding=(1, 1), std=0.04),
        Activation("relu3", activation),
        LocalConv("local4", scaled(32, width), 3, padding=(1, 1), std=0.04),
        Activation("relu4", activation),
    ]
    whole = (*trunk, Conv("fc10", num_classes, map_size(trunk, crop), fully_connected=True))
    if not keep_gain:
        return whole
    return with_gain_of(cifar(num_classes, crop=crop, lrn=lrn, local3=local3), whole)
