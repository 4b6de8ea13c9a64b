"""Pictures named on a command line: files, and folders of them.

source = open_pictures([Path("cat.jpg"), Path("holidays")])
source, refused = readable(source, threads=8)
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deepconv.data import canvases, decode
from deepconv.data.folder import EXTENSIONS, FolderSource
from deepconv.user_error import UserError


def open_pictures(paths: Sequence[Path]) -> FolderSource:
    """Open files as they are named, and the .jpg, .jpeg and .png files anywhere below folders.

    All have the label 0.

    Raises:
      UserError: if a path does not exist, or there is no picture at all.
    """
    found: list[str] = []
    for path in paths:
        if path.is_dir():
            below = sorted(path.rglob("*"))
            found += [str(file) for file in below if file.suffix.lower() in EXTENSIONS]
        elif path.exists():
            found.append(str(path))
        else:
            raise UserError(f"there is no picture or folder {path}")
    if not found:
        raise UserError(f"there is no picture in {', '.join(map(str, paths)) or 'what was named'}")
    return FolderSource(Path(), found, [0] * len(found))


def readable(source: FolderSource, threads: int) -> tuple[FolderSource, list[str]]:
    """Decode every picture once, and set aside those that cannot be decoded or are too long.

    Args:
      source: the pictures.
      threads: that decode.

    Returns:
      The others, and a line about each that was set aside.

    Raises:
      UserError: if none is left; the message is the first line.
    """

    def fault(record: int) -> str | None:
        name = source.file_names[record]
        try:
            image = decode.decode(source[record]["image"])
        except (decode.UnreadableImageError, UserError) as error:
            return f"{name} is no picture that can be read: {error}"
        longer, shorter = max(image.size), min(image.size)
        if longer > canvases.MAX_ASPECT_RATIO * shorter:
            return (
                f"{name} is {image.width}x{image.height}, longer than {canvases.MAX_ASPECT_RATIO}:1"
            )
        return None

    with ThreadPoolExecutor(threads) as pool:
        faults = list(pool.map(fault, range(len(source))))
    refused = [line for line in faults if line]
    kept = [name for name, line in zip(source.file_names, faults, strict=True) if not line]
    if not kept:
        raise UserError(refused[0])
    return FolderSource(source.folder, kept, [0] * len(kept)), refused
