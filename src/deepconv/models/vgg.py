"""VGG: the six networks of Table 1 of Simonyan & Zisserman (2014), and B's shallow twin."""

import dataclasses

from deepconv.models.classifier import classifier
from deepconv.models.layers import LRN, Activation, Conv, Layer, Pool
from deepconv.models.width import scaled, with_gain_of

# Table 1: the kernel sides of each block's convolutions. Every block ends in 2x2 max-pooling.
TABLE_1: dict[str, tuple[tuple[int, ...], ...]] = {
    # channels:    64        128       256              512              512
    "vgg_a": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "vgg_a_lrn": ((3,), (3,), (3, 3), (3, 3), (3, 3)),  # and LRN after conv1_1
    "vgg_b": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "vgg_b_shallow": ((5,), (5,), (5,), (5,), (5,)),  # section 4.1, not in the table
    "vgg_c": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "vgg_d": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "vgg_e": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}
CHANNELS = (64, 128, 256, 512, 512)
HIDDEN = 4096


def vgg(
    name: str,
    num_classes: int = 1000,
    *,
    width: float = 1.0,
    crop: int = 224,
    dropout: float = 0.5,
    std: float = 0.01,
    keep_gain: bool = False,
) -> tuple[Layer, ...]:
    """Lay out one of the VGG networks (section 2.1).

    3x3 (and 1x1) convolutions with stride 1 keep the map's size; a ReLU follows each. Only A-LRN
    has LRN, with AlexNet's constants. B's shallow twin has a 5x5 convolution, with the same
    receptive field, in the place of each pair of B's (section 4.1).

    Args:
      name: a key of `TABLE_1`.
      num_classes: outputs of fc8.
      width: factor of the number of channels of every hidden layer.
      crop: side of the training crop in pixels; it determines the side of fc6's kernel (7 for 224).
      dropout: rate after fc6 and fc7; 0 omits dropout.
      std: standard deviation of the Gaussian of the initializer "paper" (section 3.1).
      keep_gain: whether a narrow net gets the full net's initial gain; see `with_gain_of`.

    Returns:
      The layers, under Caffe's names.

    Raises:
      ValueError: if the crop is too small for five poolings, or the standard deviation is not
        positive.
    """
    if std <= 0:
        raise ValueError(f"model.std must be positive, not {std}")
    layers: list[Layer] = []
    for block, (channels, kernels) in enumerate(zip(CHANNELS, TABLE_1[name], strict=True), start=1):
        for index, kernel in enumerate(kernels, start=1):
            padding = (kernel // 2, kernel // 2)
            layers += [
                Conv(f"conv{block}_{index}", scaled(channels, width), kernel, padding=padding),
                Activation(f"relu{block}_{index}"),
            ]
            if name == "vgg_a_lrn" and block == 1:
                layers.append(LRN("norm1_1"))
        layers.append(Pool(f"pool{block}", window=2, stride=2))
    head = classifier(
        layers,
        num_classes,
        crop=crop,
        hidden=scaled(HIDDEN, width),
        dropout=dropout,
        scale_at="train",
    )
    whole = tuple(
        dataclasses.replace(layer, std=std) if isinstance(layer, Conv) else layer
        for layer in (*layers, *head)
    )
    if not keep_gain:
        return whole
    # The call without keep_gain lays out the paper's full-width net, whose fan-ins are the target.
    return with_gain_of(vgg(name, num_classes), whole)
