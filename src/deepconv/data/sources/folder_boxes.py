"""The boxes of pictures in class folders: from a table `boxes.csv`, or as in Tiny-ImageNet.

    boxes = of(path, [train, evaluation])  # one `Boxes` for each source

    file,class,xmin,ymin,xmax,ymax
    train/cat/0001.jpg,cat,12,30,180,200

`boxes.csv` is in the folder of a split, or in that of the whole set. `file` is the path from there,
or a name that only one picture below has. Coordinates are edges in pixels of the picture as stored:
0, 0, width, height is the whole picture. A picture may have several rows. Those of another class
than the picture's own are other objects, and are not used.
"""

import csv
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepconv import naming
from deepconv.data.sources import box_checks, listing, tiny_imagenet
from deepconv.data.sources.box_checks import BadBoxError, Refusals, Size
from deepconv.data.sources.boxed import Boxes
from deepconv.data.sources.folder import FolderSource
from deepconv.exceptions import UserError

TABLE = "boxes.csv"
COLUMNS = ("file", "class", "xmin", "ymin", "xmax", "ymax")


class _Row(NamedTuple):
    """One box as written.

    Attributes:
      where: the file and the line.
      places: paths at which the picture may be.
      name: how the file names the picture.
      class_name: of the object; None if it is that of the picture.
      box: (xmin, ymin, xmax, ymax) as written.
      inclusive: whether xmax and ymax are the last pixels inside, not the edges.
    """

    where: str
    places: tuple[str, ...]
    name: str
    class_name: str | None
    box: tuple[str, ...]
    inclusive: bool


class _Use(NamedTuple):
    """A row, and the records whose picture it is of: (number of the source, of the record)."""

    row: _Row
    path: str
    records: list[tuple[int, int]]


def of(root: Path, sources: Sequence[FolderSource]) -> list[Boxes]:
    """Return the boxes of the pictures of some sources of one data set.

    Boxes that cannot be used are logged.

    Args:
      root: the folder of the data set.
      sources: splits of it.

    Returns:
      The boxes of each source's records; they may be few or none.

    Raises:
      UserError: if a source's pictures have no files with boxes, or one cannot be read.
    """
    records = [
        {_normal(source.folder, name): record for record, name in enumerate(source.file_names)}
        for source in sources
    ]
    refusals = Refusals()
    uses: list[_Use] = []
    for file, readers in _files(root, sources).items():
        known = {index: records[index] for index in readers}
        uses += _uses(file, known, refusals)
    uses = [use for use in uses if _is_of_the_class(use, sources, refusals)]
    paths = sorted({use.path for use in uses})
    size_of = dict(zip(paths, box_checks.sizes([Path(path) for path in paths]), strict=True))
    found: list[list[list[np.ndarray]]] = [[[] for _ in source.file_names] for source in sources]
    for use in uses:
        try:
            box = _fractions(use.row, size_of[use.path])
        except BadBoxError as error:
            refusals.add(f"{use.row.where}, {use.row.name}", error)
            continue
        for index, record in use.records:
            found[index][record].append(box)
    refusals.end()
    return [Boxes.of(each) for each in found]


def _normal(folder: Path | str, name: str) -> str:
    return os.path.normpath(os.path.join(folder, name))


def _files(root: Path, sources: Sequence[FolderSource]) -> dict[Path, list[int]]:
    """Return the files with boxes, each with the numbers of the sources that it is for."""
    files: dict[Path, list[int]] = {}
    for index, source in enumerate(sources):
        found = [table for folder in (source.folder, root) if (table := folder / TABLE).is_file()]
        # The table of a split replaces that of the whole set.
        found = found[:1] or [
            path
            for path in (
                source.folder / tiny_imagenet.VALIDATION,
                *(tiny_imagenet.class_file(source.folder, name) for name in source.class_names),
            )
            if path.is_file()
        ]
        if not found:
            raise UserError(
                f"{source.folder} has no boxes: write them to {root / TABLE}, with the header "
                f"{','.join(COLUMNS)} and coordinates in pixels"
            )
        for path in found:
            files.setdefault(path, []).append(index)
    return files


