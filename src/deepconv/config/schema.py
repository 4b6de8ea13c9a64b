"""The settings of a run: every key, its default, its meaning, and the check of a config.

    config = default()               # locked: a key that is not here cannot be set
    config.optimizer.learning_rate = 0.001
    check(config)

The files under `configs/` start from here and state what their paper says.
"""

import difflib
import hashlib
import inspect
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from deepconv import models
from deepconv.exceptions import UserError
from deepconv.models import towers
from deepconv.parallel import MODEL_AXIS


def default() -> ConfigDict:
    """Return the settings that both papers share; the comments are the reference of the keys."""
    config = ConfigDict()
    config.seed = 0  # from 0 to 2^32 - 1

    # The network and its options, as in `models.create`: a config names those that its network has.
    config.model = ConfigDict(
        {"name": "vgg_a", "initializer": "glorot", "dtype": "float32", "crop": 224}
    )

    # The stages to run; see recipe.py.
    config.recipe = ConfigDict()
    # One run, or "vgg" or "pretrained": stages, each in a folder of the work directory.
    config.recipe.name = "single"
    config.recipe.stage = ""  # the last stage wanted, of "vgg": 256, 384, jitter or jitter_fc
    config.recipe.pretrain = False  # whether "vgg" starts from net A
    # The larger data set that "pretrained" trains on first, as in dataset.
    config.recipe.pretrain_dataset = ""
    config.recipe.pretrain_train_split = "train"
    config.recipe.pretrain_eval_split = "validation"

    # What a run starts from, where it has neither a checkpoint of its own nor a stage before it. Of
    # a recipe's stages this concerns the first alone: what the others copy is the recipe's to say.
    config.init = ConfigDict()
    config.init.checkpoint = (
        ""  # the folder of any run, or a file of weights; empty: random weights
    )
    config.init.layers = ".*"  # regular expression: the layers to copy; the others are random

    config.dataset = ConfigDict()
    config.dataset.name = "imagenet2012"  # or shapes, cifar10, folder:/path, any of tfds
    config.dataset.data_dir = ""  # empty: $TFDS_DATA_DIR, else ~/tensorflow_datasets
    config.dataset.train_split = "train"
    config.dataset.eval_split = "validation"

    config.input = ConfigDict()
    # The shorter side S is drawn uniformly from the integers between these, both included.
    config.input.scale = (256, 256)
    config.input.square = False  # whether only the central SxS square is kept (AlexNet)
    config.input.mean = "rgb"  # subtract the mean RGB, or "image": the mean image (AlexNet)
    # Mean and principal components: published ones, "computed" over the training set, or
    # "inherited" from what the run starts from.
    config.input.color = "imagenet"
    config.input.max_unreadable = 0.01  # a larger share of unreadable images ends the run
    config.input.threads = 0  # that decode, in each process; 0: one for each core
    config.input.workers = 0  # processes that decode besides; pays from some ten cores on

    config.augment = ConfigDict()
    config.augment.flip = True
    config.augment.pca_std = 0.1  # of the RGB jitter's factors; 0 switches it off
    config.augment.pca_magnitude = "lambda"  # or "sqrt"; see color.pca_magnitudes

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 0.01
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    # (regular expression on "layer/kernel" or "layer/bias", lr_mult, decay_mult); the first that
    # matches holds. The papers decay the weights and have one learning rate for all.
    config.optimizer.multipliers = ((r".*/bias", 1.0, 0.0),)
    # Regular expression: the layers that train; the others keep what the run starts from. Of a
    # recipe's stages this concerns the last alone: before it, all layers train.
    config.optimizer.trained_layers = ".*"

    config.plateau = ConfigDict()
    # Epochs at which the learning rate drops, ascending; if any, the validation error has no say.
    config.plateau.drop_epochs = ()
    config.plateau.factor = 0.1  # of the learning rate at each drop, below 1
    config.plateau.max_drops = 3  # the next plateau ends the run
    config.plateau.patience = 5  # evaluations without improvement that make a plateau
    config.plateau.min_delta = 0.0  # how much lower an error must be to count, a fraction

    config.train = ConfigDict()
    config.train.batch_size = 256  # over all devices
    config.train.microbatches = 1  # parts of each device's batch, one after the other: less memory
    config.train.epochs = 74.0  # the run ends here at the latest
    config.train.log_steps = 50
    # That one copy of the network is spread over: 1, or 2, a tower of AlexNet on each.
    config.train.model_devices = 1

    config.evaluation = ConfigDict()
    config.evaluation.scale = 256  # the shorter side Q
    config.evaluation.batch_size = 256
    config.evaluation.every_epochs = 1.0

    config.checkpoint = ConfigDict()
    config.checkpoint.every_steps = 1000  # besides one at each evaluation
    config.checkpoint.keep = 2  # the newest; the best is kept besides
    return config.lock()


