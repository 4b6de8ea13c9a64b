"""VGG-B (13 weight layers): A with a second convolution in blocks 1 and 2.

    deepconv train --config=vgg_b       # A, then S = 256, 384 and jitter
    deepconv train --config=vgg_b:256   # as far as S = 256
    deepconv train --config=vgg_b:tiny

Paper: 28.7 / 9.9 percent top-1 / top-5 error on ImageNet's validation set (Table 3: S = Q = 256,
dense evaluation). Not run here.
"""

from ml_collections import ConfigDict

from deepconv.configs.vgg_a import vgg


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe of the paper up to a stage; `tiny` makes it small."""
    return vgg("vgg_b", variant, pretrain=True)
