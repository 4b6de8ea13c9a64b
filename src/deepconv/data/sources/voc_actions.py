"""VOC's action task: persons whose place is given, and what each of them does.

    train, val = open_splits(Path("VOCdevkit/VOC2012"), ["train", "val"])
    train[0]  # {"image": the bytes of a file, "labels": int8 [C], "file_name": ..., "label": 3}
    train.cut_out()[0]["image"]  # the person's box alone

A record is a person; a picture with several is in as many records. The folder has `JPEGImages/`,
`Annotations/*.xml` and `ImageSets/Action/<class>_<split>.txt`, whose lines are

    2010_006215  1  1

the picture, the number of the object in its annotation, from 1 on, and 1 (does it), -1 (does not)
or 0 (unknown). The devkit has an eleventh class `other`, which is not evaluated and left out here.
"""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from deepconv.data import decode
from deepconv.data.labels import UNKNOWN
from deepconv.data.sources import annotations, box_checks, listing, voc
from deepconv.data.sources.annotations import Annotation, AnnotationError
from deepconv.data.sources.box_checks import BadBoxError, Size
from deepconv.data.sources.folder import FolderSource
from deepconv.data.sources.identity import BOXES, LABELS, Part
from deepconv.exceptions import UserError

OTHER = "other"
# Values in the lists, and what they are called everywhere else.
_VALUES = {"1": 1, "-1": 0, "0": -1}


class _Person(NamedTuple):
    """An object of a picture: the picture's name, and the object's number from 1 on."""

    picture: str
    number: int


class Persons:
    """Records of persons in pictures.

    Attributes:
      pictures: the files, one for each person.
      numbers: of each, its number among the objects of its picture, from 1 on.
      boxes: int `[N, 4]`, (left, top, right, bottom) of each, in pixels from 0 on.
      labels: int8 `[N, C]`, 1 for what a person does, 0 for what not, -1 unknown.
      class_names: names of the C classes.
      cut: whether `image` is the box alone.
    """

    def __init__(
        self,
        pictures: FolderSource,
        numbers: Sequence[int],
        boxes: np.ndarray,
        labels: np.ndarray,
        class_names: tuple[str, ...],
        *,
        cut: bool = False,
    ) -> None:
        self.pictures = pictures
        self.numbers = numbers
        self.boxes = boxes
        self.labels = labels
        self.class_names = class_names
        self.cut = cut

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, record: int) -> dict[str, Any]:
        """Read one picture, or cut out its box; `label` is the first present class, or -1.

        Raises:
          UserError: if the file no longer exists or cannot be read.
        """
        example = self.pictures[record]
        if self.cut:
            example["image"] = self._cut(record, example["image"])
        present = np.flatnonzero(self.labels[record] == 1)
        return {
            **example,
            "file_name": f"{example['file_name']}, object {self.numbers[record]}",
            "label": int(present[0]) if len(present) else UNKNOWN,
            "labels": self.labels[record],
        }

    def _cut(self, record: int, data: bytes) -> bytes:
        try:
            picture = decode.decode(data)
        except decode.UnreadableImageError:
            return data  # whoever decodes it names the file
        file = io.BytesIO()
        picture.crop(tuple(self.boxes[record].tolist())).save(file, "PPM")
        return file.getvalue()

    def cut_out(self) -> Self:
        """Return the same persons, their boxes cut out of the pictures."""
        return type(self)(
            self.pictures, self.numbers, self.boxes, self.labels, self.class_names, cut=True
        )

    def part(self) -> Part:
        """Return what identifies these persons, their boxes and their labels.

        Raises:
          UserError: if a file no longer exists.
        """
        part = self.pictures.part()
        contents = {
            name: f"{len(self)} {hashlib.sha256(array.tobytes()).hexdigest()[:16]}"
            for name, array in ((BOXES, self.boxes), (LABELS, self.labels))
        }
        return part._replace(contents={**part.contents, **contents})


def open_splits(path: Path, names: Sequence[str]) -> list[Persons]:
    """Open some splits.

    Args:
      path: the folder of a year.
      names: such as `train`, `val`, `trainval`.

    Raises:
      UserError: if the folder has no lists of actions or no such split; if the lists of a split are
        of different persons, or have other labels than 1, -1 and 0; or if a listed person has no
        picture, no object of that number, or no usable box. The message names the file.
    """
    lists = path / "ImageSets" / "Action"
    for folder in (lists, path / "JPEGImages", path / "Annotations"):
        if not folder.is_dir():
            raise UserError(
                f"{path} has no {folder.relative_to(path)}; voc_action: takes the folder of a year "
                "with the action task, such as VOCdevkit/VOC2012"
            )
    files = {
        Path(name).stem: name for name in listing.entries(lists).files if name.endswith(".txt")
    }
    classes = {name: _classes(files, name) for name in dict.fromkeys(names)}
    for name, found in classes.items():
        if not found:
            known = sorted({stem.rpartition("_")[2] for stem in files if "_" in stem})
            raise UserError(f"{lists} has no split {name!r}; its splits are {', '.join(known)}")
        if found != classes[names[0]]:
            one = next(iter({*found} ^ {*classes[names[0]]}))
            raise UserError(f"{lists} has no list of {one} for both {names[0]} and {name}")
    opened = {name: _open(path, lists, name, found) for name, found in classes.items()}
    return [opened[name] for name in names]


