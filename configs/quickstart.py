"""A first run: VGG-A, a quarter as wide, on drawn shapes; minutes on two cores.

python -m deepconv.main --config=configs/quickstart.py --workdir=runs/quickstart
"""

from configs import vgg_a
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Return VGG-A's recipe on the embedded data set."""
    return vgg_a.get_config("tiny")
