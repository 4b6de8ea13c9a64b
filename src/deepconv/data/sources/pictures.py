"""Pictures named on a command line: files, and folders of them.

source = open_pictures([Path("cat.jpg"), Path("holidays")])
source, refused = recognized(source, threads=8)
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deepconv import naming
from deepconv.data import decode
from deepconv.data.sources import listing
from deepconv.data.sources.folder import FolderSource
from deepconv.exceptions import UserError
from deepconv.inference import buckets


def open_pictures(paths: Sequence[Path]) -> FolderSource:
    """Open files as they are named, and the pictures below folders, see `listing`.

    All have the label 0.

    Raises:
      UserError: if a path does not exist, a folder cannot be listed, or there is no picture at all.
    """
    found: list[str] = []
    for path in paths:
        if path.is_dir():
            found += [str(path / name) for name in listing.pictures_below(path).pictures]
        elif path.exists():
            found.append(str(path))
        else:
            raise UserError(f"there is no picture or folder {path}")
    if not found:
        raise UserError(f"there is no picture in {', '.join(map(str, paths)) or 'what was named'}")
    return FolderSource(Path(), found, [0] * len(found))


def recognized(source: FolderSource, threads: int) -> tuple[FolderSource, list[str]]:
    """Set aside the files whose header is no picture's, and pictures that are too long.

    No pixel is decoded; one of the others may still turn out to be damaged, see `set_aside`.

    Args:
      source: the pictures.
      threads: that read.

    Returns:
      The others, and a line about each that was set aside.

    Raises:
      UserError: if none is left; the message is the first line.
    """

    def fault(record: int) -> str | None:
        try:
            height, width = decode.image_size(source[record]["image"])
        except (decode.UnreadableImageError, UserError) as error:
            return f"is no picture that can be read: {error}"
        if max(height, width) > buckets.MAX_ASPECT_RATIO * min(height, width):
            return f"is {width}x{height}, longer than {buckets.MAX_ASPECT_RATIO}:1"
        return None

    with ThreadPoolExecutor(threads) as pool:
        faults = dict(enumerate(pool.map(fault, range(len(source)))))
    others, _, refused = _without(source, faults)
    return others, refused


def set_aside(
    source: FolderSource, suspects: Iterable[int]
) -> tuple[FolderSource, list[int], list[str]]:
    """Set aside those of some pictures that cannot be decoded, and say why.

    Args:
      source: the pictures.
      suspects: numbers of pictures.

    Returns:
      The others, their numbers, and a line about each that was set aside.

    Raises:
      UserError: if none is left; the message is the first line.
    """

    def fault(record: int) -> str | None:
        try:
            decode.decode(source[record]["image"])
        except (decode.UnreadableImageError, UserError) as error:
            return f"is no picture that can be read: {error}"
        return None

    return _without(source, {int(record): fault(int(record)) for record in suspects})


def _without(
    source: FolderSource, faults: Mapping[int, str | None]
) -> tuple[FolderSource, list[int], list[str]]:
    refused = [
        f"{naming.one_line(source.file_names[record])} {fault}"
        for record, fault in faults.items()
        if fault
    ]
    kept = [record for record in range(len(source)) if not faults.get(record)]
    if not kept:
        raise UserError(refused[0])
    names = [source.file_names[record] for record in kept]
    return FolderSource(source.folder, names, [0] * len(names)), kept, refused
