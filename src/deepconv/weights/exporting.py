"""Export a run to one file: in our own format, or in one that other programs read.

to_deepconv(model, Path("vgg16.safetensors"))
to_torchvision(model, Path("vgg16_torch.safetensors"))
to_stablehlo(model, Path("vgg16.stablehlo"), view="dense")
"""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepconv import atomic, preprocess
from deepconv.exceptions import UserError
from deepconv.inference.model import Model, require_classes
from deepconv.models.layers import LocalConv
from deepconv.models.network import network_to_json
from deepconv.run import provenance, weights_file
from deepconv.weights import conversion

# The shapes of the images that a StableHLO program takes.
VIEWS = {"crop": "n, {crop}, {crop}, 3", "dense": "n, h, w, 3"}
# Keys of `config.model` that are stored elsewhere in a weights file.
_NO_OPTIONS = ("name", "initializer", "dtype")
_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def to_deepconv(model: Model, out: Path) -> None:
    """Write a weights file of our own, which `deepconv.load_model` and every command accept.

    It contains the network's layers, so a custom network can be loaded without its code.

    Args:
      model: the network.
      out: the file.

    Raises:
      UserError: if the file cannot be written.
    """
    network, config, colors = model.network, model.config, model.colors
    image = colors.mean_image if config.input.mean == "image" else None
    about = {
        "network": config.model.name,
        "options": {name: item for name, item in config.model.items() if name not in _NO_OPTIONS},
        "classes": len(model.class_names),
        "class_names": None if model.unnamed else model.class_names,
        "mean_rgb": colors.mean_rgb.tolist(),
        "eigenvalues": colors.eigenvalues.tolist(),
        "eigenvectors": colors.eigenvectors.tolist(),
        "scale": config.evaluation.scale,
        "multilabel": model.multilabel,
        **network_to_json(network),
        "source": model.origin,
        "version": provenance.versions()["deepconv"],
    }
    weights_file.write(out, weights_file.named(jax.device_get(model.params), image), about)


def to_torchvision(model: Model, out: Path) -> None:
    """Write a state dict of torchvision's network as safetensors.

    It takes pixels normalized as in torchvision, (p / 255 - mean) / std with ImageNet's std; the
    mean is that of the network's own training set. Both are in the file's metadata.

    Args:
      model: the network.
      out: the file.

    Raises:
      UserError: if torchvision has no such network, it subtracts a mean image, or the file cannot
        be written.
    """
    require_classes(model)
    if model.config.input.mean == "image":
        raise UserError(f"{model.name} subtracts a mean image, which torchvision does not support")
    tensors = conversion.to_torchvision(
        model.config.model.name, model.network, jax.device_get(model.params)
    )
    mean = np.asarray(model.colors.mean_rgb, np.float64)
    metadata = {
        "format": "pt",
        "mean": json.dumps((mean / 255).tolist()),
        "std": json.dumps((conversion.TORCH_STD / 255).tolist()),
        "mean_rgb": json.dumps(mean.tolist()),
        "crop": str(model.network.crop),
        "resize": str(model.config.evaluation.scale),
    }
    if not model.unnamed:
        metadata["class_names"] = json.dumps(model.class_names)
    weights_file.write_tensors(out, tensors, metadata)


def to_stablehlo(model: Model, out: Path, *, view: str) -> None:
    """Write a classifier with its parameters and preprocessing, for any batch size.

    `jax.export.deserialize(bytes).call(images)`: uint8 RGB `[N, H, W, 3]` to posteriors float32
    `[N, C]`. A JSON file beside it describes its inputs and outputs.

    Args:
      model: the network.
      out: the file.
      view: "crop", for images of the crop's size; "dense", for any size at least as large, with the
        scores averaged over the map (VGG section 3.2, without the mirror image).

    Raises:
      UserError: if the network cannot be applied densely, or a file cannot be written.
    """
    require_classes(model)
    if view == "dense" and any(isinstance(layer, LocalConv) for layer in model.network.layers):
        raise UserError(f"{model.name} has locally connected layers and cannot be applied densely")
    mean = jnp.asarray(
        model.central_mean
        if view == "crop"
        else preprocess.mean_for(model.colors, model.config.input.mean, square=None)
    )

    def classify(images: jax.Array) -> jax.Array:
        scores: Any = model.network.apply(
            {"params": model.params}, images.astype(jnp.float32) - mean
        )
        scores = scores.mean(axis=(1, 2))
        return jax.nn.sigmoid(scores) if model.multilabel else jax.nn.softmax(scores)

    crop = model.network.crop
    text = VIEWS[view].format(crop=crop)
    larger = [f"h >= {crop}", f"w >= {crop}"] if view == "dense" else []
    shape = jax.export.symbolic_shape(text, constraints=larger)
    exported = jax.export.export(jax.jit(classify), platforms=_PLATFORMS)(
        jax.ShapeDtypeStruct(shape, jnp.uint8)
    )
    about = {
        "network": model.config.model.name,
        "takes": f"uint8 RGB [{text}]",
        "scale": model.config.evaluation.scale,
        "gives": f"float32 [n, {len(model.class_names)}], posteriors",
        "class_names": model.class_names,
        "versions": provenance.versions(),
    }
    try:
        with atomic.replacing(out) as file:
            file.write(exported.serialize())
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from None
    atomic.write_json(out.with_name(f"{out.name}.json"), about)
