"""What a network computes on the way: any layers' activations, by name.

Names are those of `deepconv summary`: `conv3_3`, `fc7` are before the ReLU, `relu3_3`, `relu7`
after it. In a program, style and perceptual losses in ten lines:

    look = activations.extractor(trained, ["relu1_1", "relu2_1", "relu3_1"])

    def gram(x):  # [N, H, W, C] to [N, C, C]
        return jnp.einsum("nhwc,nhwd->ncd", x, x) / (x.shape[1] * x.shape[2])

    def style_loss(images, style):
        both = zip(look(images).values(), look(style).values())
        return sum(jnp.mean((gram(a) - gram(b)) ** 2) for a, b in both)

    def distance(images, others):  # of unit vectors, as in LPIPS before its learned weights
        unit = lambda x: x / (jnp.sqrt((x**2).sum(-1, keepdims=True) + 1e-10))
        both = zip(look(images).values(), look(others).values())
        return sum(jnp.mean((unit(a) - unit(b)) ** 2) for a, b in both)

    step = jax.grad(style_loss)(images, style)  # with respect to the pixels
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from deepconv import compilation, preprocess
from deepconv.data import pipeline
from deepconv.data.pipeline import Source
from deepconv.inference.model import Model
from deepconv.models import Network
from deepconv.training import augment

BATCH_SIZE = 128


class Crops(NamedTuple):
    """Central crops that could be read, and what the network makes of them.

    Attributes:
      records: their numbers, int `[N]`.
      images: uint8 `[N, S, S, 3]`.
      labels: int `[N]`.
      outputs: by layer, float32 `[N, h, w, C]`.
    """

    records: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    outputs: dict[str, np.ndarray]


def cut(network: Network, layers: Sequence[str]) -> Network:
    """Return the network as far as the last of some layers.

    Raises:
      ValueError: if it has no such layer, or none is named.
    """
    names = [layer.name for layer in network.layers]
    if unknown := [name for name in layers if name not in names]:
        raise ValueError(f"there is no layer {unknown[0]!r}; there are {', '.join(names)}")
    if not layers:
        raise ValueError(f"no layer is named; there are {', '.join(names)}")
    last = max(map(names.index, layers))
    return network.clone(layers=network.layers[: last + 1])


def extractor(
    trained: Model, layers: Sequence[str]
) -> Callable[[jax.typing.ArrayLike], dict[str, jax.Array]]:
    """Return a jitted function from images to some layers' outputs, all in one pass.

    Nothing behind the last of these layers is computed. The function is differentiable, and
    compiled once for every size of image.

    Args:
      trained: the network.
      layers: their names.

    Returns:
      From RGB images `[N, H, W, 3]` in 0..255, uint8 or float, to `{name: float32 [N, h, w, C]}`
      in the order of `layers`. Images may have any size that leaves a map; the mean RGB is
      subtracted here.

    Raises:
      ValueError: if the network has no such layer, or none is named.
    """
    network = cut(trained.network, layers)
    params = {
        layer.name: trained.params[layer.name]
        for layer in network.layers
        if layer.name in trained.params
    }
    mean = jnp.asarray(preprocess.mean_for(trained.colors, trained.config.input.mean, square=None))

    @jax.jit  # not compilation.jit: users call it inside their own, and differentiate it
    def outputs(images: jax.Array) -> dict[str, jax.Array]:
        return _outputs(network, params, images - mean, layers)

    def look(images: jax.typing.ArrayLike) -> dict[str, jax.Array]:
        found = outputs(jnp.asarray(images, jnp.float32))
        return {name: found[name] for name in layers}  # jit sorts them

    return look


def _outputs(
    network: Network, params: Any, images: jax.Array, layers: Sequence[str]
) -> dict[str, jax.Array]:
    outputs: Any = network.apply({"params": params}, images, method="activations")
    return {name: outputs[name].astype(jnp.float32) for name in layers}


def of_central_crops(trained: Model, source: Source, layers: Sequence[str]) -> Crops:
    """Cut the central crop of every record and compute some layers' outputs.

    Records that cannot be read are left out.

    Args:
      trained: the network; its config says how images are rescaled, and what is subtracted.
      source: the records.
      layers: names of layers.

    Raises:
      ValueError: see `cut`.
    """
    config = trained.config
    scale = config.evaluation.scale
    geometry = pipeline.Geometry(config.model.crop, (scale, scale), config.input.square)
    batches = pipeline.eval_batches(source, geometry, batch_size=min(BATCH_SIZE, len(source)))
    mean = jnp.asarray(preprocess.mean_for(trained.colors, config.input.mean, square=scale))
    network = cut(trained.network, layers)

    @compilation.jit
    def look(params: Any, images: jax.Array, offset: jax.Array) -> dict[str, jax.Array]:
        crops = augment.for_evaluation({"image": images, "offset": offset}, mean)
        return _outputs(network, params, crops, layers)

    found = []
    for batch in pipeline.iter_from(batches, 0, threads=os.cpu_count() or 1):
        crops = batch["device"]
        outputs = jax.device_get(look(trained.params, crops["image"], crops["offset"]))
        kept = crops["mask"]
        found.append(
            Crops(
                batch["host"]["record"][kept],
                crops["image"][kept],
                crops["target"]["label"][kept],
                {name: outputs[name][kept] for name in layers},
            )
        )
    return Crops(
        np.concatenate([crops.records for crops in found]),
        np.concatenate([crops.images for crops in found]),
        np.concatenate([crops.labels for crops in found]),
        {name: np.concatenate([crops.outputs[name] for crops in found]) for name in layers},
    )
