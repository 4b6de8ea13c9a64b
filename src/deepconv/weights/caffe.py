"""Read Caffe's `.caffemodel` and `.binaryproto` files, without Caffe.

    source = read(Path("VGG_ILSVRC_16_layers.caffemodel"))
    mean_image = read_mean(Path("ilsvrc_2012_mean.binaryproto"))

Both are protocol buffers. Only the fields of Caffe's schema (src/caffe/proto/caffe.proto) that are
needed for weights are described here; the parser skips all others.
"""

from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from deepconv.exceptions import UserError
from deepconv.weights.source import Source

_INT32, _INT64, _FLOAT, _DOUBLE, _STRING, _MESSAGE = 5, 3, 2, 1, 9, 11
_INNER_PRODUCT = 14  # in V1LayerParameter's enumeration of types

# message: {field: (number, type, repeated, message of the field)}
_SCHEMA: dict[str, dict[str, tuple[int, int, bool, str]]] = {
    "BlobShape": {"dim": (1, _INT64, True, "")},
    "BlobProto": {
        "num": (1, _INT32, False, ""),
        "channels": (2, _INT32, False, ""),
        "height": (3, _INT32, False, ""),
        "width": (4, _INT32, False, ""),
        "data": (5, _FLOAT, True, ""),
        "shape": (7, _MESSAGE, False, "BlobShape"),
        "double_data": (8, _DOUBLE, True, ""),
    },
    "LayerParameter": {
        "name": (1, _STRING, False, ""),
        "type": (2, _STRING, False, ""),
        "bottom": (3, _STRING, True, ""),
        "blobs": (7, _MESSAGE, True, "BlobProto"),
    },
    "V1LayerParameter": {
        "bottom": (2, _STRING, True, ""),
        "name": (4, _STRING, False, ""),
        "type": (5, _INT32, False, ""),
        "blobs": (6, _MESSAGE, True, "BlobProto"),
    },
    "NetParameter": {
        "name": (1, _STRING, False, ""),
        "layers": (2, _MESSAGE, True, "V1LayerParameter"),
        "layer": (100, _MESSAGE, True, "LayerParameter"),
    },
}


def message_classes() -> dict[str, Any]:
    """Return the classes of Caffe's messages, by name."""
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for name, fields in _SCHEMA.items():
        described = file.message_type.add(name=name)
        for field, (number, kind, repeated, inner) in fields.items():
            added = described.field.add(name=field, number=number, type=kind)
            added.label = 3 if repeated else 1
            if inner:
                added.type_name = f".caffe.{inner}"
            elif repeated and kind != _STRING:
                added.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = (pool.FindMessageTypeByName(f"caffe.{name}") for name in _SCHEMA)
    return {described.name: message_factory.GetMessageClass(described) for described in found}


def read(path: Path) -> Source:
    """Read a network: `conv1/weight` `[O, I, H, W]`, `fc6/weight` `[O, I]`, `fc6/bias` `[O]`.

    Raises:
      UserError: if the file is damaged, truncated or another kind of file, or is BVLC's CaffeNet,
        whose tensors have AlexNet's names and shapes, but which pools before it normalizes.
    """
    net = _parse("NetParameter", path)
    tensors = {}
    for layer in (*net.layer, *net.layers):
        if layer.name == "norm1" and "pool1" in layer.bottom:
            raise UserError(
                f"{path} is CaffeNet, not AlexNet: it pools before it normalizes, and cannot be "
                "imported"
            )
        for part, blob in zip(("weight", "bias"), layer.blobs, strict=False):
            array = _array(blob, f"{path}: {layer.name}/{part}")
            if part == "bias":
                array = array.reshape(-1)
            elif layer.type in (_INNER_PRODUCT, "InnerProduct"):
                array = array.reshape(array.shape[-2:])
            tensors[f"{layer.name}/{part}"] = array
    if not tensors:
        raise UserError(f"{path} has no layer with weights")
    return Source("caffe", tensors)


def read_mean(path: Path) -> np.ndarray:
    """Read a mean image; return it as RGB `[S, S, 3]`, 0..255.

    Raises:
      UserError: if it is damaged, or not a square image with three channels.
    """
    blob = _array(_parse("BlobProto", path), str(path))
    image = blob.reshape(blob.shape[-3:]) if blob.ndim > 2 else blob
    if image.ndim != 3 or image.shape[0] != 3 or image.shape[1] != image.shape[2]:
        raise UserError(f"{path} is not a square mean image with three channels")
    return np.ascontiguousarray(image[::-1].transpose(1, 2, 0))


def _parse(kind: str, path: Path) -> Any:
    parsed = message_classes()[kind]()
    try:
        parsed.ParseFromString(path.read_bytes())
    except message.DecodeError:
        raise UserError(f"{path} is damaged, truncated, or not a Caffe file") from None
    return parsed


def _array(blob: Any, name: str) -> np.ndarray:
    shape = blob.shape.dim or (blob.num, blob.channels, blob.height, blob.width)
    array = np.array(blob.data or blob.double_data, np.float32)
    if array.size != np.prod(shape):
        raise UserError(f"{name} has {array.size} numbers, not {'x'.join(map(str, shape))}")
    return array.reshape(tuple(shape))