def from_json(text: str) -> ConfigDict:
    """Return the config that a run's `config.json` holds, checked.

    A key that came to be after the run has its default, which is what was done before.

    Raises:
      UserError: if it is not a config of this version.
    """

    def with_tuples(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: with_tuples(item) for key, item in value.items()}
        return tuple(map(with_tuples, value)) if isinstance(value, list) else value

    config = default().unlock()
    try:
        config.update(with_tuples(json.loads(text)))
    except (ValueError, TypeError, AttributeError):
        raise UserError("config.json is not the JSON of a config") from None
    check(config)
    return config.lock()


def variants(name: str, text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Split what stands behind the colon of a config's file at its commas.

    Args:
      name: of the file, without its ending.
      text: what stands there, such as "384,tiny".
      known: the variants that the file has.

    Raises:
      UserError: if one of them does not exist.
    """
    chosen = tuple(part for part in text.split(",") if part)
    if unknown := sorted(set(chosen) - set(known)):
        raise UserError(
            f"configs/{name}.py has no variant {unknown[0]!r}; there are {', '.join(known)} "
            f"(as in configs/{name}.py:{known[-1]})"
        )
    return chosen


def tiny(config: ConfigDict, *, crop: int, scale: int) -> ConfigDict:
    """Return the recipe for a net a quarter as wide on the embedded data: minutes on two cores.

    Args:
      config: a recipe, which is changed.
      crop: side of the crop, in pixels.
      scale: the shorter side S, and Q.
    """
    config.model.crop = crop
    config.model.width = 0.25
    config.dataset.name = "shapes"
    config.input.color = "computed"
    config.input.scale = (scale, scale)
    config.evaluation.scale = scale
    config.train.batch_size = 64
    config.train.epochs = 28.0
    # Such a net may learn nothing for some epochs, which is no plateau yet.
    config.plateau.patience = 8
    return config


def step_of(config: ConfigDict, epochs: float, images: int) -> int:
    """Return the number of updates in so many epochs over so many images, rounded up."""
    return -int(-epochs * images // config.train.batch_size)


def num_steps(config: ConfigDict, images: int) -> int:
    """Return the number of updates of a run over a training set of so many images."""
    return step_of(config, config.train.epochs, images)


def drop_steps(config: ConfigDict, images: int) -> tuple[int, ...]:
    """Return the updates, counted from 0, at which `plateau.drop_epochs` has the rate drop.

    Those after the run's last update are left out.
    """
    steps = {step_of(config, epochs, images) for epochs in config.plateau.drop_epochs}
    return tuple(sorted(step for step in steps if step < num_steps(config, images)))


class _Rule(NamedTuple):
    """What the value of a key has to be, once it has the type of its default."""

    holds: Callable[[Any], bool]
    words: str


# What is computed with them is float32.
_LARGEST = float(np.finfo(np.float32).max)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= _LARGEST


def _is_pattern(text: Any) -> bool:
    try:
        re.compile(text)
    except (re.error, TypeError):
        return False
    return True


def _is_multiplier(rule: Any) -> bool:
    return (
        isinstance(rule, tuple)
        and len(rule) == 3
        and isinstance(rule[0], str)
        and _is_pattern(rule[0])
        and all(_is_number(factor) and factor >= 0 for factor in rule[1:])
    )


def _is_ascending(epochs: tuple) -> bool:
    return all(map(_is_number, epochs)) and all(
        earlier < later for earlier, later in zip((0, *epochs), epochs, strict=False)
    )


def _is_scale(scale: tuple) -> bool:
    return len(scale) == 2 and all(type(side) is int for side in scale) and 0 < scale[0] <= scale[1]


def _one_of(*choices: Any) -> _Rule:
    return _Rule(lambda value: value in choices, " or ".join(map(repr, choices)))


_POSITIVE = _Rule(lambda value: value > 0, "positive")
_NOT_NEGATIVE = _Rule(lambda value: value >= 0, "0 or more")
_PATTERN = _Rule(_is_pattern, "a regular expression")
_BELOW_1 = _Rule(lambda value: 0 <= value < 1, "at least 0 and below 1")

# Of every key that is a number or holds some, and of those that have few values.
_RULES = {
    "seed": _Rule(lambda seed: 0 <= seed < 2**32, "from 0 to 4294967295"),
    "model.crop": _POSITIVE,
    "model.width": _POSITIVE,
    "model.dropout": _BELOW_1,
    "model.dtype": _one_of("float32", "bfloat16"),
    "init.layers": _PATTERN,
    "input.scale": _Rule(
        _is_scale, "(smallest, largest), two whole numbers of pixels, the smaller one first"
    ),
    "input.mean": _one_of("rgb", "image"),
    "input.color": _one_of("imagenet", "computed", "inherited"),
    "input.max_unreadable": _Rule(lambda share: 0 <= share <= 1, "from 0 to 1"),
    "input.threads": _NOT_NEGATIVE,
    "input.workers": _NOT_NEGATIVE,
    "augment.pca_std": _NOT_NEGATIVE,
    "augment.pca_magnitude": _one_of("lambda", "sqrt"),
    "optimizer.learning_rate": _POSITIVE,
    "optimizer.momentum": _BELOW_1,
    "optimizer.weight_decay": _NOT_NEGATIVE,
    "optimizer.multipliers": _Rule(
        lambda rules: all(map(_is_multiplier, rules)),
        "of rules (regular expression, factor of the learning rate, factor of the weight decay), "
        "no factor below 0",
    ),
    "optimizer.trained_layers": _PATTERN,
    "plateau.drop_epochs": _Rule(_is_ascending, "of positive numbers, each above the one before"),
    "plateau.factor": _Rule(lambda factor: 0 < factor < 1, "above 0 and below 1"),
    "plateau.max_drops": _NOT_NEGATIVE,
    "plateau.patience": _POSITIVE,
    "plateau.min_delta": _BELOW_1,
    "train.batch_size": _POSITIVE,
    "train.microbatches": _POSITIVE,
    "train.epochs": _POSITIVE,
    "train.log_steps": _POSITIVE,
    "train.model_devices": _one_of(1, 2),
    "evaluation.scale": _POSITIVE,
    "evaluation.batch_size": _POSITIVE,
    "evaluation.every_epochs": _POSITIVE,
    "checkpoint.every_steps": _POSITIVE,
    "checkpoint.keep": _POSITIVE,
}


def check(config: ConfigDict) -> None:
    """Find what is wrong with a config before any data is read.

    Raises:
      UserError: naming the key and what it may be.
    """
    _check_keys(config, default(), "")
    _check_model(config.model)
    for key, value in flattened(config):
        if type(value) in (int, float) and not _is_number(value):
            raise UserError(f"{key}={value!r} must be a finite number")
        if key in _RULES and not _RULES[key].holds(value):
            raise UserError(f"{key}={value!r} must be {_RULES[key].words}")
    model = config.model
    try:
        network = models.create(**_model_options(config), num_classes=2)
        if config.train.model_devices == 2:
            towers.on_one_device(network, axis=MODEL_AXIS)
    except ValueError as error:
        raise UserError(str(error)) from None

    crop, scale = model.crop, config.input.scale
    if scale[0] < crop:
        raise UserError(f"input.scale={scale} goes below model.crop={crop}: no crop fits")
    if config.evaluation.scale < crop:
        raise UserError(f"evaluation.scale={config.evaluation.scale} is below model.crop={crop}")
    if config.input.mean == "image":
        if config.input.color == "imagenet":
            raise UserError(
                "input.mean='image' needs input.color='computed' or 'inherited': no mean image is "
                "published"
            )
        if not config.input.square or {*scale} != {config.evaluation.scale}:
            raise UserError(
                "input.mean='image' needs input.square=True and one and the same scale everywhere"
            )


def _model_options(config: ConfigDict) -> dict:
    return {key: value for key, value in config.model.items() if key != "dtype"}


def create_model(config: ConfigDict, num_classes: int) -> models.Network:
    """Create the config's network for so many classes."""
    return models.create(
        **_model_options(config), num_classes=num_classes, dtype=config.model.dtype
    )


def flattened(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys of a config and of its sections, `section.key`, with their values."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def unknown_key(key: str, config: ConfigDict) -> str:
    """Return the line that says that a config has no such key, and which are nearest to it.

    Args:
      key: that somebody asked for, with its section or without.
      config: that lacks it.
    """

    def last(name: str) -> str:
        return name.rpartition(".")[2]

    section, word = key.rpartition(".")[0], last(key)
    known = [name for name, _ in flattened(config)]
    within = [name for name in known if section and name.rpartition(".")[0] == section]
    for names in filter(None, (within, known)):
        close = difflib.get_close_matches(word, {last(name): None for name in names}, 1)
        for found in (
            [name for name in names if last(name) == word],  # but in another section
            [name for name in names if "".join(w[0] for w in last(name).split("_")) == word],
            [name for name in names if last(name) in close],
        ):
            if found:
                return f"unknown config key {key}; did you mean {' or '.join(found)}?"
    sections = [name for name, value in config.items() if isinstance(value, ConfigDict)]
    close = difflib.get_close_matches(section or word, sections, 1)
    if close and section not in sections:
        return f"unknown config key {key}; did you mean the section {close[0]}?"
    there = within or [*config]
    return f"unknown config key {key}; there are {', '.join(sorted(there))}"


def _check_keys(config: ConfigDict, reference: ConfigDict, prefix: str) -> None:
    if prefix != "model.":  # its further keys are the network's own
        for key in config:
            if key not in reference:
                raise UserError(unknown_key(prefix + key, default()))
    for key, value in reference.items():
        if key not in config:
            raise UserError(f"the config lacks the key {prefix}{key}")
        _check_type(prefix + key, config[key], value)
        if isinstance(value, ConfigDict):
            _check_keys(config[key], value, f"{prefix}{key}.")


def _check_type(key: str, value: Any, reference: Any) -> None:
    types = (int, float) if isinstance(reference, float) else (type(reference),)
    if type(value) not in types:
        expected = "a section" if isinstance(reference, ConfigDict) else types[-1].__name__
        raise UserError(f"{key}={value!r} is not of type {expected}")


def _check_model(model: ConfigDict) -> None:
    """Check the types of a network's options; of unknown ones `models.create` tells."""
    if model.name not in models.NETWORKS:
        return
    options = inspect.signature(models.NETWORKS[model.name]).parameters
    for key, value in model.items():
        if key in options and options[key].default is not inspect.Parameter.empty:
            _check_type(f"model.{key}", value, options[key].default)


# What may differ when a run is taken up again: where things lie, how often it speaks, and what
# changes the sums' rounding alone, as another number of devices does.
_FREE = (
    "dataset.data_dir",
    "input.threads",
    "input.workers",
    "train.log_steps",
    "train.microbatches",
    "train.model_devices",
    "checkpoint.every_steps",
    "checkpoint.keep",
)


def fixed_settings(config: ConfigDict) -> dict:
    """Return the settings that a run keeps to its end, flattened to `{"section.key": value}`."""
    return {
        key: value
        for key, value in json.loads(json.dumps(dict(flattened(config)))).items()
        # What the recipe says has gone into its stages, each of which is a plain run.
        if key not in _FREE and not key.startswith("recipe.")
    }


def digest(config: ConfigDict) -> str:
    """Return a short hash of `fixed_settings`."""
    text = json.dumps(fixed_settings(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
