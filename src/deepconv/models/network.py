"""One Linen module that runs any network of the papers from its tuple of layers.

A network is data: `network_to_json` and `network_from_json` store it without its code.
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from deepconv.models import layers as ops
from deepconv.models import platforms
from deepconv.models.initializers import PRESETS, Initializer
from deepconv.models.layers import LRN, Activation, Conv, Dropout, Layer, LocalConv, Pool


class _Convolution(nn.Module):
    layer: Conv
    kernel_init: Initializer
    bias_init: Initializer
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        layer = self.layer
        shape = (layer.kernel, layer.kernel, x.shape[-1] // layer.groups, layer.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        bias = self.param("bias", self.bias_init, (layer.features,), jnp.float32)
        kernel = platforms.cast(kernel, self.dtype)
        x = platforms.convolve(
            x, kernel, stride=layer.stride, padding=layer.padding, groups=layer.groups
        )
        return ops.add_bias(x, bias)


class _LocalConvolution(nn.Module):
    layer: LocalConv
    kernel_init: Initializer
    bias_init: Initializer
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        layer = self.layer
        side = ops.output_size(layer, x.shape[1])
        shape = (side, side, layer.kernel**2 * x.shape[-1], layer.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32).astype(self.dtype)
        bias = self.param("bias", self.bias_init, (side, side, layer.features), jnp.float32)
        x = ops.convolve_locally(x, kernel, side=layer.kernel, padding=layer.padding)
        return ops.add_bias(x, bias)


class Network(nn.Module):
    """A fully convolutional network: an image larger than the crop gives a score map.

    Parameters are float32, `{layer name: {"kernel": [K, K, C, F], "bias": [F]}}`.

    Attributes:
      layers: what to compute, in order; the last is the classifier.
      initializer: a key of `initializers.PRESETS`.
      dtype: dtype of the computation.
      crop: side of the training crop, in pixels; images must be at least this large.
    """

    layers: tuple[Layer, ...]
    crop: int
    initializer: str = "glorot"
    dtype: Any = jnp.float32

    def __call__(
        self,
        images: jax.Array,
        train: bool = False,
        dropout_keys: jax.Array | None = None,
        extents: jax.Array | None = None,
    ) -> jax.Array:
        """Score images.

        Args:
          images: `[N, H, W, 3]` float, 0..255 with the mean already subtracted, H and W >= crop.
          train: whether to apply dropout.
          dropout_keys: `[N]`, one key per example; required if `train` and the net has dropout.
          extents: `[N, 2]` int, (height, width) of the image in the upper left corner of each
            canvas, for a batch of images of different sizes. The scores within
            `map_extents(extents)` equal those of the image alone; scores beyond are meaningless.

        Returns:
          `[N, h, w, num_classes]` float32 scores, before the softmax; h = w = 1 where H = W = crop.

        Raises:
          ValueError: if the images do not have four axes, or are so small that a layer's output
            would be empty; its mean would be NaN.
        """
        return self.activations(images, train, dropout_keys, extents)[self.layers[-1].name]

    def map_extents(self, extents: jax.Array) -> jax.Array:
        """Return the (height, width) `[N, 2]` of the score maps for image sizes `[N, 2]`."""
        return functools.reduce(
            lambda size, layer: ops.output_size(layer, size), self.layers, extents
        )

    @nn.compact
    def activations(
        self,
        images: jax.Array,
        train: bool = False,
        dropout_keys: jax.Array | None = None,
        extents: jax.Array | None = None,
    ) -> dict[str, jax.Array]:
        """Return every layer's output by name (`conv1_1`, ..., `fc8`); see `__call__`."""
        if (
            train
            and dropout_keys is None
            and any(isinstance(layer, Dropout) for layer in self.layers)
        ):
            raise ValueError("a network with dropout needs dropout_keys to train")
        if images.ndim != 4:
            raise ValueError(f"images must have shape [N, H, W, 3], not {list(images.shape)}")
        x = images.astype(self.dtype)
        outputs = {}
        for index, layer in enumerate(self.layers):
            if isinstance(layer, Conv | Dropout) and layer.gather:
                x = lax.all_gather(x, layer.gather, axis=-1, tiled=True)
            # The sides of an exported program are symbols, which cannot always be compared.
            sides = [side for side in x.shape[1:3] if isinstance(side, int)]
            if any(ops.output_size(layer, side) < 1 for side in sides):
                raise ValueError(
                    f"images of shape {list(images.shape)} are too small: the output of "
                    f"{layer.name} is empty; this network's crop is {self.crop} pixels"
                )
            if extents is not None:
                if isinstance(layer, Conv) and any(layer.padding):
                    # Beyond the image's edge, earlier biases have left values that are not zero;
                    # the image alone would see zero padding there.
                    x = ops.zero_beyond(x, extents)
                if isinstance(layer, Pool) and layer.ceil:
                    # The last window may extend past the image's edge, where a canvas is not empty.
                    own = ops.inside(extents, x.shape[1], x.shape[2])
                    x = jnp.where(own, x, jnp.array(-jnp.inf, x.dtype))
                extents = ops.output_size(layer, extents)
            match layer:
                case Conv():
                    x = _Convolution(
                        layer, *PRESETS[self.initializer](layer), self.dtype, name=layer.name
                    )(x)
                case LocalConv():
                    x = _LocalConvolution(
                        layer, *PRESETS[self.initializer](layer), self.dtype, name=layer.name
                    )(x)
                case Activation():
                    x = ops.ACTIVATIONS[layer.function](x)
                case LRN():
                    x = platforms.local_response_norm(x, layer)
                case Pool():
                    x = platforms.max_pool(
                        x, window=layer.window, stride=layer.stride, ceil=layer.ceil
                    )
                case Dropout():
                    keys = None
                    if train and dropout_keys is not None:
                        keys = jax.vmap(lambda key: jax.random.fold_in(key, index))(dropout_keys)
                    x = ops.dropout(x, keys, rate=layer.rate, scale_at=layer.scale_at)
            outputs[layer.name] = x
        outputs[self.layers[-1].name] = x.astype(jnp.float32)
        return outputs


def network_to_json(network: Network) -> dict[str, Any]:
    """Return a network as JSON values: `layers`, `crop`, `initializer` and `dtype`."""
    return {
        "layers": ops.layers_to_json(network.layers),
        "crop": network.crop,
        "initializer": network.initializer,
        "dtype": jnp.dtype(network.dtype).name,
    }


def network_from_json(value: Mapping[str, Any]) -> Network:
    """Return the network from what `network_to_json` returned; other keys are ignored.

    Raises:
      ValueError: if the values are something else.
    """
    try:
        layers, crop = value["layers"], value["crop"]
        initializer, dtype = value["initializer"], value["dtype"]
    except (KeyError, TypeError):
        raise ValueError("a network needs layers, crop, initializer and dtype") from None
    if initializer not in PRESETS:
        raise ValueError(f"unknown initializer {initializer!r}; choose from {', '.join(PRESETS)}")
    return Network(ops.layers_from_json(layers), crop, initializer, dtype)
