"""The stages of a paper's recipe: what trains, from what, in what order.

    for stage in stages(config):
        loop.train(stage.config, workdir / stage.name, source_of(stage))

VGG (section 3.1): net A from random weights at S = 256; a deeper net at S = 256, its first four
convolutions and its fully connected layers from A; the same net at S = 384 from that, at a tenth of
the learning rate; the same with S in [256, 512] from S = 384.

"pretrained" (AlexNet section 6.1: the Fall 2011 release of ImageNet, 15 million images of 22,000
categories, then ILSVRC-2012): the net on a larger data set, then on the config's own from all its
layers but fc8, whose classes are others.
"""

import copy
from typing import NamedTuple

from ml_collections import ConfigDict

from deepconv.config.schema import default
from deepconv.exceptions import UserError

# "The first four convolutional layers" of A, matched by the place in Table 1's blocks where shapes
# agree: A's second convolution is B's third.
FROM_A = r"conv1_1|conv2_1|conv3_1|conv3_2|fc6|fc7|fc8"
EVERYTHING = r".*"
ALL_BUT_FC8 = r"(?!fc8$).*"
# The paper has no learning rate for fine-tuning; VGG's for each later stage.
FINE_TUNING_RATE = 0.1


class Stage(NamedTuple):
    """One training run of a recipe.

    Attributes:
      name: of its folder in the work directory; stages of two recipes that are the same share it.
      config: of the run, complete.
      source: name of the stage whose best parameters it starts from; None: random weights, or
        `config.init.checkpoint`.
    """

    name: str
    config: ConfigDict
    source: str | None


class Scale(NamedTuple):
    """How a VGG stage differs from the others; pixels are the paper's.

    A config whose own scale is not 256 has all of them in the same proportion.

    Attributes:
      smallest: of the shorter sides S drawn.
      largest: of them.
      evaluation: the shorter side Q.
      learning_rate: factor of the first stage's.
      before: the stage that the same net's parameters come from.
    """

    smallest: int
    largest: int
    evaluation: int
    learning_rate: float
    before: str | None


SCALES = {
    "256": Scale(256, 256, 256, 1.0, None),
    "384": Scale(384, 384, 384, 0.1, "256"),
    "jitter": Scale(256, 512, 384, 0.1, "384"),
}


def stages(config: ConfigDict) -> tuple[Stage, ...]:
    """Return the stages that a config asks for, in order, with those that they need.

    `config.recipe.name` is "single", one run in the work directory itself, "pretrained", or "vgg",
    of which `config.recipe.stage` is the last stage wanted.

    Raises:
      UserError: if the recipe or the stage does not exist, or has no data set.
    """
    match config.recipe.name:
        case "single":
            return (Stage(".", config, None),)
        case "vgg":
            return _vgg(config)
        case "pretrained":
            return _pretrained(config)
    raise UserError(f"unknown recipe.name {config.recipe.name!r}; one of single, vgg, pretrained")


def _pretrained(config: ConfigDict) -> tuple[Stage, ...]:
    larger = config.recipe.pretrain_dataset
    if not larger:
        raise UserError("recipe.name='pretrained' needs recipe.pretrain_dataset, the larger set")
    first, second = _alone(config), _alone(config)
    first.dataset.name = larger
    first.dataset.train_split = config.recipe.pretrain_train_split
    first.dataset.eval_split = config.recipe.pretrain_eval_split
    second.init.layers = ALL_BUT_FC8
    second.optimizer.learning_rate = config.optimizer.learning_rate * FINE_TUNING_RATE
    names = [f"{config.model.name}_{stage}" for stage in ("pretraining", "finetuning")]
    return Stage(names[0], first, None), Stage(names[1], second, names[0])


def _alone(config: ConfigDict) -> ConfigDict:
    """Return a copy that is, by itself, a plain run."""
    stage = copy.deepcopy(config)
    stage.recipe = default().recipe
    return stage


def _vgg(config: ConfigDict) -> tuple[Stage, ...]:
    last = config.recipe.stage
    if last not in SCALES:
        raise UserError(f"unknown recipe.stage {last!r}; one of {', '.join(SCALES)}")
    name = config.model.name
    found: list[Stage] = []
    wanted: str | None = last
    while wanted is not None:
        stage = _scaled(config, wanted)
        before = SCALES[wanted].before
        found.insert(0, Stage(f"{name}_{wanted}", stage, before and f"{name}_{before}"))
        wanted = before
    if config.recipe.pretrain:
        first = found[0].config
        first.init.layers = FROM_A
        shallow = copy.deepcopy(first)
        shallow.model.name = "vgg_a"
        shallow.init.layers = EVERYTHING
        found[0] = found[0]._replace(source="vgg_a_256")
        found.insert(0, Stage("vgg_a_256", shallow, None))
    return tuple(found)


def _scaled(config: ConfigDict, name: str) -> ConfigDict:
    stage = _alone(config)
    scale = SCALES[name]

    def pixels(side: int) -> int:
        return round(side * config.input.scale[0] / SCALES["256"].smallest)

    stage.input.scale = (pixels(scale.smallest), pixels(scale.largest))
    stage.evaluation.scale = pixels(scale.evaluation)
    stage.optimizer.learning_rate = config.optimizer.learning_rate * scale.learning_rate
    return stage
