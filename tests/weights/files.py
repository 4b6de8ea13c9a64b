"""Files as Caffe, Keras, MatConvNet and PyTorch write them, without any of these.

The first three from {name: (weight [O, I, ...], bias)}.
"""

import collections
import io
import pickle
import struct
import sys
import types
import zipfile
from unittest import mock

import h5py
import numpy as np
import scipy.io

KERAS_HEAD = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}


def _varint(number):
    parts = []
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def _field(number, value):
    """Write a field of a protocol buffer: an int, or bytes."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _blob(array, *, legacy):
    array = np.asarray(array, np.float32)
    data = _field(5, struct.pack(f"<{array.size}f", *array.ravel().tolist()))
    if legacy:  # num, channels, height, width
        shape = (1,) * (4 - array.ndim) + array.shape
        return data + b"".join(_field(i, n) for i, n in enumerate(shape, start=1))
    return _field(7, _field(1, b"".join(map(_varint, array.shape)))) + data


def caffemodel(tensors, *, legacy, bottoms=None):
    """Return a NetParameter: LayerParameters, or V1LayerParameters where `legacy`."""
    layers = []
    for name, parts in {"norm1": (), **tensors}.items():
        connected = name.startswith("fc")
        bottom = (bottoms or {}).get(name, "data").encode()
        if legacy:
            kind = {"n": 15}.get(name[0], 14 if connected else 4)
            layer = _field(2, bottom) + _field(4, name.encode()) + _field(5, kind)
        else:
            kind = b"InnerProduct" if connected else b"Convolution"
            layer = _field(1, name.encode()) + _field(2, kind) + _field(3, bottom)
        for part in parts:
            layer += _field(6 if legacy else 7, _blob(part, legacy=legacy))
        layers.append(_field(2 if legacy else 100, layer))
    return _field(1, b"net") + b"".join(layers)


def binaryproto(image):
    """Return a BlobProto of a mean image [S, S, 3] RGB, which it holds as BGR."""
    return _blob(image[:, :, ::-1].transpose(2, 0, 1)[None], legacy=True)


def keras(path, tensors, *, version=2, channels_first=False, backend="", side=2):
    """Write a file as `save_weights` of Keras 1 or 2 does; Theano's kernels are turned."""
    with h5py.File(path, "w") as file:
        names = []
        for ours, (weight, bias) in tensors.items():
            name = KERAS_HEAD.get(ours, ours.replace("conv", "block").replace("_", "_conv"))
            names.append(name.encode())
            if ours.startswith("fc"):
                if ours == "fc6" and not channels_first:
                    weight = weight.reshape(len(weight), -1, side, side).transpose(0, 2, 3, 1)
                    weight = weight.reshape(len(weight), -1)
                kernel = weight.T
            else:
                kernel = weight[:, :, ::-1, ::-1] if backend == "theano" else weight
                kernel = kernel if channels_first else kernel.transpose(2, 3, 1, 0)
            labels = {
                1: (f"{name}_W_1:0", f"{name}_b_1:0"),
                2: (f"{name}/kernel:0", f"{name}/bias:0"),
            }[version]
            group = file.create_group(name)
            group.attrs["weight_names"] = [label.encode() for label in labels]
            for label, array in zip(labels, (kernel, bias), strict=True):
                group[label] = array
        pooling = file.create_group("block1_pool")
        pooling.attrs["weight_names"] = np.zeros(0)
        file.attrs["layer_names"] = [*names, b"block1_pool"]
        if backend:
            file.attrs["backend"] = backend.encode()


