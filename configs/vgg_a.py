"""VGG-A (11 weight layers), trained as in Simonyan & Zisserman (2014), section 3.1.

    python -m deepconv.main --config=configs/vgg_a.py --workdir=runs/vgg_a
    python -m deepconv.main --config=configs/vgg_a.py:tiny    # narrow, embedded data, two cores

Paper: 29.6 / 10.4 percent top-1 / top-5 error on ImageNet's validation set (Table 3: S = Q = 256,
dense evaluation); 370,000 updates, 2 to 3 weeks a net on four Titan Blacks. Not run here.
"""

from ml_collections import ConfigDict

from deepconv.config import check_variant, default, tiny


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe of the paper, or its `tiny` variant."""
    return vgg("vgg_a", variant)


def vgg(name: str, variant: str) -> ConfigDict:
    """Return the recipe that all the VGG nets share, at the fixed scale S = 256."""
    check_variant(name, variant, ("", "tiny"))
    config = default()
    with config.unlocked():
        config.model.name = name
        config.model.width = 1.0
        config.model.dropout = 0.5
    # What the paper's later note recommends; its own Gaussian is "paper".
    config.model.initializer = "glorot"
    config.train.batch_size = 256
    config.train.epochs = 74.0
    return tiny(config, crop=48, scale=56) if variant == "tiny" else config
