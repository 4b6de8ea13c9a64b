"""Files as Caffe, Keras and MatConvNet write them, from {name: (weight [O, I, ...], bias)}."""

import struct

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
