"""B's shallow twin (8 weight layers): each pair of 3x3 convolutions replaced by one 5x5.

    deepconv train --config=vgg_b_shallow:256
    deepconv train --config=vgg_b_shallow:256,tiny

Paper: 7 points more top-1 error than B on the center crop of ImageNet's validation images (section
4.1, which does not say how it was initialized). Not run here.
"""

from ml_collections import ConfigDict

from deepconv.configs.vgg_a import vgg


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe of the paper up to a stage; `tiny` makes it small."""
    # A's 3x3 convolutions do not fit.
    return vgg("vgg_b_shallow", variant, pretrain=False)
