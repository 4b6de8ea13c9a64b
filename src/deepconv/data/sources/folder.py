"""Your own data sets: pictures in one folder per class, without preparation.

    train, evaluation, class_names = open_folder("/data/flowers")
    train[0]  # {"image": the bytes of a file, "label": 0, "file_name": "daisy/0001.jpg"}

Either `train/<class>/*` with `val/<class>/*` (or `valid/`, `validation/`) and `test/<class>/*`, or
only `<class>/*`. If there are no validation pictures, a part of each class of the training pictures
is held out. Labels number the classes in the order of their names.

Tiny-ImageNet may be as unpacked, its validation pictures in one folder; see `tiny_imagenet`.
"""

import functools
import hashlib
import logging
import os
from pathlib import Path
from typing import Any, NamedTuple

from deepconv.data.sources import listing, tiny_imagenet
from deepconv.data.sources.identity import Part
from deepconv.exceptions import UserError

_LOG = logging.getLogger(__name__)

# The possible folder names of each split.
FOLDERS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
# All pictures of a folder of classes without splits.
ALL = "all"
# A validation split that has no folder of its own.
HELD_OUT = "validation (held out)"
_SPLITS = {name: split for split, names in FOLDERS.items() for name in names} | {ALL: ALL}


class FolderSource:
    """Records of the pictures in a folder of class folders, read on demand.

    Attributes:
      folder: the folder.
      file_names: paths of the pictures in the folder, as a rule `<class>/<path below it>`, sorted
        within each class.
      labels: the label of each file.
      class_names: names of the labels 0, 1, ...
      split: which split these pictures are, such as `train` or `HELD_OUT`.
    """

    def __init__(
        self,
        folder: Path,
        file_names: list[str],
        labels: list[int],
        class_names: tuple[str, ...] = (),
        split: str = ALL,
    ):
        self.folder = folder
        self.file_names = file_names
        self.labels = labels
        self.class_names = class_names
        self.split = split

    def __len__(self) -> int:
        return len(self.file_names)

    def __getitem__(self, record: int) -> dict[str, Any]:
        """Read one picture.

        Raises:
          UserError: if the file no longer exists or cannot be read.
        """
        path = self.folder / self.file_names[record]
        try:
            image = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
        return {
            "image": image,
            "label": self.labels[record],
            "file_name": self.file_names[record],
        }

    def part(self) -> Part:
        """Return what identifies these pictures: their names, sizes and modification times.

        Raises:
          UserError: if a file no longer exists.
        """
        times = hashlib.sha256()
        counts = dict.fromkeys(self.class_names, 0)
        digests = {name: hashlib.sha256() for name in self.class_names}
        for file_name, label in zip(self.file_names, self.labels, strict=True):
            try:
                status = (self.folder / file_name).stat()
            except OSError as error:
                raise UserError(
                    f"{self.folder / file_name} cannot be read: {error.strerror}"
                ) from error
            name = self.class_names[label]
            counts[name] += 1
            line = f"{file_name}\0{status.st_size}\0".encode(errors="surrogateescape")
            digests[name].update(line)
            times.update(status.st_mtime_ns.to_bytes(8, "little", signed=True))
        return Part(
            split=self.split,
            version="",
            records=len(self),
            contents={
                name: f"{counts[name]} {digest.hexdigest()[:16]}"
                for name, digest in digests.items()
            },
            times=times.hexdigest()[:16],
        )


class FolderDataset(NamedTuple):
    """What `open_folder` returns."""

    train: FolderSource
    evaluation: FolderSource
    class_names: tuple[str, ...]