def matconvnet(path, tensors, *, mean, classes=None, side=2, old=False):
    """Write a SimpleNN; RGB, fully connected layers as convolutions [H, W, I, O]."""
    layers = []
    for name, (weight, bias) in tensors.items():
        if weight.ndim == 2:
            size = side if name == "fc6" else 1
            weight = weight.reshape(len(weight), -1, size, size)
        pair = (weight.transpose(2, 3, 1, 0), bias[None])
        if old:
            weights = {"filters": pair[0], "biases": pair[1]}
        else:
            cell = np.empty((1, 2), object)
            cell[0, 0], cell[0, 1] = pair
            weights = {"weights": cell}
        layers.append({"name": name, "type": "conv", **weights})
        layers.append({"name": name.replace("conv", "relu"), "type": "relu"})
    cells = np.empty((1, len(layers)), object)
    cells[0] = layers
    about = {"normalization": {"averageImage": mean}}
    if classes:
        about["classes"] = {"description": np.array([classes], object)}
    scipy.io.savemat(path, {"layers": cells, **(about if old else {"meta": about})})


def torchvision(tensors, blocks, *, normalization=None, timm=False):
    """Return a state dict of VGG under torchvision's or timm's names.

    Args:
      tensors: {our name: (weight, bias)}.
      blocks: convolutions of each block.
      normalization: {our name: (weight, bias, running mean, running variance)}.
      timm: whether the hidden layers are convolutions.
    """
    state, number = {}, 0
    for block, count in enumerate(blocks, start=1):
        for index in range(1, count + 1):
            name = f"conv{block}_{index}"
            _add(state, f"features.{number}", tensors[name])
            number += 2
            if normalization:
                parts = zip(NORMALIZATION, normalization[name], strict=True)
                state |= {f"features.{number - 1}.{part}": array for part, array in parts}
                state[f"features.{number - 1}.num_batches_tracked"] = np.array(7, np.int64)
                number += 1
        number += 1
    heads = {
        False: ("classifier.0", "classifier.3", "classifier.6"),
        True: ("pre_logits.fc1", "pre_logits.fc2", "head.fc"),
    }[timm]
    channels = len(tensors[f"conv{len(blocks)}_1"][1])
    for there, ours in zip(heads, ("fc6", "fc7", "fc8"), strict=True):
        weight, bias = tensors[ours]
        if timm and ours != "fc8":
            inputs = channels if ours == "fc6" else weight.shape[1]
            side = int((weight.shape[1] // inputs) ** 0.5)
            weight = weight.reshape(len(weight), inputs, side, side)
        _add(state, there, (weight, bias))
    return state


NORMALIZATION = ("weight", "bias", "running_mean", "running_var")


def _add(state, name, layer):
    state[f"{name}.weight"], state[f"{name}.bias"] = layer


class _Storage:
    def __init__(self, key, array):
        self.key, self.array = key, array


def torch_archive(path, saved):
    """Write what `torch.save` would of a structure, with arrays in the place of tensors."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch._utils = utils
    kinds = {"float32": "FloatStorage", "float64": "DoubleStorage", "int64": "LongStorage"}
    for name in kinds.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*_): ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = (
        "torch._utils",
        "_rebuild_tensor_v2",
    )
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    storages = []

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            if not isinstance(item, _Storage):
                return None
            kind = getattr(torch, kinds[item.array.dtype.name])
            return ("storage", kind, item.key, "cpu", item.array.size)

        def reducer_override(self, item):
            if not isinstance(item, np.ndarray):
                return NotImplemented
            array = np.ascontiguousarray(item).reshape(item.shape)
            storages.append(_Storage(str(len(storages)), array))
            strides = tuple(stride // array.itemsize for stride in array.strides)
            view = (storages[-1], 0, array.shape, strides, False, collections.OrderedDict())
            return _rebuild_tensor_v2, view

    buffer = io.BytesIO()
    with mock.patch.dict(sys.modules, {"torch": torch, "torch._utils": utils}):
        Pickler(buffer, protocol=2).dump(saved)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("net/data.pkl", buffer.getvalue())
        file.writestr("net/byteorder", "little")
        for storage in storages:
            file.writestr(f"net/data/{storage.key}", storage.array.tobytes())
