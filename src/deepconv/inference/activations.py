"""Activations of any of a network's layers, by name.

Names are those of `deepconv summary`: `conv3_3`, `fc7` are before the ReLU, `relu3_3`, `relu7`
after it. For example, style and perceptual losses in ten lines:

    extract = activations.extractor(model, ["relu1_1", "relu2_1", "relu3_1"])

    def gram(x):  # [N, H, W, C] to [N, C, C]
        return jnp.einsum("nhwc,nhwd->ncd", x, x) / (x.shape[1] * x.shape[2])

    def style_loss(images, style):
        both = zip(extract(images).values(), extract(style).values())
        return sum(jnp.mean((gram(a) - gram(b)) ** 2) for a, b in both)

    def distance(images, others):  # of unit vectors, as in LPIPS before its learned weights
        unit = lambda x: x / (jnp.sqrt((x**2).sum(-1, keepdims=True) + 1e-10))
        both = zip(extract(images).values(), extract(others).values())
        return sum(jnp.mean((unit(a) - unit(b)) ** 2) for a, b in both)

    step = jax.grad(style_loss)(images, style)  # with respect to the pixels
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, overload

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
    """The central crops of readable records, and a network's activations for them.

    Attributes:
      records: numbers of the records, int `[N]`.
      images: uint8 `[N, S, S, 3]`.
      labels: int `[N]`.
      outputs: activations by layer, float32 `[N, h, w, C]`.
    """

    records: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    outputs: dict[str, np.ndarray]


def cut(network: Network, layers: Sequence[str]) -> Network:
    """Return the network up to the last of the given layers.

    Raises:
      ValueError: if it has no such layer, or none is given.
    """
    names = [layer.name for layer in network.layers]
    if unknown := [name for name in layers if name not in names]:
        raise ValueError(f"there is no layer {unknown[0]!r}; the layers are {', '.join(names)}")
    if not layers:
        raise ValueError(f"no layer is given; the layers are {', '.join(names)}")
    last = max(map(names.index, layers))
    return network.clone(layers=network.layers[: last + 1])


@overload
def extractor(  # type: ignore[overload-overlap]  # a string is a sequence of strings too
    model: Model, layers: str
) -> Callable[[jax.typing.ArrayLike], jax.Array]: ...
@overload
def extractor(
    model: Model, layers: Sequence[str]
) -> Callable[[jax.typing.ArrayLike], dict[str, jax.Array]]: ...
def extractor(model: Model, layers: str | Sequence[str]) -> Callable[[jax.typing.ArrayLike], Any]:
    """Return a jitted function that computes some layers' outputs for images, in one pass.

    Nothing after the last of these layers is computed. The function is differentiable, and
    compiled once for each image size.

    Args:
      model: the network.
      layers: names of the layers, or a single name.

    Returns:
      A function from RGB images `[N, H, W, 3]` in 0..255, uint8 or float, to
      `{name: float32 [N, h, w, C]}` in the order of `layers`, or to float32 `[N, h, w, C]` for a
      single name. Images may have any size for which no layer's output is empty; the function
      subtracts the mean RGB, and raises ValueError for another shape.

    Raises:
      ValueError: if the network has no such layer, or none is given.
    """
    names = [layers] if isinstance(layers, str) else list(layers)
    network = cut(model.network, names)
    params = {
        layer.name: model.params[layer.name]
        for layer in network.layers
        if layer.name in model.params
    }
    mean = jnp.asarray(preprocess.mean_for(model.colors, model.config.input.mean, square=None))

    @jax.jit  # not compilation.jit: users differentiate it, and call it in jitted functions
    def outputs(images: jax.Array) -> dict[str, jax.Array]:
        return _outputs(network, params, images - mean, names)

    def extract(images: jax.typing.ArrayLike) -> Any:
        images = jnp.asarray(images, jnp.float32)
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"images must have shape [N, H, W, 3], not {list(images.shape)}")
        found = outputs(images)
        if isinstance(layers, str):
            return found[layers]
        return {name: found[name] for name in names}  # jit sorts them

    return extract


def _outputs(
    network: Network, params: Any, images: jax.Array, layers: Sequence[str]
) -> dict[str, jax.Array]:
    outputs: Any = network.apply({"params": params}, images, method="activations")
    return {name: outputs[name].astype(jnp.float32) for name in layers}


def of_central_crops(model: Model, source: Source, layers: Sequence[str]) -> Crops:
    """Cut the central crop of every record and compute some layers' outputs.

    Records that cannot be read are left out.

    Args:
      model: the network; its config determines how images are rescaled and the mean subtracted.
      source: the records.
      layers: names of layers.

    Raises:
      ValueError: see `cut`.
    """
    config = model.config
    scale = config.evaluation.scale
    geometry = pipeline.Geometry(config.model.crop, (scale, scale), config.input.square)
    batches = pipeline.eval_batches(source, geometry, batch_size=min(BATCH_SIZE, len(source)))
    mean = jnp.asarray(preprocess.mean_for(model.colors, config.input.mean, square=scale))
    network = cut(model.network, layers)

    @compilation.jit
    def compute(params: Any, images: jax.Array, offset: jax.Array) -> dict[str, jax.Array]:
        crops = augment.for_evaluation({"image": images, "offset": offset}, mean)
        return _outputs(network, params, crops, layers)

    found = []
    for batch in pipeline.iter_from(batches, 0, threads=os.cpu_count() or 1):
        crops = batch["device"]
        outputs = jax.device_get(compute(model.params, crops["image"], crops["offset"]))
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
