"""Prepare the stages of a recipe for training: check their configs and open their data, once.

stages = open_all([(config, None, first), (next_config, first, second)])
result = loop.train_stage(stages[0], first)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jax.sharding import Mesh
from ml_collections import ConfigDict

from deepconv import parallel
from deepconv.config.check import check_config
from deepconv.config.schema import predicts_boxes
from deepconv.data.sources import datasets, identity
from deepconv.data.sources.datasets import Dataset
from deepconv.data.sources.identity import Identity
from deepconv.exceptions import UserError
from deepconv.training import start


class Opened(NamedTuple):
    """A stage that is ready to train.

    Attributes:
      config: the checked config.
      source: what the run starts from without a checkpoint of its own; None: random weights.
      mesh: the devices.
      dataset: the opened data set.
    """

    config: ConfigDict
    source: Path | None
    mesh: Mesh
    dataset: Dataset


def open_all(stages: Sequence[tuple[ConfigDict, Path | None, Path]]) -> list[Opened]:
    """Check the configs of all stages, then open their data sets, each only once.

    Args:
      stages: the config of each, the folder of the stage before it in its recipe, if any, and its
        own folder.

    Raises:
      UserError: if a config is invalid, before any data is opened; if data cannot be opened, or
        has too few images.
    """
    checked = []
    for config, stage_before, folder in stages:
        source = start.source_of(config, stage_before)
        complete = start.resolved(config, source, folder)
        checked.append((complete, source, mesh_for(complete)))
    opened: dict[tuple[str, bool], Dataset] = {}
    for config, _, _ in checked:
        key = _data_of(config)
        if key not in opened:
            opened[key] = open_dataset(config)
        if len(opened[key].train) < config.train.batch_size:
            raise UserError(
                f"{config.dataset.name} has {len(opened[key].train)} training images, fewer than "
                f"train.batch_size={config.train.batch_size}"
            )
    return [
        Opened(config, source, mesh, opened[_data_of(config)]) for config, source, mesh in checked
    ]


def _data_of(config: ConfigDict) -> tuple[str, bool]:
    return config.dataset.to_json(), predicts_boxes(config)


def mesh_for(config: ConfigDict) -> Mesh:
    """Check a config, and that its batches divide evenly among the devices; return their mesh.

    Raises:
      UserError: if the config is invalid, or its batches do not divide evenly.
    """
    check_config(config)
    towers = config.train.model_devices == 2
    mesh = parallel.tower_mesh() if towers else parallel.data_mesh()
    parallel.check_batch_size(
        config.train.batch_size, mesh, "train.batch_size", config.train.microbatches
    )
    parallel.check_batch_size(config.evaluation.batch_size, mesh, "evaluation.batch_size")
    return mesh


def open_dataset(config: ConfigDict) -> Dataset:
    """Open a run's data set; process 0 prepares it if necessary.

    Raises:
      UserError: if it cannot be opened, or the processes see different data.
    """
    dataset = parallel.first_then_all(
        lambda: datasets.open_dataset(**config.dataset, boxes=predicts_boxes(config))
    )
    # Each machine may have its own copy, with its own modification times.
    seen = parallel.gather(dataset.identity.without_times().to_json())
    for process, value in enumerate(seen[1:], start=1):
        if change := identity.difference(Identity.from_json(seen[0]), Identity.from_json(value)):
            raise UserError(
                f"process {process} and process 0 see different versions of {config.dataset.name}: "
                f"{change}; give all processes the same files"
            )
    return dataset