def open_folder(
    path: str | os.PathLike[str],
    *,
    train_split: str = "train",
    eval_split: str = "validation",
    seed: int = 0,
    eval_fraction: float = 0.1,
) -> FolderDataset:
    """Open two splits of a folder of pictures, one for training and one for evaluation.

    Args:
      path: the folder.
      train_split: see `open_split`.
      eval_split: see `open_split`.
      seed: see `open_split`.
      eval_fraction: see `open_split`.

    Raises:
      UserError: see `open_split`; or if an evaluation class has no training pictures.
    """
    folder = _Folder(Path(path).expanduser(), seed, eval_fraction)
    train = folder.split(train_split, hold_out=_SPLITS.get(eval_split) == "validation")
    evaluation = folder.split(eval_split)
    if missing := [name for name in evaluation.class_names if name not in train.class_names]:
        raise UserError(f"{evaluation.folder / missing[0]} is not a class of {train.folder}")
    _warn_of_shared_names(train, evaluation, folder.path)
    return FolderDataset(train, evaluation, train.class_names)


def open_split(
    path: str | os.PathLike[str], split: str, *, seed: int = 0, eval_fraction: float = 0.1
) -> FolderSource:
    """Open one split of a folder of pictures.

    Without a folder of validation pictures, a part of each class is held out. Which pictures these
    are depends on the seed and the file names; adding a picture moves at most one other.

    Args:
      path: the folder.
      split: `train`, `validation` (or `val`, `valid`), `test`, or `all` for all pictures of a
        folder without splits.
      seed: selects the held-out pictures; unused if there is a folder of validation pictures.
      eval_fraction: the fraction of each class to hold out; unused likewise.

    Raises:
      UserError: if the folder has another layout or no such split, or cannot be read.
    """
    return _Folder(Path(path).expanduser(), seed, eval_fraction).split(split)


def whole_split(path: str | os.PathLike[str]) -> str:
    """Return the split of a folder to evaluate if none is named.

    It is `all` for a folder without splits, and `validation` otherwise.

    Raises:
      UserError: if the folder cannot be read.
    """
    folder = _Folder(Path(path).expanduser(), 0, 0.1)
    return "validation" if folder.folders else ALL


