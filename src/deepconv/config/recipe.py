"""The stages of a paper's recipe: what to train, from which parameters, in what order.

    for stage in stages(config):
        loop.train(stage.config, workdir / stage.name, source_of(stage))

VGG (section 3.1): net A from random weights at S = 256; a deeper net at S = 256, its first four
convolutions and its fully connected layers from A; the same net at S = 384 from that, at a tenth of
the learning rate; the same with S in [256, 512] from S = 384.

In net D of the paper's 2014 submission, only the fully connected layers are fine-tuned at S in
[256, 512]: "jitter_fc", in place of the last stage.

"pretrained" (AlexNet section 6.1: the Fall 2011 release of ImageNet, 15 million images of 22,000
categories, then ILSVRC-2012): the net is trained on a larger data set, then on the config's own,
starting from all layers but fc8, whose classes differ.

"localization" (VGG appendix A): a classifier, trained as "vgg" trains it at S = 256 or 384, or
given as `init.checkpoint`; then a network that predicts boxes at the same S, which starts from all
layers of the classifier but fc8, at a tenth of the learning rate.

`init` applies only to the first stage, `optimizer.trained_layers` only to the last. All other
settings apply to every stage.
"""

import copy
from typing import NamedTuple

from ml_collections import ConfigDict

from deepconv.config.check import check_config
from deepconv.config.schema import default, predicts_boxes
from deepconv.exceptions import UserError

# "The first four convolutional layers" of A, matched by their place in Table 1's blocks, where
# shapes agree: A's second convolution is B's third.
FROM_A = r"conv1_1|conv2_1|conv3_1|conv3_2|fc6|fc7|fc8"
EVERYTHING = r".*"
ALL_BUT_FC8 = r"(?!fc8$).*"
FULLY_CONNECTED = r"fc.*"
# AlexNet's paper gives no learning rate for fine-tuning; this is VGG's for each later stage.
FINE_TUNING_RATE = 0.1
# Of a network for boxes: 1e-3 where the classifier's is 1e-2.
LOCALIZATION_RATE = 0.1
LOCALIZATION_SCALES = ("256", "384")


class Stage(NamedTuple):
    """One training run of a recipe.

    Attributes:
      name: name of its folder in the work directory; identical stages of two recipes share it.
      config: the run's complete config.
      source: name of the stage whose best parameters it starts from; None: random weights, or
        `config.init.checkpoint`.
    """

    name: str
    config: ConfigDict
    source: str | None


class Scale(NamedTuple):
    """How a VGG stage differs from the others, in the paper's pixels.

    For a config whose scale is not 256, all scales change in proportion.

    Attributes:
      smallest: lower end of the range of the shorter side S.
      largest: upper end of that range.
      evaluation: the shorter side Q.
      learning_rate: factor relative to the first stage's.
      before: the stage whose parameters this one starts from, in the same net.
      trained_layers: the layers to train, unless the config selects others.
    """

    smallest: int
    largest: int
    evaluation: int
    learning_rate: float
    before: str | None
    trained_layers: str = EVERYTHING


SCALES = {
    "256": Scale(256, 256, 256, 1.0, None),
    "384": Scale(384, 384, 384, 0.1, "256"),
    "jitter": Scale(256, 512, 384, 0.1, "384"),
    "jitter_fc": Scale(256, 512, 384, 0.1, "384", FULLY_CONNECTED),
}


def stages(config: ConfigDict) -> tuple[Stage, ...]:
    """Return the stages of a config's recipe, in order, including those they depend on.

    `config.recipe.name` is "single" (one run in the work directory itself), "pretrained", "vgg",
    which ends with the stage `config.recipe.stage`, or "localization", at that scale.

    Raises:
      UserError: if the config is invalid, the recipe or the stage does not exist or has no data
        set, or a key has no effect or another meaning in the recipe.
    """
    check_config(config)
    name, init = config.recipe.name, config.init
    if name != "single" and init.layers != EVERYTHING and not init.checkpoint:
        raise UserError(
            f"init.layers={init.layers!r} has no effect without init.checkpoint; "
            f"recipe.name={name!r} decides which layers a stage copies from the one before it"
        )
    match config.recipe.name:
        case "single":
            return (Stage(".", config, None),)
        case "vgg":
            return _vgg(config)
        case "pretrained":
            return _pretrained(config)
        case "localization":
            return _localization(config)
    raise UserError(
        f"unknown recipe.name {config.recipe.name!r}; choose from single, vgg, pretrained, "
        "localization"
    )


