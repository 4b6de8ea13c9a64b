"""VGG-D (16 weight layers): C with 3x3 convolutions in place of the 1x1 ones.

    python -m deepconv.main --config=configs/vgg_d.py --workdir=runs/vgg_d
    python -m deepconv.main --config=configs/vgg_d.py:tiny

Paper: 27.0 / 8.8 percent top-1 / top-5 error on ImageNet's validation set (Table 3: S = Q = 256,
dense evaluation). Not run here.
"""

from ml_collections import ConfigDict

from configs.vgg_a import vgg


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe of the paper, or its `tiny` variant."""
    return vgg("vgg_d", variant)
