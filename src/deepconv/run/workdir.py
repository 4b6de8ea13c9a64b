"""A run's folder: whose it is, that one run at a time writes to it, and that its disk has room."""

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
from deepconv.config.identity import fixed_settings
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
    """Be the only process that writes to a folder.

    Args:
      folder: made if it is missing.

    Raises:
      UserError: if it cannot be written, or another process holds it.
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
            raise UserError(f"another process is at work in {folder}") from None
        yield


def require_writable(folder: Path, instead: str) -> None:
    """Check that files can be written to a folder, which is made if it is missing.

    Args:
      folder: where results go if nothing else is said.
      instead: what the user can do otherwise, such as "--out=FILE.png writes elsewhere".

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
    """Hold a run's folder while the run goes on.

    The first claim writes the config, the network's records and the data set's identity there; once
    the run has begun, a later one must have the same in all that matters.

    Args:
      folder: made if it is missing.
      config: of the run.
      dataset: what it is trained on.

    Raises:
      UserError: if the folder cannot be written, another process holds it, or it belongs to a run
        of another config or on other data; nothing in it has been changed then.
    """
    files, network = RunFolder(folder), create_model(config, len(dataset.class_names))
    with hold(folder):
        if has_begun(folder):  # else the config may be what kept it from beginning
            _compare(files.config, config)
            if change := changed_data(folder, dataset):
                raise UserError(
                    f"{config.dataset.name} is not what the run in {folder} was trained on: "
                    f"{change}; restore the data set, or choose another --workdir"
                )
            # After the data, whose classes are the outputs of the network.
            _compare_network(folder, network)
        atomic.write_json(files.config, config.to_dict())
        atomic.write_json(files.network, network_to_json(network))
        atomic.write_json(files.class_names, dataset.class_names)
        atomic.write_json(files.dataset, dataset.to_json())
        yield


def recorded_network(folder: Path) -> Network | None:
    """Return the network whose records lie in a run's folder; None for a run of an earlier version.

    Raises:
      ValueError: if the file is damaged.
    """
    path = RunFolder(folder).network
    return network_from_json(json.loads(path.read_text())) if path.exists() else None


def changed_data(folder: Path, dataset: Identity) -> str | None:
    """Say how a data set differs from the one that a run was trained on, or return None.

    Args:
      folder: of the run. Of one that an earlier version began, only the classes are known.
      dataset: as it is now.
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
    """Check that the held-out images of a data set are still those that a run has not seen.

    Args:
      folder: of a run on the same data set.
      part: the images to be evaluated.

    Raises:
      UserError: if they are held out of the training images, and others were when the run began.
    """
    stored = RunFolder(folder).dataset
    if part.split != HELD_OUT or not stored.exists():
        return
    before = Part(**json.loads(stored.read_text())["evaluation"])
    if before._replace(times="") != part._replace(times=""):
        raise UserError(
            f"the data set of {folder} has changed since the run began, and some of the "
            f"{part.records:,} images that are held out of it now may have been trained on: "
            "restore it, or evaluate a folder of other images (--dataset=folder:PATH)"
        )


def has_begun(folder: Path) -> bool:
    """Say whether a folder holds a run that has begun to train."""
    return RunFolder(folder).metrics.exists()


def require_space(folder: Path, state: Any, *, keep: int) -> None:
    """Check that the disk has room for a run's checkpoints, and say how much they take.

    bytes = (keep + 1) state + 2 parameters: one of either is written before an older one goes.

    Args:
      folder: of the run; what its checkpoints occupy already counts as free.
      state: a `TrainState`, of arrays or of their shapes.
      keep: how many of the newest checkpoints are kept.

    Raises:
      UserError: if it has not.
    """

    def gigabytes(count: int) -> str:
        return f"{count / 1e9:.2f} GB"

    def size(tree: Any) -> int:
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

    needed = (keep + 1) * size(state) + 2 * size(state.params)
    run = RunFolder(folder)
    files = itertools.chain(run.checkpoints.rglob("*"), run.best.rglob("*"))
    free = shutil.disk_usage(folder).free + sum(file.stat().st_size for file in files)
    if free < needed:
        raise UserError(
            f"{folder} has room for {gigabytes(free)}, and its checkpoints take up to "
            f"{gigabytes(needed)}: choose another --workdir, or a smaller checkpoint.keep"
        )
    _LOG.info("checkpoints take up to %s; there is room for %s", gigabytes(needed), gigabytes(free))


def _compare(path: Path, config: ConfigDict) -> None:
    if not path.exists():
        return
    earlier = fixed_settings(from_json(path.read_text()))
    now = fixed_settings(config)
    different = sorted(
        key for key in earlier.keys() | now.keys() if earlier.get(key) != now.get(key)
    )
    if different:
        key = different[0]
        more = f" (and {len(different) - 1} more)" if len(different) > 1 else ""
        raise UserError(
            f"{path.parent} holds a run of another config: {key} is {earlier.get(key)!r} there and "
            f"{now.get(key)!r} here{more}; choose another --workdir"
        )


def _compare_network(folder: Path, network: Network) -> None:
    """Refuse a network whose layers are not those of the run: code of a user's own may change."""
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
