"""Pictures in one folder, whose classes are in a CSV file.

    source = open_labeled(Path("/data/val"), Path("/data/LOC_val_solution.csv"))
    source[0]  # {"image": the bytes of a file, "label": 0, "file_name": "0001.jpg"}

A row has the name of a picture, with or without its extension, and its class; a first row that
names no picture is the header. Kaggle's table of ImageNet, where boxes follow the class
("n02105855 32 16 329 318"), is read too; of several classes, the first one counts.
"""

import csv
import re
from pathlib import Path

from deepconv.data.sources import listing
from deepconv.data.sources.folder import FolderSource
from deepconv.exceptions import UserError

# A wnid, and four coordinates for each object.
_WITH_BOXES = re.compile(r"(n\d{8})(?: -?\d+){4}(?: n\d{8}(?: -?\d+){4})* *")


def open_labeled(folder: Path, table: Path) -> FolderSource:
    """Open the pictures below a folder with the classes in a table.

    Args:
      folder: the folder.
      table: the CSV file.

    Raises:
      UserError: if the folder or the table cannot be read, a picture is in no row or in two, or a
        row's picture is not there.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder of pictures")
    pictures = listing.pictures_below(folder).pictures
    if not pictures:
        raise UserError(f"{folder} contains no pictures")
    by_name = {Path(name).with_suffix("").as_posix(): name for name in pictures}
    by_name |= {name: name for name in pictures}
    classes: dict[str, str] = {}
    for number, (name, class_name) in enumerate(_rows(table), start=1):
        picture = by_name.get(name)
        if picture is None and number == 1:
            continue  # the header
        if picture is None:
            raise UserError(f"{table}, row {number}: there is no picture {name} in {folder}")
        if not class_name:
            raise UserError(f"{table}, row {number}: {name} has no class")
        if picture in classes:
            raise UserError(f"{table}, row {number}: {name} has a row before")
        classes[picture] = class_name
    if missing := [name for name in pictures if name not in classes]:
        raise UserError(
            f"{table} has no row for {folder / missing[0]} ({len(missing)} of {len(pictures)} "
            "pictures have none)"
        )
    names = tuple(sorted({*classes.values()}))
    numbers = {name: number for number, name in enumerate(names)}
    labels = [numbers[classes[name]] for name in pictures]
    return FolderSource(folder, pictures, labels, names, f"labeled by {table.name}")


def _rows(table: Path) -> list[tuple[str, str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file, strict=True) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{table} cannot be read as a CSV file: {reason}") from None
    if not rows:
        raise UserError(f"{table} has no rows")
    if short := next((row for row in rows if len(row) < 2), None):
        raise UserError(f"{table}: the row {short[0]!r} has one column: a picture and its class")
    return [(row[0].strip(), _class_of(row[1].strip())) for row in rows]


def _class_of(cell: str) -> str:
    found = _WITH_BOXES.fullmatch(cell)
    return found[1] if found else cell
