"""A network in one safetensors file: tensors by name, and a JSON description as metadata.

    write(Path("vgg16.safetensors"), {"conv1_1/kernel": array, ...}, about)
    tensors, about = read(Path("vgg16.safetensors"))

A safetensors file is a header and plain numbers: nothing in it can be executed.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from deepconv import atomic
from deepconv.exceptions import UserError
from deepconv.run.checksums import checksums

# Key of our JSON description in the file's metadata, whose values are strings.
_ABOUT = "deepconv"


def write_tensors(
    path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file, atomically.

    Raises:
      UserError: if it cannot be written.
    """
    # The library writes the raw memory and ignores strides.
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    try:
        with atomic.replacing(path) as file:
            file.write(safetensors.numpy.save(whole, dict(metadata)))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read a safetensors file: its tensors and its metadata.

    Raises:
      UserError: if it is not a safetensors file, or is damaged.
    """
    try:
        with safetensors.safe_open(path, "numpy") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except FileNotFoundError:
        raise UserError(f"no such file: {path}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (safetensors.SafetensorError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged, or not a safetensors file: {error}") from None


def write(path: Path, tensors: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write a weights file.

    Args:
      path: path of the file, in an existing folder.
      tensors: `{"conv1_1/kernel": float32 [K, K, C, F], ...}`.
      about: the description, in JSON values.

    Raises:
      UserError: if it cannot be written.
    """
    write_tensors(path, tensors, {_ABOUT: json.dumps(with_checksums(tensors, about))})


def named(
    params: Mapping[str, Mapping[str, np.ndarray]], mean_image: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Return the tensors of a weights file by name.

    Args:
      params: `{layer: {"kernel": ..., "bias": ...}}`.
      mean_image: float32 `[S, S, 3]`, or None.
    """
    tensors = {
        f"{layer}/{part}": array for layer, parts in params.items() for part, array in parts.items()
    }
    return tensors if mean_image is None else {**tensors, "mean_image": mean_image}


def with_checksums(tensors: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return a weights file's description: `about`, and the tensors' checksums."""
    return {**about, "crc32": checksums(dict(tensors))}


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a file written by `write`.

    Raises:
      UserError: if it is another kind of file, or is damaged.
    """
    tensors, metadata = read_tensors(path)
    if _ABOUT not in metadata:
        raise UserError(
            f"{path} is not a deepconv weights file; convert it with deepconv weights import "
            f"{path} OUT"
        )
    try:
        about = json.loads(metadata[_ABOUT])
        expected = dict(about["crc32"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged: its description cannot be read") from None
    found = checksums(tensors)
    if wrong := [name for name, value in expected.items() if found.get(name) != value]:
        raise UserError(f"{path} is damaged: the checksum of {wrong[0]} is wrong")
    return tensors, about


def digest(about: Mapping[str, Any]) -> str:
    """Return a short hash of a file's contents, from the description that `read` returned."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]


def is_one(path: Path) -> bool:
    """Return whether a file begins like a safetensors file: the header's length, then its JSON."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and struct.unpack("<Q", start[:8])[0] < 2**30


def is_ours(path: Path) -> bool:
    """Return whether `write` wrote a file, by its header; True if the header is damaged."""
    if not is_one(path):
        return False
    try:
        with safetensors.safe_open(path, "numpy") as file:
            return _ABOUT in (file.metadata() or {})
    except (OSError, safetensors.SafetensorError):
        return True
