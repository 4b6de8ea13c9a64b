"""VGG-A (11 weight layers), trained as in Simonyan & Zisserman (2014), section 3.1.

    deepconv train --config=vgg_a          # S = 256, then 384, then jitter
    deepconv train --config=vgg_a:256      # the one stage of the paper's table
    deepconv train --config=vgg_a:256,tiny # narrow, embedded data, two cores

Paper: 29.6 / 10.4 percent top-1 / top-5 error on ImageNet's validation set (Table 3: S = Q = 256,
dense evaluation); 370,000 updates, 2 to 3 weeks per net on four Titan Blacks. Not run here.
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from deepconv.config.schema import default, tiny, variants
from deepconv.exceptions import UserError

# The variants that select the last stage, and the name of that stage in the recipe.
STAGES = {"256": "256", "384": "384", "jitter": "jitter"}


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe of the paper up to a stage; `tiny` makes it small."""
    return vgg("vgg_a", variant, pretrain=False)


def vgg(
    name: str, variant: str, *, pretrain: bool, stages: Mapping[str, str] = STAGES
) -> ConfigDict:
    """Return the recipe shared by all VGG nets.

    Args:
      name: name of the network.
      variant: the last stage (256, 384 or jitter, which is the default) and `tiny`, separated by a
        comma.
      pretrain: whether the net is initialized from net A.
      stages: the possible last stages, by the names of their variants.

    Raises:
      UserError: if a variant does not exist, or two of them name a stage.
    """
    chosen = variants(name, variant, (*stages, "tiny"))
    last = [stages[part] for part in chosen if part in stages]
    if len(last) > 1:
        raise UserError(f"configs/{name}.py:{variant} names {len(last)} last stages; choose one")
    config = default()
    with config.unlocked():
        config.model.name = name
        config.model.width = 1.0
        config.model.dropout = 0.5
    config.recipe.name = "vgg"
    config.recipe.stage = last[0] if last else "jitter"
    config.recipe.pretrain = pretrain
    # Recommended in the paper's later note; the paper's own Gaussian is "paper".
    config.model.initializer = "glorot"
    config.train.batch_size = 256
    config.train.epochs = 74.0
    if "tiny" in chosen:
        tiny(config, crop=48, scale=56)
        # At the paper's 0.01, a net this narrow falls back to chance with some seeds.
        config.optimizer.learning_rate = 0.005
    return config
