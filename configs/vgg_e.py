"""VGG-E (19 weight layers): D with a fourth convolution in blocks 3 to 5.

    deepconv train --config=vgg_e       # A, then S = 256, 384 and jitter
    deepconv train --config=vgg_e:256   # as far as S = 256
    deepconv train --config=vgg_e:tiny

Paper: 27.3 / 9.0 percent top-1 / top-5 error on ImageNet's validation set (Table 3: S = Q = 256,
dense evaluation). Not run here.
"""

from ml_collections import ConfigDict

from deepconv.configs.vgg_a import vgg


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe of the paper up to a stage; `tiny` makes it small."""
    return vgg("vgg_e", variant, pretrain=True)
