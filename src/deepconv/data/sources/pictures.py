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
    """Open the named files, and the pictures below the named folders (see `listing`).

    All have label 0.

    Raises:
      UserError: if a path does not exist, a folder cannot be listed, or there are no pictures.
    """
    found: list[str] = []
    for path in paths:
        if path.is_dir():
            found += [str(path / name) for name in listing.pictures_below(path).pictures]
        elif path.exists():
            found.append(str(path))
        else:
            raise UserError(f"no such picture or folder: {path}")
    if not found:
        raise UserError(f"no pictures in {', '.join(map(str, paths)) or 'the arguments'}")
    return FolderSource(Path(), found, [0] * len(found))


def recognized(source: FolderSource, threads: int) -> tuple[FolderSource, list[str]]:
    """Exclude files whose header is not that of a picture, and too elongated pictures.

    No pixels are decoded; one of the rest may still turn out to be damaged, see `set_aside`.

    Args:
      source: the pictures.
      threads: number of reading threads.

    Returns:
      The remaining pictures, and a message for each excluded one.

    Raises:
      UserError: if none remain, with the first message.
    """

    def fault(record: int) -> str | None:
        try:
            height, width = decode.image_size(source[record]["image"])
        except (decode.UnreadableImageError, UserError) as error:
            return f"cannot be read as a picture: {error}"
        if max(height, width) > buckets.MAX_ASPECT_RATIO * min(height, width):
            return (
                f"is {width}x{height}; the aspect ratio may be at most {buckets.MAX_ASPECT_RATIO}:1"
            )
        return None

    with ThreadPoolExecutor(threads) as pool:
        faults = dict(enumerate(pool.map(fault, range(len(source)))))
    others, _, refused = _without(source, faults)
    return others, refused


def set_aside(
    source: FolderSource, suspects: Iterable[int]
) -> tuple[FolderSource, list[int], list[str]]:
    """Exclude the suspected pictures that cannot be decoded.

    Args:
      source: the pictures.
      suspects: numbers of the pictures to try.

    Returns:
      The remaining pictures, their numbers, and a message for each excluded one.

    Raises:
      UserError: if none remain, with the first message.
    """

    def fault(record: int) -> str | None:
        try:
            decode.decode(source[record]["image"])
        except (decode.UnreadableImageError, UserError) as error:
            return f"cannot be read as a picture: {error}"
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
