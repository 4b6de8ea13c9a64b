"""VGG-A-LRN (11 weight layers): A with local response normalization after conv1_1.

    deepconv train --config=vgg_a_lrn:256
    deepconv train --config=vgg_a_lrn:256,tiny

Paper: 29.7 / 10.5 percent top-1 / top-5 error on ImageNet's validation set (Table 3: S = Q = 256,
dense evaluation). Not run here.
"""

from ml_collections import ConfigDict

from deepconv.configs.vgg_a import vgg


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe of the paper up to a stage; `tiny` makes it small."""
    return vgg("vgg_a_lrn", variant, pretrain=False)
