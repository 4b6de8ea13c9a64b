"""Read `.h5` files of VGG16 and VGG19 from Keras 1 and 2, without Keras.

source = read(Path("vgg16_weights_tf_dim_ordering_tf_kernels.h5"))
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from deepconv.exceptions import UserError
from deepconv.weights.source import Source

# The suffixes of a layer's two tensors, in Keras 2 and in Keras 1.
_PARTS = {"kernel": "kernel", "bias": "bias", "W": "kernel", "b": "bias"}


def read(path: Path) -> Source:
    """Read the tensors of a network: `block1_conv1/kernel` `[H, W, I, O]`, `fc1/kernel` `[I, O]`.

    Kernels `[O, I, H, W]` have Theano's order of dimensions. Kernels for true convolution, which
    Theano computes, are recognized by the backend stated in the file or, if none is stated, by
    "th_kernels" in the file's name.

    Raises:
      UserError: if it is damaged, or has no layer names.
    """
    try:
        with h5py.File(path, "r") as file:
            group = file.get("model_weights", file)
            if "layer_names" not in group.attrs:
                raise UserError(
                    f"{path} has no layer names (a .weights.h5 of Keras 3, or not a Keras file): "
                    "save it again as .h5 with Keras 2"
                )
            tensors = {
                f"{layer}/{_part(name)}": np.asarray(group[layer][name])
                for layer in map(_text, group.attrs["layer_names"])
                for name in map(_text, group[layer].attrs["weight_names"])
            }
            backend = _text(group.attrs.get("backend", file.attrs.get("backend", "")))
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        reason = str(error).strip("'\"").splitlines()[0]
        raise UserError(f"{path} is damaged, or not a Keras file: {reason}") from None
    first = tensors.get("block1_conv1/kernel", np.zeros(0))
    return Source(
        "keras" if first.shape[:2] == (3, 3) and first.shape[-1] != 3 else "keras_channels_first",
        tensors,
        flipped=backend == "theano" or (not backend and "th_kernels" in path.name),
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _part(name: str) -> str:
    """Return which tensor of a layer it is: `conv/kernel:0` and `conv_W_1:0` are kernels."""
    words = name.rpartition("/")[2].partition(":")[0].split("_")
    return next((_PARTS[word] for word in reversed(words) if word in _PARTS), name)
