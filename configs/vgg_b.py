"""VGG-B (13 weight layers): A with a second convolution in blocks 1 and 2.

    python -m deepconv.main --config=configs/vgg_b.py       # A, then S = 256, 384 and jitter
    python -m deepconv.main --config=configs/vgg_b.py:256   # as far as S = 256
    python -m deepconv.main --config=configs/vgg_b.py:tiny

Paper: 28.7 / 9.9 percent top-1 / top-5 error on ImageNet's validation set (Table 3: S = Q = 256,
dense evaluation). Not run here.
"""

from ml_collections import ConfigDict

from configs.vgg_a import vgg


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe of the paper up to a stage; `tiny` makes it small."""
    return vgg("vgg_b", variant, pretrain=True)
