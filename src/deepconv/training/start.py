"""Decide what a run starts from, and copy parameters from another network.

    source = source_of(config, stage_before)
    params = from_source(params, source, config.init.layers, sharding)

In this order: the run's own newest checkpoint; the best parameters of the stage before it in a
recipe; those of `config.init.checkpoint`, any run or weights file; the random initializer.
Parameters of another network are matched by layer name.

    plan = plan_transfer(shapes_of(params), shapes_of(source), r"conv1_1|fc6")
    params = transfer(params, restored, plan)
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from deepconv import tables
from deepconv.config.schema import inherits_network
from deepconv.data import color
from deepconv.data.color import ColorStatistics
from deepconv.data.sources.datasets import Dataset
from deepconv.exceptions import UserError
from deepconv.inference.model import load_input
from deepconv.run import hub, parameters
from deepconv.run.files import RunFolder
from deepconv.run.workdir import has_begun

_LOG = logging.getLogger(__name__)

Shapes = Mapping[str, Mapping[str, tuple[int, ...]]]


class Transfer(NamedTuple):
    """Where each layer's parameters come from.

    Attributes:
      copied: layers of the new network that take the source's parameters.
      random: its other layers.
      skipped: layers of the source that are not used.
    """

    copied: tuple[str, ...]
    random: tuple[str, ...]
    skipped: tuple[str, ...]


def source_of(config: ConfigDict, stage_before: Path | None) -> Path | None:
    """Return what a run without a checkpoint of its own starts from; None: random weights.

    Args:
      config: the run's config.
      stage_before: the folder of the stage before it in its recipe, if there is one.

    Raises:
      UserError: if the config inherits the colors of its source, and has none.
    """
    if stage_before is not None:
        return stage_before
    if config.init.checkpoint:
        return hub.located(config.init.checkpoint)
    if config.input.color == "inherited":
        raise UserError(
            "init.checkpoint is not set: this config (input.color='inherited') starts from a run "
            "or a weights file; set --config.init.checkpoint=PATH"
        )
    return None


def resolved(config: ConfigDict, source: Path | None, folder: Path) -> ConfigDict:
    """Return a config whose network is that of what the run starts from, if it says so.

    The network's options, mean and square come from there, and so do the crop and the scales that
    are 0. A run that has begun has recorded all this, so its source may be gone.

    Args:
      config: the run's config.
      source: what it starts from; None: random weights.
      folder: the run's folder.

    Raises:
      UserError: if there is no source, or it cannot be read.
    """
    if not inherits_network(config):
        return config
    if source is None:
        raise UserError(
            "init.checkpoint is not set: this config (model.name='inherited') takes its network "
            "from a run or a weights file; set --config.init.checkpoint=PATH"
        )
    theirs, _ = load_input(folder if has_begun(folder) else source)
    ours = config.copy_and_resolve_references().unlock()
    own = ("initializer", "dtype", "boxes")
    kept = {key: ours.model[key] for key in own if key in ours.model}
    crop = ours.model.crop or theirs.model.crop
    options = {key: value for key, value in theirs.model.items() if key != "boxes"}
    ours.model = ConfigDict({**options, **kept, "crop": crop})
    ours.input.mean, ours.input.square = theirs.input.mean, theirs.input.square
    if not any(ours.input.scale):
        ours.input.scale = theirs.input.scale
    ours.evaluation.scale = ours.evaluation.scale or theirs.evaluation.scale
    return ours.lock()


def from_source(
    params: Mapping[str, Any], source: Path, layers: str, sharding: jax.sharding.Sharding
) -> dict[str, Any]:
    """Return parameters, some layers replaced by another network's, and log which.

    Args:
      params: `{layer: {"kernel": ..., "bias": ...}}`.
      source: the folder of a run, whose best parameters are used, or a weights file.
      layers: regular expression on the whole names of the layers to copy.
      sharding: where to place the copied parameters.

    Raises:
      UserError: if the source cannot be read, or lacks such a layer.
    """
    saved = parameters.open_parameters(source, which="best")
    shapes = shapes_of(params)
    try:
        plan = plan_transfer(shapes, saved.shapes, layers)
    except ValueError as error:
        raise UserError(f"cannot start from {source}: {error}") from None
    rows = report(plan, shapes, saved.shapes)
    _LOG.info("starting from %s\n%s", source, tables.table(("layer", "parameters", "kernel"), rows))
    return transfer(params, saved.read(plan.copied, sharding), plan)


def colors_of(
    config: ConfigDict, dataset: Dataset, folder: Path, source: Path | None
) -> ColorStatistics:
    """Return the color statistics that `input.color` selects.

    Args:
      config: the run's config.
      dataset: the data set that it trains on.
      folder: the run's folder.
      source: what it starts from; None: random weights.

    Raises:
      UserError: if the source's cannot be read, or do not match the config.
    """
    scale = config.evaluation.scale
    if config.input.color == "computed":
        return dataset.color_statistics(scale)
    if config.input.color == "imagenet" or source is None:
        return color.IMAGENET
    if has_begun(folder):  # the source may have been deleted since
        return color.load(RunFolder(folder).colors)
    theirs, colors = load_input(source)
    if theirs.input.mean != config.input.mean:
        image = "a mean image: set input.mean='image' and input.square=True"
        rgb = "the mean RGB: set input.mean='rgb'"
        raise UserError(
            f"cannot start from {source}: its training subtracted "
            f"{image if theirs.input.mean == 'image' else rgb}"
        )
    if config.input.mean == "image" and theirs.evaluation.scale != scale:
        raise UserError(
            f"cannot start from {source}: its mean image has side {theirs.evaluation.scale}, but "
            f"evaluation.scale={scale}"
        )
    mean = ", ".join(f"{value:.1f}" for value in colors.mean_rgb)
    _LOG.info("subtracting the mean of %s (RGB %s)", source, mean)
    return colors


def shapes_of(params: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the shapes of a tree of parameters `{layer: {"kernel": ..., "bias": ...}}`."""
    return {
        layer: {name: tuple(leaf.shape) for name, leaf in leaves.items()}
        for layer, leaves in params.items()
    }