def _pretrained(config: ConfigDict) -> tuple[Stage, ...]:
    larger = config.recipe.pretrain_dataset
    if not larger:
        raise UserError(
            "recipe.name='pretrained' needs recipe.pretrain_dataset, the larger data set"
        )
    first, second = _alone(config, last=False), _alone(config, first=False)
    first.dataset.name = larger
    first.dataset.train_split = config.recipe.pretrain_train_split
    first.dataset.eval_split = config.recipe.pretrain_eval_split
    second.init.layers = ALL_BUT_FC8
    second.optimizer.learning_rate = config.optimizer.learning_rate * FINE_TUNING_RATE
    names = [f"{config.model.name}_{stage}" for stage in ("pretraining", "finetuning")]
    return Stage(names[0], first, None), Stage(names[1], second, names[0])


def _alone(config: ConfigDict, *, first: bool = True, last: bool = True) -> ConfigDict:
    """Return a copy of a recipe's config that is a plain run.

    Args:
      config: the recipe's config.
      first: whether the stage is the recipe's first, to which the config's `init` applies.
      last: whether it is the last, to which the config's `optimizer.trained_layers` applies.
    """
    stage = copy.deepcopy(config)
    stage.recipe = default().recipe
    if not first:
        stage.init = default().init
    if not last:
        stage.optimizer.trained_layers = EVERYTHING
    return stage


def _vgg(config: ConfigDict) -> tuple[Stage, ...]:
    last = config.recipe.stage
    if last not in SCALES:
        raise UserError(f"unknown recipe.stage {last!r}; choose from {', '.join(SCALES)}")
    smallest, largest = config.input.scale
    if not smallest == largest == config.evaluation.scale:
        raise UserError(
            f"input.scale={config.input.scale} and evaluation.scale={config.evaluation.scale} must "
            "be (S, S) and S with recipe.name='vgg', which sets every stage's scales in proportion "
            "to the first stage's S; recipe.name='single' accepts any scales"
        )
    name = config.model.name
    if config.recipe.pretrain and config.init.checkpoint:
        raise UserError(
            f"{name} cannot start from both init.checkpoint={config.init.checkpoint} and net A; "
            "leave out init.checkpoint, or set --config.recipe.pretrain=False"
        )
    scales: list[str] = []
    wanted: str | None = last
    while wanted is not None:
        scales.insert(0, wanted)
        wanted = SCALES[wanted].before
    found: list[Stage] = []
    if config.recipe.pretrain:
        shallow = _scaled(config, scales[0], first=True, last=False)
        shallow.model.name = "vgg_a"
        found.append(Stage(f"vgg_a_{scales[0]}", shallow, None))
    for scale in scales:
        stage = _scaled(config, scale, first=not found, last=scale == last)
        found.append(Stage(f"{name}_{scale}", stage, found[-1].name if found else None))
    if config.recipe.pretrain:
        found[1].config.init.layers = FROM_A
    return tuple(found)


def _localization(config: ConfigDict) -> tuple[Stage, ...]:
    if not predicts_boxes(config):
        raise UserError("recipe.name='localization' needs model.boxes, 'single' or 'per_class'")
    scale = config.recipe.stage
    if scale not in LOCALIZATION_SCALES:
        raise UserError(
            f"unknown recipe.stage {scale!r} of recipe.name='localization'; one of "
            f"{', '.join(LOCALIZATION_SCALES)}"
        )
    given = config.init.checkpoint
    boxes = _scaled(config, scale, first=bool(given), last=True)
    boxes.init.layers = ALL_BUT_FC8
    boxes.optimizer.learning_rate = config.optimizer.learning_rate * LOCALIZATION_RATE
    if config.input.color == "computed":
        boxes.input.color = "inherited"  # what the classifier's layers are used to
    fully_connected = "_fc" if boxes.optimizer.trained_layers == FULLY_CONNECTED else ""
    name = f"{config.model.name}_{scale}_boxes_{config.model.boxes}{fully_connected}"
    if given:
        return (Stage(name, boxes, None),)
    classifier = copy.deepcopy(config)
    with classifier.unlocked():
        del classifier.model["boxes"]
    classifier.optimizer.trained_layers = EVERYTHING
    before = _vgg(classifier)
    return (*before, Stage(name, boxes, before[-1].name))


def _scaled(config: ConfigDict, name: str, *, first: bool, last: bool) -> ConfigDict:
    stage = _alone(config, first=first, last=last)
    scale = SCALES[name]

    def pixels(side: int) -> int:
        scaled: int = round(side * config.input.scale[0] / SCALES["256"].smallest)
        return scaled

    stage.input.scale = (pixels(scale.smallest), pixels(scale.largest))
    stage.evaluation.scale = pixels(scale.evaluation)
    stage.optimizer.learning_rate = config.optimizer.learning_rate * scale.learning_rate
    if stage.optimizer.trained_layers == EVERYTHING:
        stage.optimizer.trained_layers = scale.trained_layers
    return stage
