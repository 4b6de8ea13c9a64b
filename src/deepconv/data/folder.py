"""A data set of one's own: pictures in folders, one folder per class, nothing prepared.

    train, evaluation, class_names = open_folder("/data/flowers")
    train[0]  # {"image": the bytes of a file, "label": 0, "file_name": "daisy/0001.jpg"}

Either `train/<class>/*` beside `val/<class>/*` (or `validation/`, or `test/`), or `<class>/*`
alone, of which a part is set aside for evaluation. Labels count the classes in the order of their
names.
"""

import hashlib
import logging
import os
from pathlib import Path
from typing import Any, NamedTuple

from deepconv.data import listing
from deepconv.user_error import UserError

_LOG = logging.getLogger(__name__)

EVALUATION_FOLDERS = ("val", "validation", "test")


class FolderSource:
    """Records of the pictures in a folder of class folders, read when asked for.

    Attributes:
      folder: the folder.
      file_names: `<class>/<path below it>`, sorted within each class.
      labels: as many.
    """

    def __init__(self, folder: Path, file_names: list[str], labels: list[int]):
        self.folder = folder
        self.file_names = file_names
        self.labels = labels

    def __len__(self) -> int:
        return len(self.file_names)

    def __getitem__(self, record: int) -> dict[str, Any]:
        """Read one picture.

        Raises:
          UserError: if the file has gone or cannot be read.
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


class FolderDataset(NamedTuple):
    """What `open_folder` returns."""

    train: FolderSource
    evaluation: FolderSource
    class_names: tuple[str, ...]


def open_folder(
    path: str | os.PathLike[str], *, seed: int = 0, eval_fraction: float = 0.1
) -> FolderDataset:
    """Open a folder of pictures.

    Without a folder for evaluation, a part of each class is set aside. Which pictures it is depends
    on the seed and the names of the files, and a picture that is added later moves at most one
    other.

    Args:
      path: the folder.
      seed: of what is set aside; unused where there is a folder for evaluation.
      eval_fraction: the part of each class that is set aside, likewise.

    Raises:
      UserError: if the folder is not laid out like this, or cannot be read.
    """
    folder = Path(path).expanduser()
    train_folder = folder / "train"
    # A class may be called "train"; then there are pictures in it and no folders.
    if not (os.path.isdir(train_folder) and listing.entries(train_folder).folders):
        return _split(folder, seed, eval_fraction)
    found = [folder / name for name in EVALUATION_FOLDERS if os.path.isdir(folder / name)]
    if not found:
        return _split(train_folder, seed, eval_fraction)
    train = _pictures_by_class(train_folder)
    evaluation = _pictures_by_class(found[0])
    for class_name in evaluation:
        if class_name not in train:
            raise UserError(f"{found[0] / class_name} is a class that {train_folder} lacks")
    _warn_of_shared_names(train, evaluation, folder)
    class_names = tuple(train)
    return FolderDataset(
        _source(train_folder, train, class_names),
        _source(found[0], evaluation, class_names),
        class_names,
    )


def _split(folder: Path, seed: int, eval_fraction: float) -> FolderDataset:
    if not 0 < eval_fraction < 1:
        raise UserError(f"eval_fraction is {eval_fraction}; it has to lie between 0 and 1")
    train, evaluation = {}, {}
    for class_name, names in _pictures_by_class(folder).items():
        # At least one of each class for either, if there are two.
        count = min(max(round(eval_fraction * len(names)), 1), len(names) - 1)
        by_chance = sorted(names, key=lambda name: _draw(seed, f"{class_name}/{name}"))
        evaluation[class_name] = sorted(by_chance[:count])
        train[class_name] = sorted(by_chance[count:])
    class_names = tuple(train)
    parts = FolderDataset(
        _source(folder, train, class_names), _source(folder, evaluation, class_names), class_names
    )
    if not len(parts.evaluation):
        raise UserError(f"{folder} has no class of two pictures or more, so none for evaluation")
    _LOG.info("%s: %d pictures set aside for evaluation", folder, len(parts.evaluation))
    return parts


def _draw(seed: int, file_name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{file_name}".encode(errors="surrogateescape")).digest()


def _source(
    folder: Path, pictures: dict[str, list[str]], class_names: tuple[str, ...]
) -> FolderSource:
    file_names, labels = [], []
    for label, class_name in enumerate(class_names):
        names = pictures.get(class_name, [])
        file_names += [f"{class_name}/{name}" for name in names]
        labels += [label] * len(names)
    return FolderSource(folder, file_names, labels)


def _pictures_by_class(folder: Path) -> dict[str, list[str]]:
    """Return the sorted names of each class's pictures, the classes sorted too."""
    class_names = listing.entries(folder).folders
    if not class_names:
        raise UserError(f"{folder} holds no class folders")
    pictures, others = {}, 0
    for class_name in class_names:
        found = listing.pictures_below(folder / class_name)
        if not found.pictures:
            raise UserError(
                f"{folder / class_name} is a class without pictures "
                f"({', '.join(listing.EXTENSIONS)})"
            )
        pictures[class_name] = found.pictures
        others += found.others
    _LOG.info(
        "%s: %d pictures of %d classes; %d other files ignored",
        folder,
        sum(map(len, pictures.values())),
        len(pictures),
        others,
    )
    return pictures


def _warn_of_shared_names(
    train: dict[str, list[str]], evaluation: dict[str, list[str]], folder: Path
) -> None:
    shared = [
        f"{class_name}/{name}"
        for class_name, names in evaluation.items()
        for name in sorted(set(names) & set(train[class_name]))
    ]
    if shared:
        _LOG.warning(
            "%s: %d pictures have the same name for training and evaluation, such as %s; if they "
            "are the same pictures, the errors mean nothing",
            folder,
            len(shared),
            shared[0],
        )
