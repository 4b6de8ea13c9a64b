"""Pictures with several labels each: from a table `labels.csv` beside them, or from VOC.

    train, test = open_folder(Path("/data/scenes"), ["train", "validation"])
    train[0]  # {"image": the bytes of a file, "label": 2, "labels": int8 [C], "file_name": "1.jpg"}

    file,beach,forest,sea
    0001.jpg,1,0,1
    more/0002.jpg,0,1,-1

`labels.csv` is in the folder itself, or one in each folder of a split: `train`, `val` (or `valid`,
`validation`), `test`. `file` is the path from the folder of the table. If there is one table, the
pictures below `train/`, `val/` and `test/` are those splits; if none are, it has no splits. Without
validation pictures, a part of the training pictures is held out. Pictures that are not in the table
are not used.
"""

import csv
import hashlib
import logging
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deepconv import naming
from deepconv.data.labels import UNKNOWN
from deepconv.data.sources import folder, listing
from deepconv.data.sources.folder import FOLDERS, HELD_OUT, FolderSource
from deepconv.data.sources.identity import LABELS, Part
from deepconv.data.sources.voc import VocSplit
from deepconv.exceptions import UserError

_LOG = logging.getLogger(__name__)

TABLE = "labels.csv"
EVAL_FRACTION = 0.1
# Present, absent, unknown.
_VALUES = {"1": 1, "0": 0, "-1": -1}
_SPLIT_OF = {name: split for split, names in FOLDERS.items() for name in names}
# The only "class" of pictures that are counted together.
_ALL = "pictures"


class MultiLabelSource:
    """Records of pictures with several labels each.

    Attributes:
      pictures: the files.
      labels: int8 `[N, C]`, 1 where a class is present, 0 absent, -1 unknown.
      class_names: names of the C classes.
    """

    def __init__(
        self, pictures: FolderSource, labels: np.ndarray, class_names: tuple[str, ...]
    ) -> None:
        self.pictures = pictures
        self.labels = labels
        self.class_names = class_names

    @property
    def file_names(self) -> list[str]:
        """Paths of the pictures in their folder."""
        return self.pictures.file_names

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, record: int) -> dict[str, Any]:
        """Read one picture; `label` is its first present class, -1 if there is none.

        Raises:
          UserError: if the file no longer exists or cannot be read.
        """
        labels = self.labels[record]
        present = np.flatnonzero(labels == 1)
        label = int(present[0]) if len(present) else UNKNOWN
        return {**self.pictures[record], "label": label, "labels": labels}

    def part(self) -> Part:
        """Return what identifies these pictures and their labels.

        Raises:
          UserError: if a file no longer exists.
        """
        part = self.pictures.part()
        digest = hashlib.sha256(self.labels.tobytes()).hexdigest()[:16]
        content = f"{int((self.labels == 1).sum())} {digest}"
        return part._replace(contents={**part.contents, LABELS: content})


class _Table(NamedTuple):
    """A table as read: its file, the classes in its header, and the labels of each picture."""

    path: Path
    class_names: tuple[str, ...]
    rows: dict[str, list[int]]


# The labels of each picture, by its path below the data set's folder.
_Rows = dict[str, list[int]]


def has_table(path: Path) -> bool:
    """Return whether a folder is one of pictures with several labels each.

    Raises:
      UserError: if it cannot be listed.
    """
    return bool(_tables(path))


def open_folder(path: Path, splits: Sequence[str | None]) -> list[MultiLabelSource]:
    """Open some splits of a folder with `labels.csv`.

    Args:
      path: the folder.
      splits: `train`, `validation` (or `val`, `valid`), `test`, or `all` for all pictures of a
        folder without splits; None is `validation`, or `all` of a folder without splits. Pictures
        that are held out are left out of `train` if `validation` is opened too.

    Raises:
      UserError: if there is no table, no such split, a picture is missing, or a table is not as
        described above; the message names the file and the line.
    """
    class_names, parts = _listed(path)
    titles = {split: split for split in parts}
    if None in splits:
        whole = folder.ALL if folder.ALL in parts else "validation"
        splits = [whole if name is None else name for name in splits]
    wanted = [_SPLIT_OF.get(name or "", name or "") for name in splits]
    training = parts.get("train", parts.get(folder.ALL))
    if training is not None:
        parts.setdefault("train", training)
        titles.setdefault("train", "train")
        if "validation" not in parts:
            rest, held_out = _held_out(path, training)
            parts["validation"], titles["validation"] = held_out, HELD_OUT
            if "validation" in wanted:
                parts["train"], titles["train"] = rest, "train (without those held out)"
    for name, split in zip(splits, wanted, strict=True):
        if split not in parts:
            listed = ", ".join(each for each in (*FOLDERS, folder.ALL) if each in parts)
            raise UserError(f"{path} has no split {name!r}; its splits are {listed}")
        if not parts[split]:
            raise UserError(f"{path} has too few pictures to hold some out for validation")
    return [
        MultiLabelSource(
            _pictures(path, [*parts[split]], titles[split]),
            np.array([*parts[split].values()], np.int8).reshape(-1, len(class_names)),
            class_names,
        )
        for split in wanted
    ]


