"""Localization with VGG-D (appendix A), the winning entry of ILSVRC-2014: a classifier, then boxes.

    deepconv train --config=localization            # S = 384, a box for each class, all layers
    deepconv train --config=localization:256        # at S = 256
    deepconv train --config=localization:single,fc  # one box for all classes; fc6 and fc7 only
    deepconv train --config=localization:tiny

The data set needs boxes, see docs/data.md; for ImageNet, deepconv data imagenet-boxes adds them.
With --config.init.checkpoint=RUN_OR_FILE that classifier is used, and only the network for boxes
trains. `deepconv evaluate` and `deepconv localize` take its run.

Paper: 33.1 percent localization error with the class given at S = 384 (Table 8: per_class, all
layers; with fc6 and fc7 only, 34.3 per_class and 36.4 single), and 25.3 percent top-5 error on the
test set with both scales (Tables 9 and 10). Not run here.
"""

from ml_collections import ConfigDict

from deepconv.config.recipe import EVERYTHING, FULLY_CONNECTED
from deepconv.config.schema import variants
from deepconv.configs.vgg_a import vgg
from deepconv.exceptions import UserError

SCALES = ("256", "384")
BOXES = ("single", "per_class")
LAYERS = ("fc", "all")


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe of both networks; `tiny` makes it small.

    Raises:
      UserError: if a variant does not exist, or two of them exclude each other.
    """
    chosen = variants("localization", variant, (*SCALES, *BOXES, *LAYERS, "tiny"))
    scale, boxes, layers = (_one_of(group, chosen) for group in (SCALES, BOXES, LAYERS))
    config = vgg("vgg_d", "tiny" if "tiny" in chosen else "", pretrain=True)
    config.recipe.name = "localization"
    config.recipe.stage = scale
    with config.unlocked():
        config.model.boxes = boxes
    config.optimizer.trained_layers = FULLY_CONNECTED if layers == "fc" else EVERYTHING
    return config


def _one_of(group: tuple[str, ...], chosen: tuple[str, ...]) -> str:
    """Return which of some variants is chosen; the last is the default."""
    found = [name for name in group if name in chosen]
    if len(found) > 1:
        raise UserError(f"configs/localization.py: choose one of {' and '.join(found)}")
    return found[0] if found else group[-1]
