"""A trained network and everything needed to apply it to images, from a run or from a file.

model = open_model(Path("runs/vgg_d_jitter"))  # or ours.safetensors, or another framework's file
model.predict(["cat.jpg"])[0].best  # (("tabby", 0.71), ...)
scores = model.network.apply({"params": model.params}, model.preprocess(["cat.jpg"]))
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from deepconv import naming, preprocess
from deepconv.config.check import from_json
from deepconv.config.identity import config_digest
from deepconv.config.schema import create_model, default, predicts_boxes
from deepconv.data import color, imagenet
from deepconv.data.color import ColorStatistics
from deepconv.exceptions import UserError
from deepconv.models.network import Network, network_from_json
from deepconv.run import hub, weights_file
from deepconv.run.files import RunFolder
from deepconv.run.parameters import FileParameters, SavedParameters, open_file, require_path
from deepconv.run.workdir import recorded_network

# The modules behind the methods import this one, so the methods import them when called.
if TYPE_CHECKING:
    from deepconv.data.sources.given import Picture
    from deepconv.inference.predict import Prediction


class Model(NamedTuple):
    """A network with its parameters.

    Attributes:
      name: name of its run's folder or its file, for display.
      network: the network.
      params: `{layer: {"kernel": ..., "bias": ...}}`, float32.
      config: config of the run that trained it; for a file, one for the same network and input.
      colors: the training set's color statistics; `preprocess` chooses the mean to subtract.
      class_names: names of its outputs, in order.
      step: the update after which the parameters were saved; 0 for a file.
      digest: hash of what determines the parameters: a run's config, or a file's contents.
      assumed: whether the class names were taken to be ImageNet's because there are as many.
    """

    name: str
    network: Network
    params: Any
    config: ConfigDict
    colors: ColorStatistics
    class_names: tuple[str, ...]
    step: int
    digest: str
    assumed: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names for people: the usual names of ImageNet's classes, not their wnids."""
        return tuple(map(imagenet.label, self.class_names))

    @property
    def unnamed(self) -> bool:
        """Whether only the number of the classes is known for sure, not their names."""
        return self.assumed or self.class_names == numbered(len(self.class_names))

    def named_like(self, other: "Model") -> "Model":
        """Return the model with another one's class names, if it has as many but no names."""
        same = self.unnamed and len(self.class_names) == len(other.class_names)
        return self.named(other.class_names) if same else self

    def named(self, class_names: tuple[str, ...]) -> "Model":
        """Return the model with other class names."""
        return self._replace(class_names=class_names, assumed=False)

    def preprocess(self, pictures: "Picture | Sequence[Picture]") -> np.ndarray:
        """Return the central crops of pictures, float32 `[N, S, S, 3]`, the mean subtracted.

        `pictures` are paths, Pillow images, arrays uint8 RGB `[H, W, 3]`, or a sequence of such;
        see `given.preprocess`.

        Raises:
          UserError: if a picture cannot be read.
        """
        from deepconv.inference import given

        return given.preprocess(self, pictures)

    def predict(
        self,
        pictures: "Picture | Sequence[Picture]",
        *,
        protocol: str = "center",
        scales: Sequence[int] = (),
    ) -> "list[Prediction]":
        """Return the five best classes of each picture, with their posteriors.

        `protocol` is one of `deepconv evaluate`, `scales` are shorter sides in pixels, by default
        the network's own; see `given.predict`.

        Raises:
          UserError: if a picture cannot be read, or the protocol is unknown or does not fit.
        """
        from deepconv.inference import given

        return given.predict(self, pictures, protocol=protocol, scales=scales)

    def features(
        self, pictures: "Picture | Sequence[Picture]", layers: str | Sequence[str]
    ) -> np.ndarray | dict[str, np.ndarray]:
        """Return a layer's output for the central crops of pictures, float32 `[N, h, w, C]`.

        Several names give a dict of such; see `given.features`. For images of any size, and for
        gradients, use `activations.extractor`.

        Raises:
          UserError: if a picture cannot be read.
          ValueError: if there is no such layer.
        """
        from deepconv.inference import given

        return given.features(self, pictures, layers)

    def __repr__(self) -> str:
        """Describe the network in a few lines, without its numbers."""
        layers = [layer.name for layer in self.network.layers]
        size = sum(np.size(leaf) for leaf in jax.tree.leaves(self.params))
        few = f"{', '.join(self.labels[:3])}{', ...' if len(self.labels) > 3 else ''}"
        lines = [f"Model {self.name!r}: {len(self.params)} layers with {size:,} parameters"]
        if self.config is not None:
            lines[0] = lines[0].replace(":", f": {self.config.model.name},", 1)
        lines.append(f"  {len(self.labels)} classes: {naming.shortened(few, 60)}")
        lines.append(f"  crops of {self.network.crop} pixels")
        if self.config is not None:
            mean = ", ".join(f"{value:.1f}" for value in self.colors.mean_rgb)
            lines[-1] += (
                f" of images with a shorter side of {self.config.evaluation.scale}; mean RGB {mean}"
            )
        lines.append(f"  outputs: {', '.join(layers[:3])}, ..., {', '.join(layers[-2:])}")
        return "\n".join(lines)

    @property
    def origin(self) -> dict[str, Any]:
        """What identifies the parameters, in JSON, where something computed with them is kept."""
        return {"run": self.name, "step": self.step, "config_hash": self.digest}

    @property
    def pixels_at_once(self) -> int:
        """How many pixels a batch of evaluation has: `evaluation.batch_size` crops."""
        pixels: int = self.config.evaluation.batch_size * self.network.crop**2
        return pixels

    @property
    def multilabel(self) -> bool:
        """Whether the network predicts each class by itself: a sigmoid instead of a softmax."""
        return bool(self.config.dataset.multilabel)

    @property
    def central_mean(self) -> np.ndarray:
        """The mean to subtract from central crops: float32 `[3]`, or part of the mean image."""
        return preprocess.mean_of_central_crop(
            self.colors, self.config.input.mean, self.network.crop
        )