def _uses(file: Path, known: dict[int, dict[str, int]], refusals: Refusals) -> list[_Use]:
    """Return the rows of a file that are of the known records' pictures."""
    is_table = file.name == TABLE

    @functools.cache
    def with_name() -> dict[str, list[str]]:
        paths: dict[str, list[str]] = {}
        for path in listing.pictures_below(file.parent).pictures:
            paths.setdefault(os.path.basename(path), []).append(_normal(file.parent, path))
        return paths

    uses = []
    for row in _table(file) if is_table else _lines(file):
        where = f"{row.where}, {row.name}"
        places = [place for place in row.places if any(place in of for of in known.values())]
        if not places and not any(map(os.path.isfile, row.places)):
            places = with_name().get(row.name, []) if is_table else []
            if not places:
                refusals.add(where, "there is no such picture")
            elif len(places) > 1:
                refusals.add(where, f"{len(places)} pictures have this name; write their paths")
                continue
        for place in places[:1]:
            records = [(index, of[place]) for index, of in known.items() if place in of]
            if records:  # else it is a picture of another split
                uses.append(_Use(row, place, records))
    return uses


def _table(path: Path) -> Iterator[_Row]:
    """Yield the rows of a `boxes.csv`.

    Raises:
      UserError: if it has another header or cannot be read.
    """
    try:
        # Names may have any bytes; spreadsheets write a mark at the beginning.
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = csv.reader(file, skipinitialspace=True)
            header = tuple(name.strip() for name in next(rows, []))
            if header != COLUMNS:
                raise UserError(
                    f"{path} begins with {naming.shortened(','.join(header), 80)!r}; its first "
                    f"line has to be the header {','.join(COLUMNS)}"
                )
            for row in rows:
                if not row:
                    continue
                name, class_name, box = row[0], "".join(row[1:2]), tuple(row[2:])
                where = f"{path}, line {rows.line_num}"
                yield _Row(where, (_normal(path.parent, name),), name, class_name, box, False)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except csv.Error as error:
        raise UserError(f"{path} is not a table of commas and lines: {error}") from None


def _lines(path: Path) -> Iterator[_Row]:
    """Yield the lines of one of Tiny-ImageNet's files."""
    for line in tiny_imagenet.read(path):
        name = f"{tiny_imagenet.IMAGES}/{line.file}"
        # Some sort the validation pictures into class folders.
        below = (name, line.file, f"{line.class_name}/{name}", f"{line.class_name}/{line.file}")
        places = tuple(_normal(path.parent, each) for each in dict.fromkeys(below))
        where = f"{path}, line {line.number}"
        yield _Row(where, places, line.file, line.class_name or None, line.box, True)


def _is_of_the_class(use: _Use, sources: Sequence[FolderSource], refusals: Refusals) -> bool:
    """Return whether a row is of its picture's class; refuse a class that the set does not have."""
    index, record = use.records[0]
    source, class_name = sources[index], use.row.class_name
    if class_name is None:
        return True
    if class_name not in source.class_names:
        refusals.add(
            f"{use.row.where}, {use.row.name}",
            f"{class_name!r} is not a class of the data set",
        )
        return False
    return class_name == source.class_names[source.labels[record]]


def _fractions(row: _Row, size: Size | None) -> np.ndarray:
    """Return a row's box as fractions of its picture.

    Raises:
      BadBoxError: if it cannot be used.
    """
    try:
        xmin, ymin, xmax, ymax = map(float, row.box)
    except ValueError:
        raise BadBoxError(f"the box ({', '.join(row.box)}) is not four numbers") from None
    if size is None:
        raise BadBoxError("the picture cannot be read")
    spare = 1 if row.inclusive else 0
    edges = (xmin, ymin, xmax + spare, ymax + spare)
    return box_checks.fractions(edges, *size, written=(xmin, ymin, xmax, ymax))
