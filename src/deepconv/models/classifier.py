"""The fully connected layers at the end of AlexNet and VGG, laid out as convolutions."""

from collections.abc import Sequence
from typing import Literal

from deepconv.models.layers import Activation, Conv, Dropout, Layer, map_size


def classifier(
    trunk: Sequence[Layer],
    num_classes: int,
    *,
    crop: int,
    hidden: int,
    dropout: float,
    scale_at: Literal["train", "test"],
    bias: float = 0.0,
) -> tuple[Layer, ...]:
    """Lay out fc6, fc7 (ReLU and dropout after each) and fc8 after a trunk of convolutions.

    fc6 is a convolution whose kernel spans the trunk's output for one crop; fc7 and fc8 are 1x1
    convolutions. A larger image therefore gives a map of class scores (VGG section 3.2).

    Args:
      trunk: the layers before fc6.
      num_classes: outputs of fc8.
      crop: side of the training crop, in pixels.
      hidden: units of fc6 and of fc7.
      dropout: rate after fc6 and fc7; 0 omits dropout.
      scale_at: see `Dropout`.
      bias: the paper's initial value for the biases of fc6 and fc7.

    Raises:
      ValueError: if the crop is too small for the trunk, or the dropout rate is not in [0, 1).
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"model.dropout must be at least 0 and below 1, not {dropout}")
    layers: list[Layer] = []
    for index, kernel in ((6, map_size(trunk, crop)), (7, 1)):
        layers += [
            Conv(f"fc{index}", hidden, kernel, bias=bias, fully_connected=True),
            Activation(f"relu{index}"),
        ]
        if dropout:
            layers.append(Dropout(f"drop{index}", dropout, scale_at))
    return (*layers, Conv("fc8", num_classes, 1, fully_connected=True))
