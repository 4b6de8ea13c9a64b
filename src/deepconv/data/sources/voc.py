"""VOC's data sets as unpacked, for networks that predict one class.

    train, test = open_splits(Path("VOCdevkit/VOC2007"), ["trainval", "test"])
    train.source[0]  # {"image": the bytes of a file, "label": 6, "file_name": "000005.jpg"}
    train.annotations["000005.jpg"].objects  # all its objects

The label of a picture is the class of its largest object that is not marked as difficult, and its
boxes are those of all such objects of this class. A picture without any is left out.

The folder has `JPEGImages/`, `Annotations/*.xml` and `ImageSets/Main/<split>.txt`, or in place of
the latter lists for each class, `<class>_<split>.txt`.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepconv.data.sources import annotations, box_checks, listing
from deepconv.data.sources.annotations import Annotation, AnnotationError, Object
from deepconv.data.sources.box_checks import BadBoxError, Refusals, Size
from deepconv.data.sources.boxed import Boxes
from deepconv.data.sources.folder import FolderSource
from deepconv.exceptions import UserError

_LOG = logging.getLogger(__name__)

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
SPLITS = ("train", "val", "trainval", "test")

# Coordinates count pixels from 1; tools that count from 0 exceed the picture by one.
_SLACK = 1.0


class VocSplit(NamedTuple):
    """One split.

    Attributes:
      source: its pictures.
      annotations: all objects, the difficult ones too, of every picture of the split by its file
        name; also of those that `source` leaves out.
      boxes: of each picture: those of the objects of its label.
      faults: which listed pictures cannot be used, and why; they are in none of the others.
    """

    source: FolderSource
    annotations: dict[str, Annotation]
    boxes: Boxes
    faults: tuple[str, ...] = ()


class _Labeled(NamedTuple):
    """A picture with its label, and the boxes of that class."""

    file_name: str
    annotation: Annotation
    class_name: str
    boxes: list[np.ndarray]


def open_splits(path: Path, names: Sequence[str], *, compare_sizes: bool = False) -> list[VocSplit]:
    """Open some splits. What cannot be used of the annotations is logged.

    Classes are the 20 of VOC in alphabetical order; or, if the annotations have others, those of
    the annotations.

    Args:
      path: the folder of a year.
      names: `train`, `val`, `trainval`, `test`, or any other in `ImageSets/Main`. `validation` is
        `val`, or `test` if there is no `val`.
      compare_sizes: whether to read the pictures' sizes, and refuse the boxes of annotations that
        state another one. The labels do not depend on it.

    Raises:
      UserError: if the folder has another layout, no such split, or a split has no pictures with
        objects; or if a file cannot be read.
    """
    devkit = _Devkit(path)
    refusals = Refusals()
    actual = [devkit.actual(name) for name in names]
    # One split may be asked for twice, also by two names.
    opened = {name: devkit.split(name, compare_sizes, refusals) for name in dict.fromkeys(actual)}
    refusals.end()
    return [opened[name] for name in actual]


def box_of(thing: Object, size: Size) -> np.ndarray:
    """Return an object's box as fractions of its picture, see `box_checks.fractions`.

    Args:
      thing: the object, its first and last pixels counted from 1.
      size: of the picture.

    Raises:
      BadBoxError: if the box cannot be used.
    """
    xmin, ymin, xmax, ymax = thing.edges
    return box_checks.fractions(
        (xmin - 1, ymin - 1, xmax, ymax), *size, written=thing.edges, slack=_SLACK
    )


def fault_of_size(annotation: Annotation, size: Size) -> str:
    """Return what is wrong if an annotation states another size than its picture's, else ""."""
    stated = Size(annotation.height, annotation.width)
    if not stated.width or stated == size:
        return ""
    return (
        f"the boxes are in pixels of another size, {stated.width}x{stated.height}; the "
        f"picture is {size.width}x{size.height}"
    )


def has_split(path: Path, name: str) -> bool:
    """Return whether the folder of a year lists the pictures of a split.

    Raises:
      UserError: if it has no lists.
    """
    lists = listing.entries(path / "ImageSets" / "Main").files
    return any(file == f"{name}.txt" or file.endswith(f"_{name}.txt") for file in lists)