def _classes(files: dict[str, str], split: str) -> tuple[str, ...]:
    found = [stem.removesuffix(f"_{split}") for stem in files if stem.endswith(f"_{split}")]
    return tuple(sorted(name for name in found if name != OTHER))


def _open(path: Path, lists: Path, split: str, class_names: tuple[str, ...]) -> Persons:
    tables = {name: _read(lists / f"{name}_{split}.txt") for name in class_names}
    first = tables[class_names[0]]
    for name, table in tables.items():
        if different := [*({*table} ^ {*first})]:
            picture, number = min(different)
            raise UserError(
                f"{lists}: {name}_{split}.txt and {class_names[0]}_{split}.txt list different "
                f"persons; object {number} of {picture} is in one of them only"
            )
    persons = [*first]
    files = {Path(name).stem: name for name in listing.entries(path / "JPEGImages").files}
    for picture, _ in persons:
        if picture not in files:
            raise UserError(f"{split} lists {picture}, but there is no such picture in JPEGImages")
    pictures = dict.fromkeys(picture for picture, _ in persons)
    found = {
        picture: _annotation(path / "Annotations" / f"{picture}.xml", size)
        for picture, size in zip(
            pictures,
            box_checks.sizes([path / "JPEGImages" / files[picture] for picture in pictures]),
            strict=True,
        )
    }
    boxes = [_box(path, person, *found[person.picture]) for person in persons]
    labels = [[table[person] for table in tables.values()] for person in persons]
    file_names = [files[picture] for picture, _ in persons]
    return Persons(
        FolderSource(path / "JPEGImages", file_names, [0] * len(persons), ("persons",), split),
        [number for _, number in persons],
        np.array(boxes, np.int64),
        np.array(labels, np.int8),
        class_names,
    )


def _read(path: Path) -> dict[_Person, int]:
    """Return the label of each person in a list."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    found: dict[_Person, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        cells = line.split()
        if not cells:
            continue
        where = f"{path}, line {number}"
        if len(cells) == 2:
            raise UserError(f"{where} has no label; VOC keeps those of its test set to itself")
        if len(cells) != 3 or not cells[1].isdecimal():
            raise UserError(f"{where} is not a picture, the number of an object and a label")
        if cells[2] not in _VALUES:
            raise UserError(f"{where}: label {cells[2]!r} is not 1, -1 or 0")
        person = _Person(cells[0], int(cells[1]))
        if person in found:
            raise UserError(f"{where}: object {person.number} of {person.picture} is listed twice")
        found[person] = _VALUES[cells[2]]
    if not found:
        raise UserError(f"{path} lists no persons")
    return found


def _annotation(path: Path, size: Size | None) -> tuple[Annotation, Size]:
    """Return an annotation, and the size of its picture."""
    try:
        annotation = annotations.parse(path.read_bytes(), path.stem)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except AnnotationError as error:
        raise UserError(f"{path}: {error}") from None
    if size is None:
        raise UserError(f"the picture of {path} cannot be read")
    if fault := voc.fault_of_size(annotation, size):
        raise UserError(f"{path}: {fault}")
    return annotation, size


def _box(path: Path, person: _Person, annotation: Annotation, size: Size) -> list[int]:
    """Return the box of a person, (left, top, right, bottom) in pixels from 0 on."""
    file = path / "Annotations" / f"{person.picture}.xml"
    count = len(annotation.objects)
    if not 1 <= person.number <= count:
        raise UserError(
            f"{file} has {count} objects, but ImageSets/Action lists the one of number "
            f"{person.number}"
        )
    thing = annotation.objects[person.number - 1]
    if thing.class_name != "person":
        raise UserError(f"{file}: object {person.number} is {thing.class_name!r}, not 'person'")
    try:
        box = voc.box_of(thing, size)
    except BadBoxError as error:
        raise UserError(f"{file}, object {person.number}: {error}") from None
    left, top, right, bottom = (
        np.rint(box * np.tile([size.width, size.height], 2)).astype(int).tolist()
    )
    return [left, top, max(right, left + 1), max(bottom, top + 1)]