class _Folder:
    """A folder of pictures whose parts are listed once, on demand."""

    def __init__(self, path: Path, seed: int, eval_fraction: float) -> None:
        if not 0 < eval_fraction < 1:
            raise UserError(f"eval_fraction must be between 0 and 1, not {eval_fraction}")
        self.path, self._seed, self._eval_fraction = path, seed, eval_fraction

    @functools.cached_property
    def folders(self) -> dict[str, Path]:
        """The folder of each split; empty if the folder has no splits.

        A class may be called "train" or "test"; then it contains pictures and no folders.
        """
        names = listing.entries(self.path).folders
        if {"val", "test"} <= {*names} and tiny_imagenet.is_unpacked(self.path):
            names.remove("test")  # its pictures have no classes
        known = [name for name in names if name in _SPLITS and name != ALL]
        parts = [name for name in known if listing.entries(self.path / name).folders]
        if "train" not in parts and parts != names:
            if len(names) == 1 and (below := listing.entries(self.path / names[0]).folders):
                raise UserError(
                    f"{self.path} has one class, {names[0]}, which contains folders "
                    f"({', '.join(below[:3])}); did you mean {self.path / names[0]}?"
                )
            return {}
        if unknown := [name for name in names if name not in known]:
            raise UserError(
                f"{self.path / unknown[0]} is next to {' and '.join(parts)} but is not a split; "
                "the folders of a data set are train, val (or valid, validation) and test: rename "
                "it or move it elsewhere"
            )
        found: dict[str, Path] = {}
        for name in known:
            if (split := _SPLITS[name]) in found:
                raise UserError(
                    f"{self.path} has two folders of validation pictures, {found[split].name} and "
                    f"{name}; move one elsewhere"
                )
            found[split] = self.path / name
        return found

    def split(self, name: str, *, hold_out: bool = True) -> FolderSource:
        """Open a split by any of its names.

        Args:
          name: any name of the split.
          hold_out: whether to exclude the held-out pictures from the training pictures, if there is
            no validation folder.
        """
        split = _SPLITS.get(name)
        has = {*self.folders} if self.folders else {"train", ALL}
        if "train" in has:
            has.add("validation")  # held out where it has no folder
        if split not in has:
            listed = ", ".join(each for each in (*FOLDERS, ALL) if each in has)
            raise UserError(f"{self.path} has no split {name!r}; its splits are {listed}")
        if "validation" not in self.folders and (
            split == "validation" or (split == "train" and hold_out)
        ):
            return self._held_out[split]
        folder = self.folders.get(split, self.path)
        pictures = self._pictures(folder)
        class_names = tuple(pictures)
        if "train" in self.folders:
            in_training = tuple(self._pictures(self.folders["train"]))
            if set(class_names) <= set(in_training):
                class_names = in_training
        return _source(folder, pictures, class_names, split)

    @functools.cached_property
    def _held_out(self) -> dict[str, FolderSource]:
        """The training pictures, divided into those to train on and those to evaluate."""
        folder = self.folders.get("train", self.path)
        train, evaluation = {}, {}
        for class_name, names in self._pictures(folder).items():
            # At least one picture of each class on either side, if there are two.
            count = min(max(round(self._eval_fraction * len(names)), 1), len(names) - 1)
            shuffled = sorted(names, key=lambda name: _draw(self._seed, name))
            evaluation[class_name] = sorted(shuffled[:count])
            train[class_name] = sorted(shuffled[count:])
        class_names = tuple(train)
        validation = _source(folder, evaluation, class_names, HELD_OUT)
        if not len(validation):
            raise UserError(
                f"no class in {folder} has two or more pictures, so none can be held out for "
                "validation"
            )
        _LOG.info("%s: %d pictures are held out for validation", folder, len(validation))
        rest = _source(folder, train, class_names, "train (without those held out)")
        return {"train": rest, "validation": validation}

    @functools.cache  # noqa: B019 - it lives as long as the call that opens it
    def _pictures(self, folder: Path) -> dict[str, list[str]]:
        return _pictures_by_class(folder)


def _draw(seed: int, file_name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{file_name}".encode(errors="surrogateescape")).digest()


def _source(
    folder: Path, pictures: dict[str, list[str]], class_names: tuple[str, ...], split: str
) -> FolderSource:
    file_names, labels = [], []
    for label, class_name in enumerate(class_names):
        names = pictures.get(class_name, [])
        file_names += names
        labels += [label] * len(names)
    return FolderSource(folder, file_names, labels, class_names, split)


def _pictures_by_class(folder: Path) -> dict[str, list[str]]:
    """Return the sorted paths of each class's pictures, the classes sorted too."""
    if tiny_imagenet.is_unsorted(folder):
        return tiny_imagenet.pictures_by_class(folder)
    class_names = listing.entries(folder).folders
    if not class_names:
        raise UserError(f"{folder} contains no class folders")
    pictures, others = {}, 0
    for class_name in class_names:
        found = listing.pictures_below(folder / class_name)
        if not found.pictures:
            raise UserError(
                f"{folder / class_name} is a class folder without pictures "
                f"({', '.join(listing.EXTENSIONS)})"
            )
        pictures[class_name] = [f"{class_name}/{name}" for name in found.pictures]
        others += found.others
    _LOG.info(
        "%s: %d pictures in %d classes; %d other files ignored",
        folder,
        sum(map(len, pictures.values())),
        len(pictures),
        others,
    )
    return pictures


def _warn_of_shared_names(train: FolderSource, evaluation: FolderSource, folder: Path) -> None:
    if train.folder == evaluation.folder:
        return  # one folder, divided above
    shared = sorted({*train.file_names} & {*evaluation.file_names})
    if shared:
        _LOG.warning(
            "%s: %d pictures have the same name in training and evaluation, such as %s; if they "
            "are the same pictures, the errors are meaningless",
            folder,
            len(shared),
            shared[0],
        )