class _Devkit:
    """The folder of a year, listed and parsed once."""

    def __init__(self, path: Path) -> None:
        folders = listing.entries(path).folders
        missing = [
            name for name in ("JPEGImages", "Annotations", "ImageSets") if name not in folders
        ]
        if missing:
            below = [name for name in folders if (path / name / "JPEGImages").is_dir()]
            hint = (
                f"did you mean {path / below[0]}?"
                if below
                else "voc: takes the folder of a year, such as VOCdevkit/VOC2007"
            )
            raise UserError(f"{path} is not a data set of VOC: it has no {missing[0]}; {hint}")
        self.path = path
        self._lists = listing.entries(path / "ImageSets" / "Main").files
        self._pictures = {
            Path(name).stem: name
            for name in listing.entries(path / "JPEGImages").files
            if listing.is_picture(name)
        }
        self._annotations = {
            Path(name).stem: self._parse(path / "Annotations" / name)
            for name in listing.entries(path / "Annotations").files
            if name.endswith(".xml")
        }
        # Of all splits: each has to number the classes alike.
        found = {
            thing.class_name
            for annotation in self._annotations.values()
            if isinstance(annotation, Annotation)
            for thing in annotation.objects
        }
        self.class_names = CLASSES if found <= {*CLASSES} else tuple(sorted(found))

    def split(self, name: str, compare_sizes: bool, refusals: Refusals) -> VocSplit:
        """Open one split."""
        labeled, faults, total = [], [], 0
        for picture in self._members(name):
            total += 1
            try:
                labeled.append(self._labeled(picture, refusals))
            except AnnotationError as error:
                refusals.add(f"{self._file(picture)}", error)
                faults.append(f"{picture}, which cannot be used: {self._file(picture)}: {error}")
        found = {each.file_name: each.annotation for each in labeled}
        labeled = [each for each in labeled if each.boxes]
        if not labeled:
            raise UserError(
                f"{self.path} has no annotated pictures in {name}; JPEGImages and Annotations have "
                "to be those of ImageSets/Main"
            )
        if len(labeled) < total:
            _LOG.info(
                "%s: %d of %d images have no usable object that is not difficult and are left out",
                name,
                total - len(labeled),
                total,
            )
        if compare_sizes:
            labeled = self._of_same_size(labeled, refusals)
        labels = [self.class_names.index(each.class_name) for each in labeled]
        source = FolderSource(
            self.path / "JPEGImages",
            [each.file_name for each in labeled],
            labels,
            self.class_names,
            name,
        )
        return VocSplit(source, found, Boxes.of(each.boxes for each in labeled), tuple(faults))

    def _parse(self, path: Path) -> Annotation | AnnotationError:
        try:
            return annotations.parse(path.read_bytes(), path.stem)
        except OSError as error:
            return AnnotationError(f"cannot be read: {error.strerror}")
        except AnnotationError as error:
            return error

    def _file(self, picture: str) -> Path:
        return self.path / "Annotations" / f"{picture}.xml"

    def actual(self, name: str) -> str:
        """Return the split that a name means."""
        listed = {Path(file).stem for file in self._lists if file.endswith(".txt")}
        known = [each for each in SPLITS if each in listed or self._of_classes(each)]
        others = sorted(each for each in listed if "_" not in each and each not in known)
        if name == "validation" and name not in listed:
            name = "val" if "val" in known else "test"
        if name not in known and name not in listed:
            raise UserError(
                f"{self.path} has no split {name!r}; its splits are {', '.join(known + others)}"
            )
        return name

    def _of_classes(self, split: str) -> list[str]:
        """Return the lists of a split for the classes."""
        names = [f"{class_name}_{split}.txt" for class_name in self.class_names]
        return [name for name in names if name in self._lists]

    def _members(self, split: str) -> list[str]:
        """Return the names of a split's pictures, in the order of its list."""
        whole = f"{split}.txt"
        found: dict[str, None] = {}
        for name in [whole] if whole in self._lists else self._of_classes(split):
            path = self.path / "ImageSets" / "Main" / name
            try:
                text = path.read_text(encoding="utf-8", errors="surrogateescape")
            except OSError as error:
                raise UserError(f"{path} cannot be read: {error.strerror}") from error
            found |= dict.fromkeys(line.split()[0] for line in text.splitlines() if line.strip())
        return [*found]

    def _labeled(self, picture: str, refusals: Refusals) -> _Labeled:
        """Return a picture with its label, or without boxes if no object can be used.

        Raises:
          AnnotationError: if the picture or its annotation cannot be used.
        """
        annotation = self._annotations.get(picture, AnnotationError("there is no such file"))
        if picture not in self._pictures:
            raise AnnotationError(f"there is no picture {picture} in JPEGImages")
        if isinstance(annotation, AnnotationError):
            raise annotation
        file_name = self._pictures[picture]
        size: Size | None = Size(annotation.height, annotation.width)
        if not annotation.width:
            (size,) = box_checks.sizes([self.path / "JPEGImages" / file_name])
        if size is None:
            raise AnnotationError("states no size, and the picture cannot be read")
        boxes: dict[str, list[np.ndarray]] = {}
        largest, label = 0.0, ""
        for thing in annotation.objects:
            if thing.difficult:
                continue
            try:
                box = box_of(thing, size)
            except BadBoxError as error:
                refusals.add(f"{self._file(picture)}, {thing.class_name}", error)
                continue
            boxes.setdefault(thing.class_name, []).append(box)
            width, height = np.subtract(box[2:], box[:2], dtype=np.float64)
            if width * height > largest:
                largest, label = width * height, thing.class_name
        return _Labeled(file_name, annotation, label, boxes.get(label, []))

    def _of_same_size(self, labeled: list[_Labeled], refusals: Refusals) -> list[_Labeled]:
        """Take the boxes from pictures whose size is not the one that the annotation states."""
        paths = [self.path / "JPEGImages" / each.file_name for each in labeled]
        result = []
        for each, size in zip(labeled, box_checks.sizes(paths), strict=True):
            if size is None:
                fault = "the picture cannot be read"
            else:
                fault = fault_of_size(each.annotation, size)
            if fault:
                refusals.add(str(self._file(Path(each.file_name).stem)), fault)
            result.append(each._replace(boxes=[]) if fault else each)
        return result