def numbered(classes: int) -> tuple[str, ...]:
    """Return placeholder names for classes whose names are not known."""
    return tuple(f"class {number}" for number in range(classes))


def open_model(
    path: Path, sharding: jax.sharding.Sharding | None = None, *, checkpoint: str = "last"
) -> Model:
    """Load a network from a run's folder or from a weights file, ours or another framework's.

    Args:
      path: the run's folder, or the file.
      sharding: where the parameters are placed; by default on the first device.
      checkpoint: which of a run's parameters: "last", those of the newest checkpoint, or "best",
        those with the lowest validation error.

    Raises:
      UserError: if the path is neither, or its contents are damaged.
    """
    require_path(path)
    sharding = sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    if path.is_file():
        return _from_file(path, sharding)
    return _from_run(path, sharding, checkpoint)


def load_input(path: Path) -> tuple[ConfigDict, ColorStatistics]:
    """Load what preprocessing for a network needs: its config and its training set's colors.

    Args:
      path: the run's folder, or the file.

    Raises:
      UserError: if the path is neither, or its contents are damaged.
    """
    require_path(path)
    if path.is_file():
        return _input_of_file(open_file(path))
    config, colors, _ = _input_of_run(path)
    return config, colors


def require_classes(model: Model) -> None:
    """Check that a network predicts classes.

    Raises:
      UserError: if it predicts boxes.
    """
    if predicts_boxes(model.config):
        raise UserError(
            f"{model.name} predicts boxes, not classes; deepconv localize and deepconv evaluate "
            "use it, with a classifier of the same classes"
        )


def results_folder(path: Path) -> Path:
    """Return the folder for a network's results: its run's, or one beside its file.

    For a file on the hub it is in the working directory, not in the cache.
    """
    if (name := hub.name_of(path)) is not None:
        return Path(name)
    return path.with_suffix("") if path.is_file() else path


def _from_file(path: Path, sharding: jax.sharding.Sharding) -> Model:
    saved = open_file(path)
    about = saved.about
    config, colors = _input_of_file(saved)
    try:
        network = (
            network_from_json(about)
            if "layers" in about
            else create_model(config, about["classes"])  # a file written by an earlier version
        )
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from None
    names, classes = about["class_names"], about["classes"]
    assumed = names is None and classes == imagenet.CLASSES and not predicts_boxes(config)
    return Model(
        name=hub.name_of(path) or path.stem,
        network=network,
        params=saved.read(list(saved.shapes), sharding),
        config=config,
        colors=colors,
        class_names=imagenet.wnids() if assumed else tuple(names or numbered(classes)),
        step=0,
        digest=weights_file.digest(about),
        assumed=assumed,
    )


def _input_of_file(saved: FileParameters) -> tuple[ConfigDict, ColorStatistics]:
    about = saved.about
    scale = about["scale"]
    config = default().unlock()
    config.model.update(name=about["network"], **about["options"])
    for key in ("crop", "initializer", "dtype"):
        if "layers" in about:
            config.model[key] = about[key]
    config.dataset.multilabel = about.get("multilabel", False)
    config.input.scale = (scale, scale)
    config.evaluation.scale = scale
    if saved.mean_image is not None:
        config.input.mean, config.input.color, config.input.square = "image", "computed", True
    known = {
        name: np.array(about[name])
        for name in ("mean_rgb", "eigenvalues", "eigenvectors")
        if name in about
    }
    return config.lock(), color.IMAGENET._replace(**known, mean_image=saved.mean_image)


def _from_run(folder: Path, sharding: jax.sharding.Sharding, checkpoint: str) -> Model:
    config, colors, network = _input_of_run(folder)
    with _naming(folder):
        class_names = tuple(json.loads(RunFolder(folder).class_names.read_text()))
    saved = SavedParameters(folder, which=checkpoint)
    return Model(
        name=folder.absolute().name,
        network=network or create_model(config, len(class_names)),
        params=saved.read(list(saved.shapes), sharding),
        config=config,
        colors=colors,
        class_names=class_names,
        step=saved.step,
        digest=config_digest(config),
    )


def _input_of_run(folder: Path) -> tuple[ConfigDict, ColorStatistics, Network | None]:
    """Return a run's config, its colors, and its network if the run recorded it."""
    with _naming(folder):
        network = recorded_network(folder)
        config = from_json(RunFolder(folder).config.read_text(), network)
        return config, color.load(RunFolder(folder).colors), network


@contextlib.contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Turn reading errors into a `UserError` that names the run."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} is not a run's folder: {error.filename} does not exist"
        ) from None
    except (ValueError, UserError) as error:
        raise UserError(f"the run in {folder} cannot be read: {error}") from None
