"""Lock a run's folder, and check that it belongs to the run and that the disk has room."""

import contextlib
import fcntl
import itertools
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from deepconv import atomic
from deepconv.config.check import from_json
from deepconv.config.identity import conflicts, fixed_settings, raised_limits
from deepconv.config.schema import create_model
from deepconv.data.sources import identity
from deepconv.data.sources.folder import HELD_OUT
from deepconv.data.sources.identity import Identity, Part
from deepconv.exceptions import UserError
from deepconv.models.network import Network, network_from_json, network_to_json
from deepconv.run.files import RunFolder

_LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Lock a folder so that no other process writes to it.

    Args:
      folder: the folder, created if missing.

    Raises:
      UserError: if it cannot be written, or another process has locked it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = RunFolder(folder).lock.open("w")
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is writing to {folder}") from None
        yield


def require_writable(folder: Path, instead: str) -> None:
    """Check that files can be written to a folder, creating it if missing.

    Args:
      folder: where results go by default.
      instead: what the user can do about it, such as "--out=FILE.png writes elsewhere".

    Raises:
      UserError: if they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {folder} ({error.strerror}); {instead}") from None


@contextlib.contextmanager
def claim(folder: Path, config: ConfigDict, dataset: Identity) -> Iterator[None]:
    """Lock a run's folder while the run is in progress.

    The first claim writes the config, the network and the data set's identity there; once the run
    has begun, later claims must match them in all that matters. If one asks for more epochs, the
    run is no longer complete.

    Args:
      folder: the folder, created if missing.
      config: the run's config.
      dataset: identity of its data set.

    Raises:
      UserError: if the folder cannot be written, another process has locked it, or it belongs to
        a run with another config or data set; nothing in it is changed then.
    """
    files, network = RunFolder(folder), create_model(config, len(dataset.class_names))
    with hold(folder):
        if has_begun(folder):  # otherwise the config may be why it never began
            raised = _compare(files.config, config)
            if change := changed_data(folder, dataset):
                raise UserError(
                    f"{config.dataset.name} has changed since the run in {folder} began: "
                    f"{change}; restore the data set, or choose another --workdir"
                )
            # After the data, because its classes determine the network's outputs.
            _compare_network(folder, network)
            if raised and files.result.exists():
                _LOG.info("the complete run in %s goes on: %s is larger", folder, raised[0])
                files.result.unlink()
        atomic.write_json(files.config, config.to_dict())
        atomic.write_json(files.network, network_to_json(network))
        atomic.write_json(files.class_names, dataset.class_names)
        atomic.write_json(files.dataset, dataset.to_json())
        yield


def recorded_network(folder: Path) -> Network | None:
    """Return the network recorded in a run's folder, or None if an earlier version wrote it.

    Raises:
      ValueError: if the file is damaged.
    """
    path = RunFolder(folder).network
    return network_from_json(json.loads(path.read_text())) if path.exists() else None


def changed_data(folder: Path, dataset: Identity) -> str | None:
    """Describe how a data set differs from the one that a run was trained on, or return None.

    Args:
      folder: the run's folder. If an earlier version began it, only the classes are known.
      dataset: the current data set.
    """
    names, stored = RunFolder(folder).class_names, RunFolder(folder).dataset
    if not stored.exists():
        known = tuple(json.loads(names.read_text())) if names.exists() else dataset.class_names
        return identity.class_difference(known, dataset.class_names)
    before = Identity.from_json(json.loads(stored.read_text()))
    change = identity.difference(before, dataset)
    if change and identity.difference(before.without_times(), dataset.without_times()) is None:
        change += f" (if they are copies of the same files, delete {stored} to accept them)"
    return change


def require_unseen(folder: Path, part: Part) -> None:
    """Check that a data set's held-out images are still those that a run was not trained on.

    Args:
      folder: folder of a run on the same data set.
      part: the images to be evaluated.

    Raises:
      UserError: if they are held out of the training images, but others were when the run began.
    """
    stored = RunFolder(folder).dataset
    if part.split != HELD_OUT or not stored.exists():
        return
    before = Part(**json.loads(stored.read_text())["evaluation"])
    if before._replace(times="") != part._replace(times=""):
        raise UserError(
            f"the data set of {folder} has changed since the run began, and the run may have been "
            f"trained on some of the {part.records:,} images that are now held out: restore the "
            "data set, or evaluate a folder of other images (--dataset=folder:PATH)"
        )


def has_begun(folder: Path) -> bool:
    """Return whether a folder contains a run that has begun to train."""
    return RunFolder(folder).metrics.exists()


def require_space(folder: Path, state: Any, *, keep: int) -> None:
    """Check that the disk has room for a run's checkpoints, and log how much they need.

    bytes = (keep + 1) state + 2 parameters: a new one is written before an old one is deleted.

    Args:
      folder: the run's folder; the space of its existing checkpoints counts as free.
      state: a `TrainState`, of arrays or of their shapes.
      keep: how many of the newest checkpoints are kept.

    Raises:
      UserError: if there is not enough space.
    """

    def readable(count: int) -> str:
        return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"

    def size(tree: Any) -> int:
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

    needed = (keep + 1) * size(state) + 2 * size(state.params)
    run = RunFolder(folder)
    files = itertools.chain(run.checkpoints.rglob("*"), run.best.rglob("*"))
    free = shutil.disk_usage(folder).free + sum(file.stat().st_size for file in files)
    if free < needed:
        raise UserError(
            f"checkpoints need up to {readable(needed)}, but only {readable(free)} is free in "
            f"{folder}; choose another --workdir, or a smaller checkpoint.keep"
        )
    _LOG.info("checkpoints need up to %s; %s is free", readable(needed), readable(free))


def require_same_length(folder: Path, config: ConfigDict, later: Path) -> None:
    """Check that a run from which another one has started is not to be continued for longer.

    Args:
      folder: the run's folder.
      config: its config.
      later: the folder of the run that starts from it.

    Raises:
      UserError: if both have begun, and the config asks for more epochs.
    """
    if not (has_begun(folder) and has_begun(later)):
        return
    if raised := _compare(RunFolder(folder).config, config):
        raise UserError(
            f"{raised[0]} is larger than it was for the run in {folder}, from which that in "
            f"{later} has started; choose another --workdir"
        )


def _compare(path: Path, config: ConfigDict) -> tuple[str, ...]:
    """Return what lets a run go on for longer.

    Raises:
      UserError: if anything else that matters has changed.
    """
    if not path.exists():
        return ()
    earlier = fixed_settings(from_json(path.read_text()))
    now = fixed_settings(config)
    different = conflicts(earlier, now)
    if different:
        key = different[0]
        more = f" (and {len(different) - 1} more)" if len(different) > 1 else ""
        raise UserError(
            f"{path.parent} contains a run with another config: {key} is {earlier.get(key)!r} "
            f"there but {now.get(key)!r} here{more}; choose another --workdir"
        )
    return raised_limits(earlier, now)


def _compare_network(folder: Path, network: Network) -> None:
    """Raise `UserError` if the network's layers are not the run's, as when custom code changes."""
    try:
        before = recorded_network(folder)
    except ValueError as error:
        raise UserError(f"{RunFolder(folder).network} is damaged: {error}") from None
    if before is None or before.layers == network.layers:
        return
    known = {*before.layers}
    changed = [layer.name for layer in network.layers if layer not in known]
    what = f"layer {changed[0]} is new or different" if changed else "layers are missing"
    raise UserError(
        f"the network of the run in {folder} has changed since the run began: {what}; restore its "
        "code, or choose another --workdir"
    )
