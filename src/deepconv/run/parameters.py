"""Read a network's parameters from disk, layer by layer: from a run or any weights file.

saved = open_parameters(Path("runs/vgg_a_256"))
saved.shapes["fc6"]["kernel"]
params = saved.read(["conv1_1", "fc6"], sharding)
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
import orbax.checkpoint as ocp

from deepconv.exceptions import UserError
from deepconv.run.checksums import checksums
from deepconv.run.files import RunFolder
from deepconv.run.weights_file import is_ours, read, with_checksums

_LOG = logging.getLogger(__name__)

Shapes = dict[str, dict[str, tuple[int, ...]]]


class Parameters(Protocol):
    """Parameters on disk."""

    @property
    def shapes(self) -> Shapes:
        """The shapes of all its parameters, `{layer: {"kernel": ..., "bias": ...}}`."""
        ...

    def read(self, layers: Sequence[str], sharding: jax.sharding.Sharding) -> dict[str, Any]:
        """Read some layers' parameters, placed by `sharding`.

        Raises:
          UserError: if they are damaged.
        """
        ...


def open_parameters(path: Path, *, which: str) -> Parameters:
    """Open the parameters of a run or of a weights file, ours or another framework's.

    Args:
      path: the folder of the run, or the file.
      which: which of a run's parameters, "best" or "last"; see `SavedParameters`.

    Raises:
      UserError: if there are none, or they cannot be read.
    """
    require_path(path)
    return open_file(path) if path.is_file() else SavedParameters(path, which=which)


def require_path(path: Path) -> None:
    """Check that there is a folder or a file.

    Raises:
      UserError: if there is none.
    """
    if not path.exists():
        raise UserError(
            f"no such file or folder: {path}; weights are a run's folder or a file, such as "
            "vgg16.safetensors or vgg16.pth"
        )


# Files whose import was announced. Training opens its source twice, for colors and for parameters.
_announced: set[Path] = set()


def open_file(path: Path) -> "FileParameters":
    """Open a weights file: ours, or another framework's, which is imported.

    The first import of a file is announced in one line of the log.

    Raises:
      UserError: if it cannot be read.
    """
    if is_ours(path):
        return FileParameters(*read(path))
    # Imported here because `weights` depends on this package, and most commands never need it.
    from deepconv.weights import importing

    imported = importing.read(path)
    if path.absolute() not in _announced:
        _announced.add(path.absolute())
        _LOG.info("%s: %s", path, importing.describe(imported))
    tensors, about = importing.contents(imported)
    return FileParameters(tensors, with_checksums(tensors, about))


class SavedParameters:
    """A run's parameters; any subset of its layers can be read.

    Attributes:
      step: the update after which they were saved.
    """

    def __init__(self, run: Path, *, which: str = "best") -> None:
        """Open a run's parameters.

        Args:
          run: the run's folder.
          which: "best", those with the lowest validation error, or "last", those of the newest
            checkpoint.

        Raises:
          UserError: if there are none, or they cannot be read.
        """
        folder = RunFolder(run.absolute())
        directory = {"best": folder.best, "last": folder.checkpoints}[which]
        if not directory.is_dir():
            raise UserError(f"{run} has no checkpoint: {directory} does not exist")
        self._manager = ocp.CheckpointManager(
            directory,
            item_handlers={
                "state": ocp.PyTreeCheckpointHandler(),
                "meta": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(step_format_fixed_length=8, read_only=True),
        )
        step = self._manager.latest_step()
        if step is None:
            raise UserError(f"{directory} contains no complete checkpoint")
        self.step, self._directory = step, directory
        try:
            self._leaves = self._manager.item_metadata(step).state.tree["params"]
        except Exception as error:  # orbax raises anything on damaged files
            raise UserError(f"checkpoint {step} in {directory} is damaged: {error}") from None

    @property
    def shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """The shapes of all its parameters, `{layer: {"kernel": ..., "bias": ...}}`."""
        return {
            layer: {name: tuple(leaf.shape) for name, leaf in leaves.items()}
            for layer, leaves in self._leaves.items()
        }

    def read(self, layers: Sequence[str], sharding: jax.sharding.Sharding) -> dict[str, Any]:
        """Read some layers' parameters; nothing else is loaded.

        Args:
          layers: names of the layers.
          sharding: where to place the arrays, whatever devices they were saved from.

        Raises:
          UserError: if they are damaged.
        """
        wanted = {
            layer: {
                name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
                for name, leaf in self._leaves[layer].items()
            }
            for layer in layers
        }
        item = {"params": wanted}
        state = ocp.args.PyTreeRestore(
            item=item,
            restore_args=ocp.checkpoint_utils.construct_restore_args(item),
            partial_restore=True,
        )
        arguments = ocp.args.Composite(state=state, meta=ocp.args.JsonRestore())
        try:
            restored = self._manager.restore(self.step, args=arguments)
            found = checksums(restored.state)
            wrong = [name for name in found if restored.meta["crc32"].get(name) != found[name]]
            if wrong:
                raise ValueError(f"the checksum of {wrong[0]} is wrong")
        except Exception as error:  # orbax and tensorstore raise anything on damaged files
            reason = str(error).splitlines()[0][:200]
            raise UserError(
                f"checkpoint {self.step} in {self._directory} is damaged: {reason}"
            ) from None
        params: dict[str, Any] = restored.state["params"]
        return params


class FileParameters:
    """The parameters in a weights file, with the methods of `SavedParameters`; see `open_file`.

    Attributes:
      about: the file's description of them, in JSON.
      mean_image: float32 `[S, S, 3]`, or None.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray], about: dict[str, Any]) -> None:
        """Wrap what `weights_file.read` returns."""
        self.about = about
        self.mean_image = tensors.get("mean_image")
        self._params: dict[str, dict[str, np.ndarray]] = {}
        for name, tensor in tensors.items():
            if name != "mean_image":
                layer, _, part = name.partition("/")
                self._params.setdefault(layer, {})[part] = tensor

    @property
    def shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """The shapes of all its parameters, `{layer: {"kernel": ..., "bias": ...}}`."""
        return {
            layer: {part: tensor.shape for part, tensor in parts.items()}
            for layer, parts in self._params.items()
        }

    def read(self, layers: Sequence[str], sharding: jax.sharding.Sharding) -> dict[str, Any]:
        """Return some layers' parameters, placed by `sharding`."""
        params = {layer: self._params[layer] for layer in layers}
        placed: dict[str, Any] = jax.device_put(params, sharding)
        return placed