def plan_transfer(target: Shapes, source: Shapes, layers: str) -> Transfer:
    """Decide which layers to copy.

    Args:
      target: shapes of the new network's parameters.
      source: shapes of the source's.
      layers: regular expression on the whole names of the layers to copy.

    Raises:
      ValueError: if the expression selects a layer that the source lacks or has in another shape,
        or no layer at all; the message names the layer and the shapes.
    """
    wanted = [name for name in target if re.fullmatch(layers, name)]
    if not wanted:
        raise ValueError(f"init.layers={layers!r} matches none of the layers {', '.join(target)}")
    for name in wanted:
        if name not in source:
            raise ValueError(f"the source has no layer {name}; it has {', '.join(source)}")
        if source[name] != target[name]:
            raise ValueError(
                f"layer {name} is {_describe(source[name])} in the source but "
                f"{_describe(target[name])} here"
            )
    return Transfer(
        copied=tuple(wanted),
        random=tuple(name for name in target if name not in wanted),
        skipped=tuple(name for name in source if name not in wanted),
    )


def transfer(
    params: Mapping[str, Any], source: Mapping[str, Any], plan: Transfer
) -> dict[str, Any]:
    """Return the parameters with the planned layers taken from the source, unchanged otherwise."""
    return {name: source[name] if name in plan.copied else params[name] for name in params}


def report(plan: Transfer, target: Shapes, source: Shapes) -> list[tuple[str, str, str]]:
    """Return a row (layer, copied, random or skipped, kernel shape) for every layer of both."""
    rows = [
        (name, "copied" if name in plan.copied else "random", _describe(shapes))
        for name, shapes in target.items()
    ]
    return rows + [(name, "skipped", _describe(source[name])) for name in plan.skipped]


def _describe(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return "x".join(map(str, shapes["kernel"]))
