"""VGG-C (16 weight layers): B with a 1x1 convolution at the end of blocks 3 to 5.

    deepconv train --config=vgg_c       # A, then S = 256, 384 and jitter
    deepconv train --config=vgg_c:256   # as far as S = 256
    deepconv train --config=vgg_c:tiny

Paper: 28.1 / 9.4 percent top-1 / top-5 error on ImageNet's validation set (Table 3: S = Q = 256,
dense evaluation). Not run here.
"""

from ml_collections import ConfigDict

from deepconv.configs.vgg_a import vgg


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe of the paper up to a stage; `tiny` makes it small."""
    return vgg("vgg_c", variant, pretrain=True)
