"""Files that are written completely or not at all, with the permissions given by the umask.

write(path, b"...")
with replacing(path) as file:
    np.savez(file, x=x)
write_json(path, {"x": x})
"""

import contextlib
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that replaces `path` when it is complete and on disk.

    After an error, `path` is unchanged and no temporary file is left. If several processes write
    the same file at once, the last one wins.

    Raises:
      OSError: if it cannot be written; the error names `path`.
    """
    # Not derived from the file's name, which may be as long as the file system allows.
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            # Without this, a power failure could leave the new name on an empty file.
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        if error.filename in (None, str(partial)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        partial.unlink(missing_ok=True)


def write(path: Path, content: bytes) -> None:
    """Write a file, creating its folder if necessary.

    Raises:
      OSError: if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(content)


def write_json(path: Path, value: Any) -> None:
    """Write a value as a JSON file, atomically.

    Raises:
      TypeError: if JSON cannot represent the value; the file is then unchanged.
    """
    write(path, (to_json(value, indent=2) + "\n").encode())


def to_json(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON text: arrays as lists, NaN and infinity as null.

    Raises:
      TypeError: if JSON cannot represent the value.
    """
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # The arrays and scalars of NumPy and JAX.
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
