"""Which files of a folder are pictures: one rule for training, evaluation and prediction.

    found = pictures_below(Path("flowers/daisy"))
    found.pictures  # ["0001.jpg", "more/0002.PNG"]

Pictures may be at any depth. Their names end in one of EXTENSIONS, in upper or lower case. Ignored
are files and folders whose names begin with a dot, and folders that operating systems create.
Symbolic links are followed, except to a folder that contains the link. Names are sorted by their
bytes, independent of the locale and the file system.
"""

import os
from pathlib import Path
from typing import NamedTuple

from deepconv.exceptions import UserError

# The extensions of the formats that `decode` reads.
EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".avifs"),
    *(".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    *(".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
)

# Created in archives by macOS, and by Synology's servers for thumbnails.
_SYSTEM_FOLDERS = {"__MACOSX", "@eaDir"}


class Entries(NamedTuple):
    """The sorted names of a folder's direct entries.

    Attributes:
      folders: folders, and links to folders.
      files: files, and links to files.
    """

    folders: list[str]
    files: list[str]


class Found(NamedTuple):
    """The files below a folder.

    Attributes:
      pictures: paths relative to the folder, with `/`, sorted.
      others: number of files that are not pictures.
    """

    pictures: list[str]
    others: int


def is_picture(name: str) -> bool:
    """Return whether a file's name is that of a picture."""
    return not _is_hidden(name) and name.lower().endswith(EXTENSIONS)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def entries(folder: Path) -> Entries:
    """List a folder's direct entries that are not hidden, following links.

    Raises:
      UserError: if the folder cannot be listed.
    """
    folders, files = [], []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if _is_hidden(entry.name):
                    continue
                # An entry's own methods save a system call, but raise for a link to itself.
                is_link = entry.is_symlink()
                if os.path.isdir(entry) if is_link else entry.is_dir():
                    folders.append(entry.name)
                elif os.path.isfile(entry) if is_link else entry.is_file():
                    files.append(entry.name)
    except OSError as error:
        raise UserError(f"{folder} cannot be listed: {error.strerror}") from error
    return Entries(sorted(folders, key=os.fsencode), sorted(files, key=os.fsencode))


def pictures_below(folder: Path) -> Found:
    """List the pictures at any depth below a folder.

    Raises:
      UserError: if the folder, or one below it, cannot be listed.
    """
    pictures: list[str] = []
    others = 0
    # Folders still to be listed: their path relative to `folder`, and the folders they are in.
    waiting = [("", _identities(folder))]
    while waiting:
        inside, above = waiting.pop()
        found = entries(folder / inside)
        for name in found.files:
            if is_picture(name):
                pictures.append(f"{inside}{name}")
            else:
                others += 1
        for name in found.folders:
            identity = _identity(folder / inside / name)
            if identity not in above:
                waiting.append((f"{inside}{name}/", above | {identity}))
    return Found(sorted(pictures, key=os.fsencode), others)


def _identities(folder: Path) -> frozenset[tuple[int, int]]:
    """Identify a folder and all its parents, by the given path and by the real one."""
    paths = {Path(os.path.abspath(folder)), Path(os.path.realpath(folder))}
    return frozenset(_identity(each) for path in paths for each in (path, *path.parents))


def _identity(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError as error:
        raise UserError(f"{folder} cannot be listed: {error.strerror}") from error
    return status.st_dev, status.st_ino
