"""Read PyTorch's `.pth` files without PyTorch and without executing anything in them.

    tensors = read(Path("vgg16-397923af.pth"))  # {"features.0.weight": float32 [64, 3, 3, 3], ...}
    state = load(Path("checkpoint.pth"))
    state.tensors, state.skipped  # the network's, and ("epoch", "args (argparse.Namespace)")

Reads both of PyTorch's formats: the zip archive (since 1.6), and the older sequence of pickles, in
which torchvision's AlexNet and VGG are published. A pickle is a program; this unpickler knows three
functions and the names of storages, all implemented here. Whatever else a pickle names becomes an
inert object that does nothing, and is skipped.
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

from deepconv.exceptions import UserError, first_line

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
# Where checkpoints keep the state dict, if several dicts hold tensors.
_CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model")
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


class StateDict(NamedTuple):
    """The state dict in a file.

    Attributes:
      tensors: its tensors by name, in the dtypes in which they were saved.
      skipped: what else the file holds, by name, with the class of what was not executed.
    """

    tensors: dict[str, np.ndarray]
    skipped: tuple[str, ...]


class _Refused(pickle.UnpicklingError):
    """The pickle refers to something other than a tensor."""


class _Inert:
    """Stands for a class or a function that a pickle names, and for whatever comes of it.

    A pickle can call it, and fill the result like a list, a dict or an object; nothing happens.
    """

    __slots__ = ()
    path = ""

    def __new__(cls, *_: Any, **__: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __call__(self, *_: Any, **__: Any) -> "_Inert":
        return self

    def __setitem__(self, *_: Any) -> None: ...

    def __setstate__(self, *_: Any) -> None: ...

    append = extend = add = __setstate__


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
        if (module, name) in _ADMITTED:
            return _ADMITTED[module, name]
        # A class of its own, because some opcodes take nothing but a class.
        return type("Inert", (_Inert,), {"__slots__": (), "path": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> _Storage:
        kind, name, key, _, _, *view = pid
        if kind != "storage" or name not in _DTYPES or any(view):
            raise _Refused("it refers to something other than a storage of numbers")
        return _Storage(str(key), np.dtype(_DTYPES[name]))


def read(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of a state dict; see `load`.

    Raises:
      UserError: see `load`.
    """
    return load(path).tensors


def load(path: Path) -> StateDict:
    """Read a state dict, or the one that a checkpoint holds, and nothing else of it.

    In a checkpoint, the state dict is the only dict of tensors, or the one with the name
    "state_dict", "model_state_dict" or "model".

    Args:
      path: path of the file.

    Raises:
      UserError: if the file is truncated or damaged, or has no state dict, or several.
    """
    try:
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                return _read_archive(file)
            file.seek(0)
            return _read_pickles(file)
    except OSError:
        raise
    except UserError as error:
        raise UserError(f"{path} {error}") from None
    except _Refused as error:
        raise UserError(f"{path} was refused: {error}") from None
    except Exception as error:  # unpickling damaged bytes raises anything
        raise UserError(
            f"{path} is damaged, truncated, or not a PyTorch file: {first_line(error)}"
        ) from None


def _chosen(saved: Any) -> tuple[dict[str, _Tensor], tuple[str, ...]]:
    """Return the tensors of the state dict in what was saved, and what else there is."""
    skipped: list[str] = []
    while True:
        if not (isinstance(saved, dict) and saved):
            raise _refusal(saved) or UserError("does not contain a PyTorch state dict")
        tensors = {str(name): item for name, item in saved.items() if isinstance(item, _Tensor)}
        inside = None if tensors else _inside(saved)
        skipped += [
            _named(name, item)
            for name, item in saved.items()
            if name != inside and not isinstance(item, _Tensor)
        ]
        if inside is None:
            break
        saved = saved[inside]
    if not tensors:
        name, item = next(iter(saved.items()))
        refusals = filter(None, map(_refusal, saved.values()))
        raise next(refusals, UserError(f"{name} is a {type(item).__name__}, not a tensor"))
    return tensors, tuple(skipped)


def _inside(saved: Mapping[Any, Any]) -> Any:
    """Return the key of the dict within a checkpoint that is or holds its state dict, or None."""
    dicts = [name for name, item in saved.items() if isinstance(item, dict)]
    of_tensors = [
        name for name in dicts if any(isinstance(item, _Tensor) for item in saved[name].values())
    ]
    for names in (of_tensors, [name for name in of_tensors or dicts if name in _CHECKPOINT_KEYS]):
        if len(names) == 1:
            return names[0]
    if of_tensors:
        listed = ", ".join(map(str, of_tensors))
        raise UserError(f"has several state dicts, {listed}: save one of them alone")
    return None


def _refusal(item: Any) -> _Refused | None:
    """Return the reason why an object that is no tensor cannot be used, if it is inert."""
    kind = item if isinstance(item, type) else type(item)
    if not issubclass(kind, _Inert):
        return None
    return _Refused(
        f"it refers to {kind.path}, which is not executed; save the state_dict() of the model alone"
    )


def _named(name: Any, item: Any) -> str:
    kind = item if isinstance(item, type) else type(item)
    return f"{name} ({kind.path})" if issubclass(kind, _Inert) else str(name)


def _read_archive(file: BinaryIO) -> StateDict:
    with zipfile.ZipFile(file) as archive:
        (root,) = (name[: -len("data.pkl")] for name in archive.namelist() if "/data.pkl" in name)
        if f"{root}byteorder" in archive.namelist():
            order = archive.read(f"{root}byteorder").decode()
            if order != "little":
                raise ValueError(f"it is {order}-endian")
        with archive.open(f"{root}data.pkl") as data:
            tensors, skipped = _chosen(_Unpickler(data).load())
        # An optimizer's tensors, which a checkpoint may have too, are not read.
        needed = {tensor.storage.key for tensor in tensors.values()}
        storages = {key: archive.read(f"{root}data/{key}") for key in needed}
    return StateDict(_resolved(tensors, storages), skipped)


def _read_pickles(file: BinaryIO) -> StateDict:
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
    tensors, skipped = _chosen(Remembering(file).load())
    keys = _Unpickler(file).load()
    storages = {}
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        storages[key] = file.read(count * dtypes[key].itemsize)
    return StateDict(_resolved(tensors, storages), skipped)


def _resolved(
    tensors: Mapping[str, _Tensor], storages: Mapping[str, bytes]
) -> dict[str, np.ndarray]:
    return {name: _resolve(name, tensor, storages) for name, tensor in tensors.items()}


def _resolve(name: str, tensor: _Tensor, storages: Mapping[str, bytes]) -> np.ndarray:
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
