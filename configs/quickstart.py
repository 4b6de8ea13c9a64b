"""A first run: VGG-A at a quarter of its width, on drawn shapes; minutes on two cores.

deepconv train --config=quickstart --workdir=runs/quickstart
"""

from ml_collections import ConfigDict

from deepconv.config import recipe
from deepconv.configs import vgg_a


def get_config() -> ConfigDict:
    """Return the first stage of VGG-A's recipe, on the embedded data set."""
    (stage,) = recipe.stages(vgg_a.get_config("256,tiny"))
    return stage.config
