"""AlexNet: the network of Krizhevsky, Sutskever & Hinton (2012), and its successor of 2014."""

from typing import Any

from deepconv.models.classifier import classifier
from deepconv.models.layers import LRN, Activation, Conv, Dropout, Layer, Pool
from deepconv.models.width import scaled, with_gain_of

# The published conventions for LRN: section 3.3 multiplies the plain sum of squares by alpha; the
# released code and Caffe divide alpha by the window of 5, and Caffe's default k is 1.
LRN_CONVENTIONS: dict[str, dict[str, Any]] = {
    "paper": {"k": 2.0, "alpha": 1e-4},
    "original_code": {"k": 2.0, "alpha": 1e-4 / 5},
    "caffe": {"k": 1.0, "alpha": 1e-4 / 5},
}
POOLINGS = {"overlapping": 3, "non_overlapping": 2}
MIDDLE = ("conv2", "conv3", "conv4", "conv5")
HIDDEN = 4096


def alexnet(
    num_classes: int = 1000,
    *,
    width: float = 1.0,
    crop: int = 224,
    dropout: float = 0.5,
    towers: int = 2,
    half: bool = False,
    lrn: str = "paper",
    pooling: str = "overlapping",
    without: str = "",
    conv6: bool = False,
    keep_gain: bool = False,
) -> tuple[Layer, ...]:
    """Lay out AlexNet.

    As in the original code, conv1 pads three zeros on the right and bottom edges only, so both
    224 pixels and 227 (Caffe's crop) give a 55x55 map with the same parameters. The order is
    convolution, ReLU, LRN, pooling.

    Args:
      num_classes: outputs of fc8.
      width: factor of the number of channels of every hidden layer.
      crop: side of the training crop in pixels; it determines the side of fc6's kernel (6 for 224).
      dropout: rate after fc6 and fc7; 0 omits dropout. Outputs are halved at test time (section
        4.2).
      towers: 2 as in the paper, where conv2, conv4 and conv5 see only their own half of the
        channels and LRN stays within a tower; 1 for the later one-tower net.
      half: whether conv1 to conv4 have half as many kernels: the one-GPU net that section 3.2
        compares with. conv5, fc6 and fc7 keep theirs. Requires towers=1.
      lrn: a key of `LRN_CONVENTIONS`, or "none". Caffe's windows cross the tower boundary.
      pooling: "overlapping" (3x3, stride 2) or "non_overlapping" (2x2, stride 2; section 3.4).
      without: one of `MIDDLE`, removed together with its ReLU and LRN (section 7), or "".
      conv6: whether a sixth convolution, fed by both towers, follows pool5 (section 6.1).
      keep_gain: whether a narrow net gets the full net's initial gain; see `with_gain_of`.

    Returns:
      The layers.

    Raises:
      ValueError: if an option is unknown, two options conflict, or the crop is too small.
    """
    _check_choice("lrn", lrn, (*LRN_CONVENTIONS, "none"))
    _check_choice("pooling", pooling, tuple(POOLINGS))
    _check_choice("without", without, (*MIDDLE, ""))
    if towers not in (1, 2):
        raise ValueError(f"model.towers must be 1 or 2, not {towers}")
    if half and towers == 2:
        raise ValueError("model.half=True is a one-tower net: set model.towers=1")

    def conv(
        name: str, kernels: int, side: int, groups: int = 1, bias: float = 0.0, **geometry: Any
    ) -> list[Layer]:
        if half and name in ("conv1", "conv2", "conv3", "conv4"):
            kernels //= 2
        features = scaled(kernels, width, towers)
        layer = Conv(name, features, side, groups=groups, bias=bias, **geometry)
        return [layer, Activation(f"relu{name.removeprefix('conv')}")]

    def norm(name: str) -> list[Layer]:
        groups = 1 if lrn == "caffe" else towers
        return [] if lrn == "none" else [LRN(name, groups=groups, **LRN_CONVENTIONS[lrn])]

    def pool(name: str) -> Layer:
        return Pool(name, window=POOLINGS[pooling], stride=2)

    # The name relu6 is taken: it is fc6's ReLU.
    sixth = [conv("conv6", 256, 3, bias=1.0, padding=(1, 1))[0], Activation("relu_conv6")]
    trunk = [
        *conv("conv1", 96, 11, stride=4, padding=(0, 3)),
        *norm("norm1"),
        pool("pool1"),
        *conv("conv2", 256, 5, groups=towers, bias=1.0, padding=(2, 2)),
        *norm("norm2"),
        pool("pool2"),
        *conv("conv3", 384, 3, padding=(1, 1)),
        *conv("conv4", 384, 3, groups=towers, bias=1.0, padding=(1, 1)),
        *conv("conv5", 256, 3, groups=towers, bias=1.0, padding=(1, 1)),
        pool("pool5"),
        *(sixth if conv6 else ()),
    ]
    if without:
        number = without.removeprefix("conv")
        trunk = [
            layer
            for layer in trunk
            if layer.name not in (without, f"relu{number}", f"norm{number}")
        ]
    head = classifier(
        trunk,
        num_classes,
        crop=crop,
        hidden=scaled(HIDDEN, width),
        dropout=dropout,
        scale_at="test",
        bias=1.0,
    )
    whole = (*trunk, *head)
    if not keep_gain:
        return whole
    full = alexnet(
        num_classes, dropout=dropout, towers=towers, half=half, without=without, conv6=conv6
    )
    return with_gain_of(full, whole)


def alexnet_owt(
    num_classes: int = 1000, *, width: float = 1.0, crop: int = 224, dropout: float = 0.5
) -> tuple[Layer, ...]:
    """Lay out the one-tower net of "One weird trick" (Krizhevsky 2014), as torchvision has it.

    Not the paper's AlexNet: it has 64, 192, 384, 256 and 256 kernels, pads conv1 with two zeros on
    every side, has no normalization, and applies dropout *before* fc6 and fc7. 61,100,840
    parameters.

    Args:
      num_classes: outputs of fc8.
      width: factor of the number of channels of every hidden layer.
      crop: side of the training crop in pixels; it determines the side of fc6's kernel (6 for 224).
      dropout: rate before fc6 and fc7; 0 omits dropout.

    Returns:
      The layers.

    Raises:
      ValueError: if the crop is too small.
    """

    def conv(number: int, kernels: int, side: int, padding: int, stride: int = 1) -> list[Layer]:
        features = scaled(kernels, width)
        return [
            Conv(f"conv{number}", features, side, stride=stride, padding=(padding, padding)),
            Activation(f"relu{number}"),
        ]

    trunk = [
        *conv(1, 64, 11, padding=2, stride=4),
        Pool("pool1", window=3, stride=2),
        *conv(2, 192, 5, padding=2),
        Pool("pool2", window=3, stride=2),
        *conv(3, 384, 3, padding=1),
        *conv(4, 256, 3, padding=1),
        *conv(5, 256, 3, padding=1),
        Pool("pool5", window=3, stride=2),
    ]
    head = classifier(
        trunk,
        num_classes,
        crop=crop,
        hidden=scaled(HIDDEN, width),
        dropout=dropout,
        scale_at="train",
    )
    first = (Dropout("drop5", dropout),) if dropout else ()
    return (*trunk, *first, *(layer for layer in head if layer.name != "drop7"))


def _check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        listed = ", ".join(choice or '""' for choice in choices)
        raise ValueError(f"unknown model.{option} {value!r}; choose from {listed}")
