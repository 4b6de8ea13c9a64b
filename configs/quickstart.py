"""A first run: VGG-A, a quarter as wide, on drawn shapes; minutes on two cores.

python -m deepconv.main --config=configs/quickstart.py --workdir=runs/quickstart
"""

from ml_collections import ConfigDict

from configs import vgg_a


def get_config() -> ConfigDict:
    """Return VGG-A's recipe on the embedded data set."""
    return vgg_a.get_config("tiny")
