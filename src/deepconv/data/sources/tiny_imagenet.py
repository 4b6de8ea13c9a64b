r"""The text files of Tiny-ImageNet: boxes of all pictures, and classes of the validation pictures.

    train/<wnid>/<wnid>_boxes.txt   file \t xmin \t ymin \t xmax \t ymax
    val/val_annotations.txt         file \t wnid \t xmin \t ymin \t xmax \t ymax

The numbers are those of the first and last pixel inside the box, from 0: the box of a whole picture
of 64x64 is 0, 0, 63, 63. As unpacked, the pictures of `val/` are all in `val/images/`.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from deepconv.data.sources import listing
from deepconv.exceptions import UserError

_LOG = logging.getLogger(__name__)

VALIDATION = "val_annotations.txt"
IMAGES = "images"


class Line(NamedTuple):
    """A line of one of the files.

    Attributes:
      number: from 1.
      file: name of the picture, without folders.
      class_name: its class; empty where the file does not state it.
      box: (xmin, ymin, xmax, ymax) as written.
    """

    number: int
    file: str
    class_name: str
    box: tuple[str, ...]


def read(path: Path) -> Iterator[Line]:
    """Yield the lines of a file that are not empty.

    Raises:
      UserError: if it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    has_class = path.name == VALIDATION
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            file, *rest = (field.strip() for field in line.split("\t"))
            class_name = rest.pop(0) if has_class and rest else ""
            yield Line(number, file, class_name, tuple(rest))


def class_file(folder: Path, class_name: str) -> Path:
    """Return the file with the boxes of a class of training pictures."""
    return folder / class_name / f"{class_name}_boxes.txt"


def is_unsorted(folder: Path) -> bool:
    """Return whether a folder has the validation pictures as unpacked, in one folder."""
    return (folder / VALIDATION).is_file() and listing.entries(folder).folders == [IMAGES]


def is_unpacked(root: Path) -> bool:
    """Return whether a data set is as unpacked, with test pictures that have no classes."""
    return is_unsorted(root / "val") and listing.entries(root / "test").folders == [IMAGES]


def pictures_by_class(folder: Path) -> dict[str, list[str]]:
    """Return the sorted paths of each class's pictures in an unsorted `val/`, the classes sorted.

    Pictures without a line in the file of annotations have no class and are left out.

    Raises:
      UserError: if no picture has a class, or the files cannot be read.
    """
    class_of = {line.file: line.class_name for line in read(folder / VALIDATION) if line.class_name}
    names = listing.pictures_below(folder / IMAGES).pictures
    pictures: dict[str, list[str]] = {}
    for name in names:
        if name in class_of:
            pictures.setdefault(class_of[name], []).append(f"{IMAGES}/{name}")
    count = sum(map(len, pictures.values()))
    if not count:
        raise UserError(f"{folder / VALIDATION} has the class of no picture in {folder / IMAGES}")
    if count < len(names):
        _LOG.warning(
            "%s: %d of %d pictures have no line in %s and are left out",
            folder / IMAGES,
            len(names) - count,
            len(names),
            VALIDATION,
        )
    _LOG.info("%s: %d pictures of %d classes", folder, count, len(pictures))
    return dict(sorted(pictures.items()))
