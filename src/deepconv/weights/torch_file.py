"""Read PyTorch's `.pth` files without PyTorch and without executing anything in them.

    tensors = read(Path("vgg16-397923af.pth"))  # {"features.0.weight": float32 [64, 3, 3, 3], ...}

Reads both of PyTorch's formats: the zip archive (since 1.6), and the older sequence of pickles, in
which torchvision's AlexNet and VGG are published. A pickle is a program; this unpickler knows three
functions and the names of storages, all implemented here, and refuses every other name.
"""

import collections
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from deepconv.exceptions import UserError

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_DTYPES: dict[str, Any] = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype


class _Tensor(NamedTuple):
    """A view of a storage; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Refused(pickle.UnpicklingError):
    """The pickle refers to something other than a tensor."""


# Instances with empty slots, not functions: a pickle may try to set attributes on what it names.
class _RebuildTensor:
    __slots__ = ()

    def __call__(
        self,
        storage: _Storage,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        *_: Any,
    ) -> _Tensor:
        return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _RebuildParameter:
    __slots__ = ()

    def __call__(self, tensor: _Tensor, *_: Any) -> _Tensor:
        return tensor


_ADMITTED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _RebuildTensor(),
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
    **{("torch", name): name for name in _DTYPES},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise _Refused(f"it refers to {module}.{name}, which is not executed") from None

    def persistent_load(self, pid: Any) -> _Storage:
        kind, name, key, _, _, *view = pid
        if kind != "storage" or name not in _DTYPES or any(view):
            raise _Refused("it refers to something other than a storage of numbers")
        return _Storage(str(key), np.dtype(_DTYPES[name]))


def read(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of a state dict, in the dtypes in which they were saved.

    A checkpoint with its state dict under "state_dict" is accepted, and DataParallel's prefix
    "module." is removed from names.

    Args:
      path: path of the file.

    Raises:
      UserError: if it is truncated or damaged, refers to anything but tensors, or has no state
        dict.
    """
    try:
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                state, storages = _read_archive(file)
            else:
                file.seek(0)
                state, storages = _read_pickles(file)
        if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
            state = state["state_dict"]
        if not (isinstance(state, dict) and state):
            raise UserError(f"{path} does not contain a PyTorch state dict")
        return {
            str(name).removeprefix("module."): _resolve(str(name), tensor, storages)
            for name, tensor in state.items()
        }
    except (UserError, OSError):
        raise
    except _Refused as error:
        raise UserError(f"{path} was refused: {error}") from None
    except Exception as error:  # unpickling damaged bytes raises anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is damaged, truncated, or not a PyTorch file: {reason}") from None


def _read_archive(file: BinaryIO) -> tuple[Any, dict[str, bytes]]:
    with zipfile.ZipFile(file) as archive:
        (root,) = (name[: -len("data.pkl")] for name in archive.namelist() if "/data.pkl" in name)
        if f"{root}byteorder" in archive.namelist():
            order = archive.read(f"{root}byteorder").decode()
            if order != "little":
                raise ValueError(f"it is {order}-endian")
        with archive.open(f"{root}data.pkl") as data:
            state = _Unpickler(data).load()
        prefix = f"{root}data/"
        storages = {
            name.removeprefix(prefix): archive.read(name)
            for name in archive.namelist()
            if name.startswith(prefix)
        }
    return state, storages


def _read_pickles(file: BinaryIO) -> tuple[Any, dict[str, bytes]]:
    """Read the older format: header, state dict, the storages' keys, then the storages' bytes."""
    dtypes: dict[str, np.dtype] = {}

    class Remembering(_Unpickler):
        def persistent_load(self, pid: Any) -> _Storage:
            storage = super().persistent_load(pid)
            dtypes[storage.key] = storage.dtype
            return storage

    if _Unpickler(file).load() != _MAGIC or _Unpickler(file).load() != _PROTOCOL:
        raise ValueError("the header is wrong")
    if not _Unpickler(file).load().get("little_endian", True):
        raise ValueError("it is big-endian")
    state = Remembering(file).load()
    keys = _Unpickler(file).load()
    storages = {}
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        storages[key] = file.read(count * dtypes[key].itemsize)
    return state, storages


def _resolve(name: str, tensor: Any, storages: Mapping[str, bytes]) -> np.ndarray:
    if not isinstance(tensor, _Tensor):
        raise UserError(f"{name} is a {type(tensor).__name__}, not a tensor")
    numbers = np.frombuffer(storages[tensor.storage.key], tensor.storage.dtype)
    reach = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    if tensor.offset < 0 or min(tensor.strides, default=0) < 0 or 0 in tensor.shape:
        raise ValueError(f"{name} is not a valid view of its storage")
    if tensor.offset + reach >= len(numbers):
        raise ValueError(f"data of {name} is missing")
    strides = tuple(stride * numbers.itemsize for stride in tensor.strides)
    return np.lib.stride_tricks.as_strided(
        numbers[tensor.offset :], tensor.shape, strides, writeable=False
    )