def of_voc(split: VocSplit) -> MultiLabelSource:
    """Return all pictures of a split of VOC, with all their classes.

    A class with objects that are all marked as difficult is unknown, as in VOC's own lists for its
    classification task.

    Raises:
      UserError: if the split lists a picture that is missing or has no annotation.
    """
    if split.faults:
        raise UserError(f"{split.source.split} lists {split.faults[0]}")
    class_names = split.source.class_names
    labels = np.zeros((len(split.annotations), len(class_names)), np.int8)
    for row, annotation in zip(labels, split.annotations.values(), strict=True):
        for thing in annotation.objects:
            number = class_names.index(thing.class_name)
            if not thing.difficult:
                row[number] = 1
            elif row[number] != 1:
                row[number] = -1
    pictures = _pictures(split.source.folder, [*split.annotations], split.source.split)
    return MultiLabelSource(pictures, labels, class_names)


def _pictures(path: Path, file_names: list[str], split: str) -> FolderSource:
    return FolderSource(path, file_names, [0] * len(file_names), (_ALL,), split)


def _tables(path: Path) -> dict[str, Path]:
    """Return the file of each split's table, or of that of all."""
    if TABLE in (found := listing.entries(path)).files:
        return {folder.ALL: path / TABLE}
    return {
        _SPLIT_OF[name]: path / name / TABLE
        for name in found.folders
        if name in _SPLIT_OF and (path / name / TABLE).is_file()
    }


def _listed(path: Path) -> tuple[tuple[str, ...], dict[str, _Rows]]:
    """Return the classes, and the pictures of each split with their labels."""
    tables = {split: _read(file) for split, file in _tables(path).items()}
    if not tables:
        raise UserError(f"{path} has no {TABLE}, which says which classes are in each picture")
    first = next(iter(tables.values()))
    for table in tables.values():
        if table.class_names != first.class_names:
            same = {*table.class_names} == {*first.class_names}
            what = "the same classes in another order" if same else "other classes"
            raise UserError(f"{table.path} has {what} than {first.path}; give both the same header")
    if folder.ALL not in tables:
        return first.class_names, {
            split: {f"{table.path.parent.name}/{name}": row for name, row in table.rows.items()}
            for split, table in tables.items()
        }
    parts: dict[str, _Rows] = {}
    for name, row in first.rows.items():
        split = _SPLIT_OF.get(name.split("/")[0], folder.ALL)
        parts.setdefault(split, {})[name] = row
    if folder.ALL in parts and len(parts) > 1:
        outside = next(iter(parts[folder.ALL]))
        raise UserError(
            f"{first.path} lists some pictures below train, val or test, and others, such as "
            f"{outside}, outside of them; move either"
        )
    return first.class_names, parts


def _read(path: Path) -> _Table:
    pictures = {*listing.pictures_below(path.parent).pictures}
    rows: _Rows = {}
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            lines = csv.reader(file)
            class_names = _header(path, next(lines, []))
            for cells in filter(None, lines):
                name, labels = _row(cells, class_names, f"{path}, line {lines.line_num}")
                if name not in pictures:
                    raise UserError(
                        f"{path}, line {lines.line_num}: there is no picture {path.parent / name}"
                    )
                if name in rows:
                    raise UserError(f"{path}, line {lines.line_num}: {name} is listed twice")
                rows[name] = labels
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except csv.Error as error:
        raise UserError(f"{path} is not a table in CSV: {error}") from error
    if not rows:
        raise UserError(f"{path} lists no pictures")
    if unlisted := len(pictures) - len(rows):
        _LOG.info("%s: %d pictures are not listed and are left out", path, unlisted)
    return _Table(path, class_names, rows)


def _header(path: Path, cells: Sequence[str]) -> tuple[str, ...]:
    names = [naming.decoded(cell.strip()) for cell in cells]
    if names[:1] != ["file"] or len(names) < 2 or not all(names):
        raise UserError(f"{path} has to begin with the line file,<class>,<class>,...")
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise UserError(f"{path}, line 1: {twice[0]} is there twice")
    return tuple(names[1:])


def _row(cells: Sequence[str], class_names: Sequence[str], where: str) -> tuple[str, list[int]]:
    name, *values = (cell.strip() for cell in cells)
    if len(values) != len(class_names):
        raise UserError(
            f"{where}: there are {len(values)} labels for the {len(class_names)} classes"
        )
    for class_name, value in zip(class_names, values, strict=True):
        if value not in _VALUES:
            raise UserError(
                f"{where}: label {value!r} of {class_name} is not 1 (present), 0 (absent) or -1 "
                "(unknown)"
            )
    return posixpath.normpath(name), [_VALUES[value] for value in values]


def _held_out(path: Path, rows: _Rows) -> tuple[_Rows, _Rows]:
    """Divide pictures into those to train on and those to validate with, by a hash of the name."""
    count = min(max(round(EVAL_FRACTION * len(rows)), 1), len(rows) - 1)
    held_out = {*sorted(rows, key=_rank)[:count]}
    if held_out:
        _LOG.info("%s: %d pictures are held out for validation", path, len(held_out))
    return (
        {name: row for name, row in rows.items() if name not in held_out},
        {name: row for name, row in rows.items() if name in held_out},
    )


def _rank(file_name: str) -> bytes:
    return hashlib.sha256(file_name.encode(errors="surrogateescape")).digest()
