"""Data sets by name: our own, and those that tfds prepared as ArrayRecord; without TensorFlow.

dataset = open_dataset("imagenet2012", data_dir="")
dataset.train[0]["image"]  # the bytes of a JPEG
"""

import contextlib
import hashlib
import io
import logging
import os
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow_datasets as tfds

from deepconv import naming
from deepconv.data import color
from deepconv.data.color import ColorStatistics
from deepconv.data.pipeline import Source
from deepconv.data.sources import folder
from deepconv.data.sources.cifar10 import Cifar10
from deepconv.data.sources.identity import Identity, Part
from deepconv.data.sources.shapes import Shapes
from deepconv.exceptions import UserError

_LOG = logging.getLogger(__name__)

# What to do about a data set that is not found, in terms of the command's own flags.
_TRAINING_HINT = (
    "set --config.dataset.data_dir (or $TFDS_DATA_DIR) to the folder that contains it; a config's "
    ":tiny variant (--config=configs/vgg_e.py:tiny) trains on generated images"
)
_EVALUATION_HINT = (
    "set --data_dir (or $TFDS_DATA_DIR) to the folder that contains it; --dataset=folder:/path "
    "evaluates a folder of pictures"
)

OWN_BUILDERS: dict[str, Callable[..., tfds.core.DatasetBuilder]] = {
    "shapes": Shapes,
    "cifar10": Cifar10,
}


class Dataset(NamedTuple):
    """An opened data set.

    Attributes:
      train: training records `{"image": bytes, "label": int, ...}`.
      evaluation: evaluation records, likewise.
      identity: its classes and a digest of its records.
      directory: folder for cached statistics.
    """

    train: Source
    evaluation: Source
    identity: Identity
    directory: Path

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the labels 0, 1, ..."""
        return self.identity.class_names

    def color_statistics(self, scale: int) -> ColorStatistics:
        """Return the training set's colors at a scale, cached on disk.

        The cache is used only as long as the images are the same.
        """
        part = self.identity.train
        split = re.sub(r"\W+", "_", part.split).strip("_")
        file = self.directory / f"color_{split}_{scale}_{part.digest}.npz"
        return color.stored(self.train, scale, file)


class Split(NamedTuple):
    """One split of a data set, opened for evaluation.

    Attributes:
      source: its records.
      class_names: names of the labels 0, 1, ...
      part: identifies its records; `part.split` is the split that was opened.
    """

    source: Source
    class_names: tuple[str, ...]
    part: Part


def root(data_dir: str) -> Path:
    """Return the folder of all data sets: as given, or $TFDS_DATA_DIR, or tfds' default."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def prepared_directory(name: str, data_dir: str) -> Path | None:
    """Return the folder of the newest prepared version of a data set, or None."""
    found = [*root(data_dir).glob(f"{name}/*/dataset_info.json")]
    found += root(data_dir).glob(f"{name}/*/*/dataset_info.json")
    versions = {
        path.parent: path.parent.name for path in found if "incomplete" not in path.parent.name
    }
    return max(versions, key=lambda path: _version(versions[path]), default=None)


def require_prepared(name: str, data_dir: str) -> Path:
    """Return `prepared_directory`, which must exist.

    Raises:
      UserError: if no version is prepared.
    """
    directory = prepared_directory(name, data_dir)
    if directory is None:
        raise UserError(
            f"{name} is not prepared under {root(data_dir)}; if it is elsewhere, set --data_dir"
        )
    return directory


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else -1 for part in name.split("."))


def open_dataset(
    name: str, *, data_dir: str = "", train_split: str = "train", eval_split: str = "validation"
) -> Dataset:
    """Open a prepared data set; prepare it first if that needs no download.

    Args:
      name: its name in tfds, or `folder:` and the path of a folder of pictures (see
        `folder.open_folder`).
      data_dir: see `root`.
      train_split: in tfds' notation, such as `train[:90%]`; for a folder, see `folder.open_split`.
      eval_split: likewise.

    Raises:
      UserError: if it does not exist or is in an unsupported format; the message says what to do.
    """
    if is_folder(name):
        path = _path(name)
        train, evaluation, class_names = folder.open_folder(
            path, train_split=train_split, eval_split=eval_split
        )
        identity = Identity(_shown(class_names), train.part(), evaluation.part())
        # Nothing is written to the user's own folder.
        location = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
        return Dataset(train, evaluation, identity, root(data_dir) / "folder" / location)
    builder, directory = _builder(name, data_dir, _TRAINING_HINT)
    parts = [_open(builder, directory, split) for split in (train_split, eval_split)]
    identity = Identity(parts[0].class_names, parts[0].part, parts[1].part)
    return Dataset(parts[0].source, parts[1].source, identity, directory)


