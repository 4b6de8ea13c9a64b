"""Annotations of pictures in XML: which objects there are, and where; of VOC and of ImageNet.

    annotation = parse(path.read_bytes(), "000011")
    annotation.objects[0]  # Object(class_name="car", edges=(...), difficult=False)

Such files are downloaded, so documents that define entities are refused: a few lines of them can
expand to gigabytes.
"""

import contextlib
import math
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException, ElementTree

# A hundred times more than the longest of ImageNet's and VOC's.
MAX_BYTES = 1_000_000


class AnnotationError(Exception):
    """The file cannot be used; the message says why."""


class Object(NamedTuple):
    """An object in a picture.

    Attributes:
      class_name: its class.
      edges: (xmin, ymin, xmax, ymax) as in the file, NaN for what is no number there.
      difficult: whether it is marked as hard to recognize; VOC's evaluation ignores such objects.
    """

    class_name: str
    edges: tuple[float, float, float, float]
    difficult: bool


class Annotation(NamedTuple):
    """What is known of a picture.

    Attributes:
      height: height of the picture in whose pixels the edges are; 0 if it is not stated.
      width: its width, likewise.
      objects: all objects, in the order of the file.
    """

    height: int
    width: int
    objects: tuple[Object, ...]


def parse(data: bytes, picture: str) -> Annotation:
    """Parse an annotation.

    Args:
      data: the contents of the file.
      picture: name of the picture that it is to be of, without extension.

    Raises:
      AnnotationError: if it is cut short, defines entities, is no annotation, or is of another
        picture.
    """
    if len(data) > MAX_BYTES:
        raise AnnotationError(f"has {len(data):,} bytes; an annotation has {MAX_BYTES:,} at most")
    try:
        root = ElementTree.fromstring(data, forbid_dtd=True)
    except DefusedXmlException:
        raise AnnotationError("defines a document type or entities, which is refused") from None
    except (ParseError, ValueError, LookupError) as error:
        raise AnnotationError(f"is cut short or not XML: {error}") from None
    if root.tag != "annotation":
        raise AnnotationError(f"is not an annotation: it contains <{root.tag}>")
    named = PurePosixPath(_text(root, "filename"))
    # Many of ImageNet's files have the placeholder %s in place of the name.
    if named.name not in ("", "%s") and picture not in (named.name, named.stem):
        raise AnnotationError(f"is of another picture, {named.name}")
    height, width = (_number(root, f"size/{name}") for name in ("height", "width"))
    if not (height >= 1 and width >= 1 and math.isfinite(height * width)):
        height = width = 0
    objects = tuple(map(_object, root.findall("object")))
    return Annotation(int(height), int(width), objects)


def _object(element: Any) -> Object:
    xmin, ymin, xmax, ymax = (
        _number(element, f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax")
    )
    difficult = _text(element, "difficult") not in ("", "0")
    return Object(_text(element, "name"), (xmin, ymin, xmax, ymax), difficult)


def _text(element: Any, path: str) -> str:
    # Only direct children: the parts of a person have names and boxes too.
    return (element.findtext(path) or "").strip()


def _number(element: Any, path: str) -> float:
    with contextlib.suppress(ValueError):
        return float(_text(element, path))
    return math.nan
