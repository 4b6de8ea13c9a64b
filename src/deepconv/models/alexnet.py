"""AlexNet: the network of Krizhevsky, Sutskever & Hinton (2012), section 3.5 and Figure 2."""

from typing import Any

from deepconv.models.classifier import classifier, scaled
from deepconv.models.layers import LRN, Activation, Conv, Layer, Pool

# The published conventions for LRN: section 3.3 multiplies the plain sum of squares by alpha; the
# released code and Caffe divide alpha by the window of 5, and Caffe's default k is 1.
LRN_CONVENTIONS: dict[str, dict[str, Any]] = {
    "paper": {"k": 2.0, "alpha": 1e-4},
    "original_code": {"k": 2.0, "alpha": 1e-4 / 5},
    "caffe": {"k": 1.0, "alpha": 1e-4 / 5},
}
POOLINGS = {"overlapping": 3, "non_overlapping": 2}
HIDDEN = 4096


def alexnet(
    num_classes: int = 1000,
    *,
    width: float = 1.0,
    crop: int = 224,
    dropout: float = 0.5,
    towers: int = 2,
    lrn: str = "paper",
    pooling: str = "overlapping",
) -> tuple[Layer, ...]:
    """Lay out AlexNet.

    Conv1 pads three zeros at the far edges alone, as the original code does: 224 pixels give
    55x55, and so do 227 (Caffe's crop) with the same parameters. Order: convolution, ReLU, LRN,
    pooling.

    Args:
      num_classes: outputs of fc8.
      width: factor of the number of channels of every hidden layer.
      crop: side of the training crop in pixels, which fixes the side of fc6's kernel (224: 6).
      dropout: rate after fc6 and fc7; 0 leaves it out. Outputs are halved at test time (section
        4.2).
      towers: 2 as in the paper, where conv2, 4 and 5 see one half of the channels each and LRN
        stays within a tower; 1 for the later one-tower net.
      lrn: a key of `LRN_CONVENTIONS`, or "none".
      pooling: "overlapping" (3x3, stride 2) or "non_overlapping" (2x2, stride 2; section 3.4).

    Returns:
      The layers.

    Raises:
      ValueError: if an option is unknown or the crop is too small.
    """
    if lrn not in (*LRN_CONVENTIONS, "none"):
        raise ValueError(
            f"unknown model.lrn {lrn!r}; one of {', '.join((*LRN_CONVENTIONS, 'none'))}"
        )
    if pooling not in POOLINGS:
        raise ValueError(f"unknown model.pooling {pooling!r}; one of {', '.join(POOLINGS)}")
    if towers not in (1, 2):
        raise ValueError(f"model.towers must be 1 or 2, not {towers}")

    def conv(
        name: str, channels: int, kernel: int, groups: int = 1, bias: float = 0.0, **geometry: Any
    ) -> list[Layer]:
        features = scaled(channels, width, towers)
        layer = Conv(name, features, kernel, groups=groups, bias=bias, **geometry)
        return [layer, Activation(f"relu{name.removeprefix('conv')}")]

    def norm(name: str) -> list[Layer]:
        return [] if lrn == "none" else [LRN(name, groups=towers, **LRN_CONVENTIONS[lrn])]

    def pool(name: str) -> Layer:
        return Pool(name, window=POOLINGS[pooling], stride=2)

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
    return (*trunk, *head)