def open_split(name: str, split: str | None, *, data_dir: str = "") -> Split:
    """Open one split of a data set, see `open_dataset`.

    Args:
      name: name of the data set.
      split: name of the split; by default `validation`, or `folder.whole_split` for a folder.
      data_dir: see `root`.

    Raises:
      UserError: if it does not exist or is in an unsupported format; the message says what to do.
    """
    if is_folder(name):
        path = _path(name)
        source = folder.open_split(path, folder.whole_split(path) if split is None else split)
        return Split(source, _shown(source.class_names), source.part())
    opened = _builder(name, data_dir, _EVALUATION_HINT)
    return _open(*opened, "validation" if split is None else split)


def is_folder(name: str) -> bool:
    """Return whether a data set's name is that of a folder of pictures."""
    return name.startswith("folder:")


def _shown(class_names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(naming.decoded, class_names))


def _path(name: str) -> Path:
    return Path(name.removeprefix("folder:")).expanduser()


def _builder(name: str, data_dir: str, hint: str) -> tuple[Any, Path]:
    is_path = name.startswith(("/", ".", "~"))
    directory = None if is_path else prepared_directory(name, data_dir)
    if directory is None and name in OWN_BUILDERS:
        directory = _prepare(name, data_dir)
    if is_path or (directory is None and Path(name).is_dir()):
        raise UserError(f"{name} is a path; for a folder of pictures, use folder:{name}")
    if directory is None:
        looked_for = root(data_dir) / name / "<version>" / "dataset_info.json"
        raise UserError(
            f"data set {name} not found: {looked_for} does not exist. Prepare it (deepconv data "
            f"imagenet, or tfds in the array_record format), or {hint}"
        )
    return tfds.builder_from_directory(directory), directory


def _prepare(name: str, data_dir: str) -> Path:
    builder = OWN_BUILDERS[name](data_dir=root(data_dir), file_format="array_record")
    _LOG.info("preparing the data set %s in %s", name, builder.data_dir)
    tfds.display_progress_bar(sys.stderr.isatty())
    # tfds prints a message about a download of unknown size, which does not apply.
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare()
    return Path(builder.data_dir)


def _allow_many_files() -> None:
    """Raise the limit on open files: a reader keeps all shards open, up to 1,088 for ImageNet."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 10_240 if hard == resource.RLIM_INFINITY else min(hard, 10_240)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _open(builder: Any, directory: Path, split: str) -> Split:
    info = builder.info
    if info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise UserError(
            f"{directory} is in the format {info.file_format.value}, which does not support random "
            "access; prepare it again with file_format=array_record"
        )
    missing = {"image", "label"} - set(info.features)
    if missing:
        raise UserError(
            f"{directory} is not a classification set: it has no feature {missing.pop()!r}"
        )
    _allow_many_files()
    try:
        records = info.splits[split].num_examples
        if not records:
            raise UserError(f"{directory} has no images in the split {split!r}")
        source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    except (KeyError, ValueError) as error:
        reason = str(error.args[0] if error.args else error).splitlines()[0]
        raise UserError(f"{directory}: {reason}") from None
    # The splits that a split such as `train[:90%]+validation` consists of.
    whole = {base for base in info.splits if re.search(rf"\b{re.escape(base)}\b", split)}
    contents = {
        base: f"{info.splits[base].num_examples} images, {info.splits[base].num_bytes} bytes"
        for base in sorted(whole)
    }
    part = Part(split, info.full_name, records, contents)
    return Split(source, tuple(info.features["label"].names), part)
