"""A trained network and all that it takes to look at pictures with it, from a run or a file.

trained = load(Path("runs/vgg_d_jitter"))  # or vgg16.safetensors, see deepconv.weights
scores = trained.network.apply({"params": trained.params}, images)
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from deepconv.config.check import from_json
from deepconv.config.identity import config_digest
from deepconv.config.schema import create_model, default
from deepconv.data import color
from deepconv.data.color import ColorStatistics
from deepconv.exceptions import UserError
from deepconv.models import Network
from deepconv.run import weights_file
from deepconv.run.files import RunFolder
from deepconv.run.parameters import FileParameters, SavedParameters


class Trained(NamedTuple):
    """A network with its parameters.

    Attributes:
      name: of its run's folder or its file, for people.
      network: the network.
      params: `{layer: {"kernel": ..., "bias": ...}}`, float32.
      config: of the run that trained it; for a file, one of the same network and input.
      colors: the mean that its images are given without, among others.
      class_names: of its outputs, in order.
      step: the update after which the parameters were saved; 0 for a file.
      digest: changes with what made the parameters: the config of a run, all that a file holds.
    """

    name: str
    network: Network
    params: Any
    config: ConfigDict
    colors: ColorStatistics
    class_names: tuple[str, ...]
    step: int
    digest: str

    @property
    def unnamed(self) -> bool:
        """Whether nothing is known of the classes but their number."""
        return self.class_names == numbered(len(self.class_names))

    @property
    def central_mean(self) -> np.ndarray:
        """What central crops are given without: `[3]`, or that part of the mean image, 0..255."""
        mean, crop = self.colors.to_subtract(self.config.input.mean), self.network.crop
        if mean.ndim == 3:
            start = (len(mean) - crop) // 2
            mean = mean[start : start + crop, start : start + crop]
        return np.asarray(mean, np.float32)


def numbered(classes: int) -> tuple[str, ...]:
    """Return the names of classes of which only the number is known."""
    return tuple(f"class {number}" for number in range(classes))


def load(
    path: Path, sharding: jax.sharding.Sharding | None = None, *, which: str = "last"
) -> Trained:
    """Load a network from the folder of a run or from a file of weights.

    Args:
      path: of the folder or the file.
      sharding: where the parameters shall lie; by default on the first device.
      which: of a run's parameters, see `load_run`.

    Raises:
      UserError: if there is neither, or it is damaged.
    """
    sharding = sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return load_file(path, sharding) if path.is_file() else load_run(path, sharding, which=which)


def load_file(path: Path, sharding: jax.sharding.Sharding) -> Trained:
    """Load the network that a file of `deepconv.weights import` holds.

    Args:
      path: of the file.
      sharding: where the parameters shall lie.

    Raises:
      UserError: if the file is another, or damaged.
    """
    saved = FileParameters(path)
    about = saved.about
    config, colors = _input_of_file(saved)
    return Trained(
        name=path.stem,
        network=create_model(config, about["classes"]),
        params=saved.read(list(saved.shapes), sharding),
        config=config,
        colors=colors,
        class_names=tuple(about["class_names"] or numbered(about["classes"])),
        step=0,
        digest=weights_file.digest(about),
    )


def load_input(path: Path) -> tuple[ConfigDict, ColorStatistics]:
    """Load what a network's images go through: its config, and the colors it was trained with.

    Args:
      path: of the folder of a run or of a file.

    Raises:
      UserError: if there is neither, or it is damaged.
    """
    return _input_of_file(FileParameters(path)) if path.is_file() else _input_of_run(path)


def _input_of_file(saved: FileParameters) -> tuple[ConfigDict, ColorStatistics]:
    about = saved.about
    scale = about["scale"]
    config = default().unlock()
    config.model.update(name=about["network"], **about["options"])
    config.input.scale = (scale, scale)
    config.evaluation.scale = scale
    if saved.mean_image is not None:
        config.input.mean, config.input.color, config.input.square = "image", "computed", True
    colors = color.IMAGENET._replace(
        mean_rgb=np.array(about["mean_rgb"]), mean_image=saved.mean_image
    )
    return config.lock(), colors


def _input_of_run(folder: Path) -> tuple[ConfigDict, ColorStatistics]:
    with _naming(folder):
        config = from_json(RunFolder(folder).config.read_text())
        return config, color.load(RunFolder(folder).colors)


@contextlib.contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Name the run that cannot be read."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{folder} holds no run: there is no {error.filename}") from None
    except (ValueError, UserError) as error:
        raise UserError(f"the run in {folder} cannot be read: {error}") from None


def results_folder(path: Path) -> Path:
    """Return where what is computed of a network is kept: in its run, or beside its file."""
    return path.with_suffix("") if path.is_file() else path


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
    config, colors = _input_of_run(folder)
    with _naming(folder):
        class_names = tuple(json.loads(RunFolder(folder).class_names.read_text()))
    saved = SavedParameters(folder, which=which)
    return Trained(
        name=folder.absolute().name,
        network=create_model(config, len(class_names)),
        params=saved.read(list(saved.shapes), sharding),
        config=config,
        colors=colors,
        class_names=class_names,
        step=saved.step,
        digest=config_digest(config),
    )
