"""Data sets by name: our own, and those that tfds prepared as ArrayRecord; without TensorFlow.

dataset = open_dataset("imagenet2012", data_dir="")
dataset.train[0]["image"]  # the bytes of a JPEG
dataset = open_dataset("shapes", boxes=True)
dataset.train[0]["boxes"]  # float32 [K, 4]; see `boxed`
dataset = open_dataset("voc:VOCdevkit/VOC2007", multilabel=True)
dataset.train[0]["labels"]  # int8 [C]; see `multilabel`
"""

import contextlib
import hashlib
import io
import logging
import os
import re
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow_datasets as tfds

from deepconv import naming
from deepconv.data import color
from deepconv.data.color import ColorStatistics
from deepconv.data.pipeline import Source
from deepconv.data.sources import boxed, folder, folder_boxes, labels_table, prepared_boxes, voc
from deepconv.data.sources import multilabel as multilabel_sources
from deepconv.data.sources.boxed import Boxes
from deepconv.data.sources.caltech import NAMES as CALTECH
from deepconv.data.sources.caltech import open_caltech
from deepconv.data.sources.cifar10 import Cifar10
from deepconv.data.sources.folder import FolderSource
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
    name: str,
    *,
    data_dir: str = "",
    train_split: str = "train",
    eval_split: str = "validation",
    boxes: bool = False,
    multilabel: bool = False,
) -> Dataset:
    """Open a prepared data set; prepare it first if that needs no download.

    Args:
      name: its name in tfds; or `folder:` and the path of a folder of pictures (see
        `folder.open_folder`); or `voc:` and the folder of a year (see `voc.open_splits`).
      data_dir: see `root`.
      train_split: in tfds' notation, such as `train[:90%]`; for a folder, see `folder.open_split`.
      eval_split: likewise.
      boxes: whether each record is to have `boxes` too, float32 `[K, 4]`, K >= 1, those of the
        objects of its class; see `boxed`. Records that have none are left out.
      multilabel: whether each record is to have `labels` too, int8 `[C]`: 1 where a class is
        present, 0 absent, -1 unknown; see `multilabel`. Its `label` is the first that is present.

    Raises:
      UserError: if it does not exist, is in an unsupported format, or has no boxes or labels where
        they are asked for; the message says what to do.
    """
    if multilabel:
        splits = _multilabel(name, [train_split, eval_split], boxes)
    elif is_caltech(name):
        raise UserError(
            f"{name} has no splits, deepconv transfer draws them; to train on it, use folder: and "
            "the path of the folder of its classes"
        )
    elif is_folder(name):
        path = _path(name)
        opened = folder.open_folder(path, train_split=train_split, eval_split=eval_split)
        sources = [opened.train, opened.evaluation]
        splits = _of_files(sources, folder_boxes.of(path, sources) if boxes else None, name)
    elif is_voc(name):
        parts = voc.open_splits(_path(name), [train_split, eval_split], compare_sizes=boxes)
        sources = [part.source for part in parts]
        splits = _of_files(sources, [part.boxes for part in parts] if boxes else None, name)
    else:
        builder, directory = _builder(name, data_dir, _TRAINING_HINT)
        splits = [_open(builder, directory, split, boxes) for split in (train_split, eval_split)]
    train, evaluation = splits
    if is_folder(name) or is_voc(name):
        # Nothing is written to the user's own folder.
        location = hashlib.sha256(os.fsencode(_path(name).resolve())).hexdigest()[:16]
        directory = root(data_dir) / name.partition(":")[0] / location
    identity = Identity(train.class_names, train.part, evaluation.part)
    return Dataset(train.source, evaluation.source, identity, directory)


