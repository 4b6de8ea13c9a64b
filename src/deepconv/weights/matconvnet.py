"""Read MatConvNet's `.mat` files of AlexNet and VGG, without Matlab.

source = read(Path("imagenet-vgg-verydeep-16.mat"))
"""

import types
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from deepconv.exceptions import UserError, first_line
from deepconv.weights.source import Source


def read(path: Path) -> Source:
    """Read the tensors of a SimpleNN: `conv1_1/filters` `[H, W, I, O]`, `conv1_1/biases` `[O]`.

    The mean comes from `meta.normalization.averageImage` (or `normalization`, in older files), the
    classes' descriptions from `classes`.

    Raises:
      UserError: if it is damaged, or in Matlab's format 7.3, which is HDF5.
    """
    try:
        net = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False)
        net = net.get("net") or types.SimpleNamespace(**net)
        tensors = dict(_tensors(net.layers))
        meta = getattr(net, "meta", net)
        mean = np.asarray(meta.normalization.averageImage, np.float32)
        classes = getattr(getattr(meta, "classes", None), "description", None)
    except NotImplementedError:
        raise UserError(
            f"{path} is in Matlab's format 7.3: save it again with save(..., '-v7')"
        ) from None
    except Exception as error:  # scipy raises anything on damaged files
        raise UserError(
            f"{path} is damaged, or not a MatConvNet file: {first_line(error)}"
        ) from None
    image = mean if mean.ndim == 3 else None
    return Source(
        "matconvnet",
        tensors,
        mean_rgb=mean.reshape(-1, 3).mean(axis=0) if mean.size else None,
        mean_image=image,
        class_names=None if classes is None else tuple(map(str, np.atleast_1d(classes))),
    )


def _tensors(layers: Any) -> Any:
    for layer in layers:
        if getattr(layer, "type", "") != "conv":
            continue
        filters, biases = (
            layer.weights if hasattr(layer, "weights") else (layer.filters, layer.biases)
        )
        # Matlab drops trailing axes of length one, and scipy squeezes all others.
        yield f"{layer.name}/filters", np.asarray(filters)
        yield f"{layer.name}/biases", np.asarray(biases).reshape(-1)
