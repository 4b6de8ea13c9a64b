"""Caltech-101 and Caltech-256 from the folders of their published archives.

    source = open_caltech("caltech101", "/data/caltech")  # which holds 101_ObjectCategories

Neither comes with splits: see `transfer.splits`.
"""

import os
from pathlib import Path
from typing import NamedTuple

from deepconv.data.sources import folder, listing
from deepconv.data.sources.folder import FolderSource
from deepconv.exceptions import UserError


class _Published(NamedTuple):
    title: str
    folder: str
    classes: int  # with the background
    background: str


_PUBLISHED = {
    "caltech101": _Published("Caltech-101", "101_ObjectCategories", 102, "BACKGROUND_Google"),
    "caltech256": _Published("Caltech-256", "256_ObjectCategories", 257, "257.clutter"),
}
NAMES = tuple(_PUBLISHED)


def open_caltech(
    name: str, path: str | os.PathLike[str], *, background: bool = True
) -> FolderSource:
    """Open all pictures of Caltech-101 or Caltech-256.

    The papers disagree whether the background (BACKGROUND_Google, 257.clutter) is a class. VGG's
    counts 102 and 257 classes (appendix B), so with it; others leave it out.

    Args:
      name: "caltech101" or "caltech256".
      path: of the folder 101_ObjectCategories or 256_ObjectCategories, or of one that holds it.
      background: whether the background is a class.

    Raises:
      UserError: if the name is unknown, the folder is another one or cannot be read, or a class is
        missing or one too many.
    """
    if name not in _PUBLISHED:
        raise UserError(f"unknown data set {name!r}; one of {', '.join(NAMES)}")
    published = _PUBLISHED[name]
    pictures = folder.open_split(_folder(published, Path(path).expanduser()), folder.ALL)
    found = pictures.class_names
    has_background = published.background in found
    if background and not has_background:
        raise UserError(
            f"{pictures.folder} has no class {published.background}, with which {published.title} "
            f"has {published.classes} classes; without it, the figures are not the paper's"
        )
    if len(found) != (expected := published.classes - (not has_background)):
        raise UserError(
            f"{pictures.folder} has {len(found)} class folders, but {published.title} has "
            f"{expected}; open another data set as a plain folder"
        )
    if background or not has_background:
        return pictures
    return _without(pictures, published.background)


def _folder(published: _Published, path: Path) -> Path:
    """Return the folder of the class folders."""
    inside = listing.entries(path).folders
    if published.folder in inside:
        return path / published.folder
    if path.name == published.folder or published.background in inside:
        return path
    raise UserError(
        f"{path} is not {published.title}: there is no {published.folder} in it; unpack the "
        "published archive there"
    )


def _without(pictures: FolderSource, class_name: str) -> FolderSource:
    """Leave out a class; those behind it move up a number."""
    left_out = pictures.class_names.index(class_name)
    kept = [
        (file_name, label - (label > left_out))
        for file_name, label in zip(pictures.file_names, pictures.labels, strict=True)
        if label != left_out
    ]
    return FolderSource(
        pictures.folder,
        [file_name for file_name, _ in kept],
        [label for _, label in kept],
        tuple(name for name in pictures.class_names if name != class_name),
        f"{pictures.split} (without {class_name})",
    )
