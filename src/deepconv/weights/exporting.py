"""From a network of ours to what other programs run.

to_torchvision(trained, Path("vgg16_torch.safetensors"))
to_stablehlo(trained, Path("vgg16.stablehlo"), view="dense")
"""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepconv import atomic
from deepconv.exceptions import UserError
from deepconv.inference.model import Trained
from deepconv.models.layers import LocalConv
from deepconv.run import provenance, weights_file
from deepconv.weights import conversion

# What a StableHLO program looks at: the shape of its images.
VIEWS = {"crop": "n, {crop}, {crop}, 3", "dense": "n, h, w, 3"}
_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def to_torchvision(trained: Trained, out: Path) -> None:
    """Write a state dict of torchvision's network as safetensors.

    Its pixels are those of torchvision, (p / 255 - mean) / std with ImageNet's std; the mean is
    that of the network's own training set. Both are in the file's metadata.

    Args:
      trained: the network.
      out: the file.

    Raises:
      UserError: if torchvision has no such network, it subtracts a mean image, or the file cannot
        be written.
    """
    if trained.config.input.mean == "image":
        raise UserError(f"{trained.name} subtracts a mean image, which torchvision cannot")
    tensors = conversion.to_torchvision(
        trained.config.model.name, trained.network, jax.device_get(trained.params)
    )
    mean = np.asarray(trained.colors.mean_rgb, np.float64)
    metadata = {
        "format": "pt",
        "mean": json.dumps((mean / 255).tolist()),
        "std": json.dumps((conversion.TORCH_STD / 255).tolist()),
        "mean_rgb": json.dumps(mean.tolist()),
        "crop": str(trained.network.crop),
        "resize": str(trained.config.evaluation.scale),
    }
    if not trained.unnamed:
        metadata["class_names"] = json.dumps(trained.class_names)
    weights_file.write_tensors(out, tensors, metadata)


def to_stablehlo(trained: Trained, out: Path, *, view: str) -> None:
    """Write a classifier with its parameters and preprocessing, for any batch size.

    `jax.export.deserialize(bytes).call(images)`: uint8 RGB `[N, H, W, 3]` to posteriors float32
    `[N, C]`. What it takes and gives stands in JSON beside it.

    Args:
      trained: the network.
      out: the file.
      view: "crop", images of the crop's size; "dense", of any size from the crop's on, the scores
        averaged over the map (VGG section 3.2, without the mirror image).

    Raises:
      UserError: if the network cannot be applied densely, or a file cannot be written.
    """
    if view == "dense" and any(isinstance(layer, LocalConv) for layer in trained.network.layers):
        raise UserError(f"{trained.name} has locally connected layers and cannot look densely")
    mean = jnp.asarray(
        trained.central_mean if view == "crop" else trained.colors.mean_rgb, jnp.float32
    )

    def classify(images: jax.Array) -> jax.Array:
        scores: Any = trained.network.apply(
            {"params": trained.params}, images.astype(jnp.float32) - mean
        )
        return jax.nn.softmax(scores.mean(axis=(1, 2)))

    crop = trained.network.crop
    text = VIEWS[view].format(crop=crop)
    larger = [f"h >= {crop}", f"w >= {crop}"] if view == "dense" else []
    shape = jax.export.symbolic_shape(text, constraints=larger)
    exported = jax.export.export(jax.jit(classify), platforms=_PLATFORMS)(
        jax.ShapeDtypeStruct(shape, jnp.uint8)
    )
    about = {
        "network": trained.config.model.name,
        "takes": f"uint8 RGB [{text}]",
        "scale": trained.config.evaluation.scale,
        "gives": f"float32 [n, {len(trained.class_names)}], posteriors",
        "class_names": trained.class_names,
        "versions": provenance.versions(),
    }
    try:
        with atomic.replacing(out) as file:
            file.write(exported.serialize())
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from None
    atomic.write_json(out.with_name(f"{out.name}.json"), about)