def open_split(
    name: str,
    split: str | None,
    *,
    data_dir: str = "",
    boxes: bool = False,
    multilabel: bool = False,
    labels: Path | None = None,
) -> Split:
    """Open one split of a data set, see `open_dataset`.

    Args:
      name: name of the data set; or `caltech101:` or `caltech256:` and a path, see
        `caltech.open_caltech`, of which all images are one split.
      split: name of the split; by default `validation`, or `folder.whole_split` for a folder.
      data_dir: see `root`.
      boxes: see `open_dataset`.
      multilabel: see `open_dataset`.
      labels: a CSV file of the classes of a folder's pictures; see `labels_table`.

    Raises:
      UserError: see `open_dataset`.
    """
    if labels is not None:
        if not is_folder(name) or split is not None or boxes or multilabel:
            raise UserError(
                f"--labels={labels} is for a plain folder of pictures, --dataset=folder:/path, "
                "without splits and boxes, and for networks of one label a picture"
            )
        return _of_files([labels_table.open_labeled(_path(name), labels)], None, name)[0]
    if multilabel:
        return _multilabel(name, [split], boxes)[0]
    if is_caltech(name):
        if boxes or split not in (None, folder.ALL):
            raise UserError(
                f"{name} has {'no boxes' if boxes else f'no split {split!r}, only all'}"
            )
        return _of_files([open_caltech(name.partition(":")[0], _path(name))], None, name)[0]
    if is_folder(name):
        path = _path(name)
        source = folder.open_split(path, folder.whole_split(path) if split is None else split)
        found = folder_boxes.of(path, [source]) if boxes else None
        return _of_files([source], found, name)[0]
    split = "validation" if split is None else split
    if is_voc(name):
        (part,) = voc.open_splits(_path(name), [split], compare_sizes=boxes)
        return _of_files([part.source], [part.boxes] if boxes else None, name)[0]
    return _open(*_builder(name, data_dir, _EVALUATION_HINT), split, boxes)


def is_folder(name: str) -> bool:
    """Return whether a data set's name is that of a folder of pictures."""
    return name.startswith("folder:")


def is_voc(name: str) -> bool:
    """Return whether a data set's name is that of the folder of a year of VOC."""
    return name.startswith("voc:")


def is_caltech(name: str) -> bool:
    """Return whether a data set's name is that of a folder of Caltech-101 or Caltech-256."""
    return name.partition(":")[0] in CALTECH and ":" in name


def usual_splits(name: str) -> tuple[str, str]:
    """Return the splits that a data set's results are compared on: to train on, and to test with.

    They are VOC's `trainval` and `test` if it has both, else `train` and `validation`.

    Raises:
      UserError: if the folder of a year of VOC has no lists.
    """
    own = ("trainval", "test")
    if is_voc(name) and all(voc.has_split(_path(name), split) for split in own):
        return own
    return "train", "validation"


def has_several_labels(name: str) -> bool:
    """Return whether a data set's pictures have several labels each, see `open_dataset`.

    Raises:
      UserError: if its folder cannot be listed.
    """
    return is_voc(name) or (is_folder(name) and multilabel_sources.has_table(_path(name)))


def _path(name: str) -> Path:
    return Path(name.partition(":")[2]).expanduser()


def _multilabel(name: str, splits: Sequence[str | None], boxes: bool) -> list[Split]:
    """Open splits of pictures that have several labels each."""
    if boxes:
        raise UserError(f"{name}: pictures of several labels cannot be opened with boxes too")
    if is_folder(name):
        sources = multilabel_sources.open_folder(_path(name), splits)
    elif is_voc(name):
        names = ["validation" if split is None else split for split in splits]
        sources = list(map(multilabel_sources.of_voc, voc.open_splits(_path(name), names)))
    else:
        raise UserError(
            f"{name} has one label a picture; several have folder:/path with a "
            f"{multilabel_sources.TABLE}, and voc:/path"
        )
    return [
        Split(source, tuple(map(naming.decoded, source.class_names)), source.part())
        for source in sources
    ]


def _of_files(
    sources: Sequence[FolderSource], boxes: Sequence[Boxes] | None, name: str
) -> list[Split]:
    """Return splits of pictures in files, with their boxes if there are any."""
    splits = [
        Split(source, tuple(map(naming.decoded, source.class_names)), source.part())
        for source in sources
    ]
    if boxes is None:
        return splits
    return [_boxed(split, each, name) for split, each in zip(splits, boxes, strict=True)]


def _boxed(split: Split, boxes: Boxes, name: str) -> Split:
    """Add boxes to a split.

    Raises:
      UserError: if it has none.
    """
    source, part = boxed.with_boxes(split.source, split.part, boxes)
    if not len(source):
        raise UserError(
            f"{name} has no box in {part.split} that can be used; docs/data.md says how to add some"
        )
    return split._replace(source=source, part=part)


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


def _open(builder: Any, directory: Path, split: str, boxes: bool) -> Split:
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
    opened = Split(source, tuple(info.features["label"].names), part)
    if not boxes:
        return opened
    found = prepared_boxes.of(info, directory, split, source)
    return _boxed(opened, found, info.full_name)
