"""Check a config before any data is read: types and ranges, and which values fit together.

check_config(config)
"""

import difflib
import inspect
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from deepconv import models
from deepconv.config.schema import create_model, default, flattened, inherits_network
from deepconv.exceptions import UserError
from deepconv.models import towers
from deepconv.parallel import MODEL_AXIS


class _Rule(NamedTuple):
    """A condition on a key's value, besides having the type of its default."""

    is_met: Callable[[Any], bool]
    description: str


# All numbers are used in float32.
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


def _is_ascending(epochs: tuple[Any, ...]) -> bool:
    return all(map(_is_number, epochs)) and all(
        earlier < later for earlier, later in zip((0, *epochs), epochs, strict=False)
    )


def _is_scale(scale: tuple[Any, ...]) -> bool:
    return len(scale) == 2 and all(type(side) is int for side in scale) and 0 < scale[0] <= scale[1]


def _one_of(*choices: Any) -> _Rule:
    return _Rule(lambda value: value in choices, " or ".join(map(repr, choices)))


_POSITIVE = _Rule(lambda value: value > 0, "positive")


_NOT_NEGATIVE = _Rule(lambda value: value >= 0, "0 or more")


_PATTERN = _Rule(_is_pattern, "a regular expression")


_BELOW_1 = _Rule(lambda value: 0 <= value < 1, "at least 0 and below 1")


