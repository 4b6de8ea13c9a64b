"""VGG-D (16 weight layers): C with 3x3 convolutions in place of the 1x1 ones.

    deepconv train --config=vgg_d       # A, then S = 256, 384 and jitter
    deepconv train --config=vgg_d:256   # as far as S = 256
    deepconv train --config=vgg_d:submission  # the 2014 submission's, see below
    deepconv train --config=vgg_d:tiny

Paper: 27.0 / 8.8 percent top-1 / top-5 error on ImageNet's validation set (Table 3: S = Q = 256,
dense evaluation). Not run here.

The submission to ILSVRC-2014 (Table 6, seven nets) included a D of which only the fully connected
layers were fine-tuned with S in [256, 512]; its last stage is vgg_d_jitter_fc.
"""

from ml_collections import ConfigDict

from deepconv.configs.vgg_a import STAGES, vgg


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe of the paper up to a stage; `tiny` makes it small."""
    stages = {**STAGES, "submission": "jitter_fc"}
    return vgg("vgg_d", variant, pretrain=True, stages=stages)
