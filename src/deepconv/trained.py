"""A trained network and all that it takes to look at pictures with it.

trained = load_run(Path("runs/vgg_d_jitter"))
scores = trained.network.apply({"params": trained.params}, images)
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from deepconv import config as configuration
from deepconv.checkpoint import SavedParameters
from deepconv.data import color
from deepconv.data.color import ColorStatistics
from deepconv.models import Network
from deepconv.user_error import UserError


class Trained(NamedTuple):
    """A network with its parameters.

    Attributes:
      name: of its run's folder, for people.
      network: the network.
      params: `{layer: {"kernel": ..., "bias": ...}}`, float32.
      config: of the run that trained it.
      colors: the mean that its images are given without, among others.
      class_names: of its outputs, in order.
      step: the update after which the parameters were saved.
    """

    name: str
    network: Network
    params: Any
    config: ConfigDict
    colors: ColorStatistics
    class_names: tuple[str, ...]
    step: int


def load_run(folder: Path, sharding: jax.sharding.Sharding, *, which: str = "last") -> Trained:
    """Load the network that a run has trained so far.

    Args:
      folder: of the run.
      sharding: where the parameters shall lie.
      which: "last", the parameters of the newest checkpoint, or "best", those with the lowest
        validation error.

    Raises:
      UserError: if the folder holds no run, or no checkpoint yet, or a damaged one.
    """
    try:
        config = configuration.from_json((folder / "config.json").read_text())
        colors = color.load(folder / "colors.npz")
        class_names = tuple(json.loads((folder / "class_names.json").read_text()))
    except FileNotFoundError as error:
        raise UserError(f"{folder} holds no run: there is no {error.filename}") from None
    except (ValueError, UserError) as error:
        raise UserError(f"the run in {folder} cannot be read: {error}") from None
    saved = SavedParameters(folder, which=which)
    return Trained(
        name=folder.absolute().name,
        network=configuration.create_model(config, len(class_names)),
        params=saved.read(list(saved.shapes), sharding),
        config=config,
        colors=colors,
        class_names=class_names,
        step=saved.step,
    )