# For every key with numbers, and every key that allows only a few values.
_RULES = {
    "seed": _Rule(lambda seed: 0 <= seed < 2**32, "from 0 to 4294967295"),
    "model.crop": _POSITIVE,
    "model.width": _POSITIVE,
    "model.dropout": _BELOW_1,
    "model.dtype": _one_of("float32", "bfloat16"),
    "model.boxes": _one_of(*models.OUTPUTS),
    "init.layers": _PATTERN,
    "input.scale": _Rule(
        _is_scale, "(smallest, largest), two integers in pixels, the smaller one first"
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
        "a tuple of rules (regular expression, learning-rate factor, weight-decay factor), "
        "no factor below 0",
    ),
    "optimizer.trained_layers": _PATTERN,
    "schedule.name": _one_of("plateau", "constant", "steps", "cosine"),
    "schedule.drop_epochs": _Rule(_is_ascending, "positive numbers in increasing order"),
    "schedule.warmup_epochs": _NOT_NEGATIVE,
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


# Values that stand for those of the weights, with the network of these.
_INHERITED = {"model.crop": 0, "input.scale": (0, 0), "evaluation.scale": 0}


def check_config(config: ConfigDict, network: models.Network | None = None) -> None:
    """Check a config before any data is read.

    Args:
      config: the config.
      network: the run's network, if it was recorded; by default it is created from
        `config.model`.

    Raises:
      UserError: if a value is invalid; the message names the key and what is valid.
    """
    _check_keys(config, default(), "")
    _check_model(config.model)
    for key, value in flattened(config):
        if type(value) in (int, float) and not _is_number(value):
            raise UserError(f"{key}={value!r} must be a finite number")
        inherited = inherits_network(config) and value == _INHERITED.get(key)
        if key in _RULES and not inherited and not _RULES[key].is_met(value):
            raise UserError(f"{key}={value!r} must be {_RULES[key].description}")
    _check_schedule(config)
    if inherits_network(config):  # it is checked again when the network is known
        return
    model = config.model
    try:
        network = network or create_model(config, 2)
        if config.train.model_devices == 2:
            towers.on_one_device(network, axis=MODEL_AXIS)
    except ValueError as error:
        raise UserError(str(error)) from None

    if config.dataset.multilabel and model.get("boxes", ""):
        raise UserError(
            f"model.boxes={model.boxes!r} predicts boxes of one class a picture; it does not work "
            "with dataset.multilabel=True"
        )
    crop, scale = model.crop, config.input.scale
    if scale[0] < crop:
        raise UserError(f"input.scale={scale} starts below model.crop={crop}: no crop fits")
    if config.evaluation.scale < crop:
        raise UserError(f"evaluation.scale={config.evaluation.scale} is below model.crop={crop}")
    if config.input.mean == "image":
        if config.input.color == "imagenet":
            raise UserError(
                "input.mean='image' needs input.color='computed' or 'inherited': there is no "
                "published mean image"
            )
        if not config.input.square or {*scale} != {config.evaluation.scale}:
            raise UserError(
                "input.mean='image' needs input.square=True, and input.scale=(S, S) and "
                "evaluation.scale=S for the same S"
            )


def _check_schedule(config: ConfigDict) -> None:
    """Check that schedule-specific keys are set only with the schedule that uses them."""
    schedule = config.schedule
    for key, name in (("drop_epochs", "steps"), ("warmup_epochs", "cosine")):
        if schedule[key] and schedule.name != name:
            raise UserError(
                f"schedule.{key}={schedule[key]} has no effect with "
                f"schedule.name={schedule.name!r}; it needs schedule.name={name!r}"
            )
    if schedule.name == "steps" and not schedule.drop_epochs:
        raise UserError(
            "schedule.name='steps' needs schedule.drop_epochs, the epochs at which the learning "
            "rate drops; for a constant rate, set schedule.name='constant'"
        )
    if schedule.warmup_epochs >= config.train.epochs:
        raise UserError(
            f"schedule.warmup_epochs={schedule.warmup_epochs} must be below "
            f"train.epochs={config.train.epochs}"
        )


def _check_keys(config: ConfigDict, reference: ConfigDict, prefix: str) -> None:
    if prefix != "model.":  # its other keys depend on the network
        for key in config:
            if key not in reference:
                raise UserError(unknown_key(prefix + key, default()))
    for key, value in reference.items():
        if key not in config:
            raise UserError(f"the config is missing the key {prefix}{key}")
        _check_type(prefix + key, config[key], value)
        if isinstance(value, ConfigDict):
            _check_keys(config[key], value, f"{prefix}{key}.")


def _check_type(key: str, value: Any, reference: Any) -> None:
    types = (int, float) if isinstance(reference, float) else (type(reference),)
    if type(value) not in types:
        expected = "a section" if isinstance(reference, ConfigDict) else types[-1].__name__
        raise UserError(f"{key}={value!r} is not of type {expected}")


def _check_model(model: ConfigDict) -> None:
    """Check the types of a network's options; `models.create` reports unknown ones."""
    if model.name not in models.NETWORKS:
        return
    options = inspect.signature(models.NETWORKS[model.name]).parameters
    for key, value in model.items():
        if key in options and options[key].default is not inspect.Parameter.empty:
            _check_type(f"model.{key}", value, options[key].default)


def unknown_key(key: str, config: ConfigDict) -> str:
    """Return an error message for an unknown config key, with the most similar known ones.

    Args:
      key: the unknown key, with or without its section.
      config: the config without it.
    """

    def last(name: str) -> str:
        return name.rpartition(".")[2]

    section, word = key.rpartition(".")[0], last(key)
    known = [name for name, _ in flattened(config)]
    within = [name for name in known if section and name.rpartition(".")[0] == section]
    for names in filter(None, (within, known)):
        close = difflib.get_close_matches(word, {last(name): None for name in names}, 1)
        for found in (
            [name for name in names if last(name) == word],  # in another section
            [name for name in names if "".join(w[0] for w in last(name).split("_")) == word],
            [name for name in names if last(name) in close],
        ):
            if found:
                return f"unknown config key {key}; did you mean {' or '.join(found)}?"
    sections = [name for name, value in config.items() if isinstance(value, ConfigDict)]
    close = difflib.get_close_matches(section or word, sections, 1)
    if close and section not in sections:
        return f"unknown config key {key}; did you mean the section {close[0]}?"
    listed = within or [*config]
    return f"unknown config key {key}; known keys: {', '.join(sorted(listed))}"


def from_json(text: str, network: models.Network | None = None) -> ConfigDict:
    """Parse and check a run's `config.json`.

    A key that is newer than the run gets its default, which means the behavior before the key
    existed; a key that has moved is read from its old place.

    Args:
      text: the contents of the file.
      network: see `check_config`.

    Raises:
      UserError: if it is not a valid config.
    """

    def with_tuples(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: with_tuples(item) for key, item in value.items()}
        return tuple(map(with_tuples, value)) if isinstance(value, list) else value

    config = default().unlock()
    try:
        config.update(_translated(with_tuples(json.loads(text))))
    except (ValueError, TypeError, AttributeError):
        raise UserError("config.json does not contain a config") from None
    check_config(config, network)
    return config.lock()


def _translated(settings: dict[str, Any]) -> dict[str, Any]:
    """Move `plateau.drop_epochs`, which earlier versions wrote, to `schedule`."""
    drop_epochs = settings.get("plateau", {}).pop("drop_epochs", ())
    if drop_epochs:
        settings["schedule"] = {"name": "steps", "drop_epochs": drop_epochs}
    return settings
