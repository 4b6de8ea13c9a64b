"""Initial weights and biases: named presets, each a function of the layer, with its source.

kernel_init, bias_init = PRESETS["glorot"](layer)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from deepconv.models.layers import Conv, LocalConv

Initializer = Callable[..., jax.Array]
Preset = Callable[[Conv | LocalConv], tuple[Initializer, Initializer]]


def _gaussian(std: float) -> Initializer:
    return jax.nn.initializers.normal(std)


def _fans(layer: Conv | LocalConv) -> dict[str, Any]:
    """Return which axes of a kernel are inputs, outputs, or neither, for jax's initializers.

    An input of a convolution reaches K x K outputs of each feature, an input of a fully connected
    layer only one. The first two axes of a local layer's kernel index independent kernels; its
    fan-out cannot be read off the kernel's shape, see `_glorot_local`.
    """
    if isinstance(layer, LocalConv):
        return {"batch_axis": (0, 1)}
    return {"in_axis": (0, 1, 2)} if layer.fully_connected else {}


def _constant(value: float) -> Initializer:
    return lambda key, shape, dtype=jnp.float32: jnp.full(shape, value, dtype)


def paper(layer: Conv | LocalConv) -> tuple[Initializer, Initializer]:
    """N(0, std 0.01) in every layer; biases 1 in AlexNet's conv2, 4, 5, fc6, fc7, otherwise 0.

    AlexNet section 5. VGG section 3.1 prints a *variance* of 1e-2 (`paper_literal`); public code
    and He et al. (2015) read it as this standard deviation. The four-layer CIFAR-10 nets have a
    standard deviation per layer, from cuda-convnet's files.
    """
    return _gaussian(layer.std), _constant(layer.bias)


def paper_literal(layer: Conv | LocalConv) -> tuple[Initializer, Initializer]:
    """N(0, variance 0.01), that is std 0.1, as VGG section 3.1 prints it; full nets diverge."""
    return _gaussian(0.1), _constant(layer.bias)


def original_code(layer: Conv | LocalConv) -> tuple[Initializer, Initializer]:
    """AlexNet's released code: std 0.03 in conv3 to conv5, 0.01 elsewhere; the paper's biases."""
    factor = 3.0 if layer.name in ("conv3", "conv4", "conv5") else 1.0
    return _gaussian(factor * layer.std), _constant(layer.bias)


def caffe(layer: Conv | LocalConv) -> tuple[Initializer, Initializer]:
    """BVLC's bvlc_alexnet: std 0.005 in fc6 and fc7, 0.01 elsewhere; biases of 1 become 0.1."""
    factor = 0.5 if layer.name in ("fc6", "fc7") else 1.0
    return _gaussian(factor * layer.std), _constant(0.1 * layer.bias)


def _glorot_local(layer: LocalConv) -> Initializer:
    """Return Glorot's uniform initializer for kernels `[h, w, K * K * C, F]`.

    As in a convolution, an input reaches K x K outputs of each feature, though each through a
    different kernel: fan_in = K * K * C, fan_out = K * K * F.
    """
    fan_out = layer.kernel**2 * layer.features

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        bound = (6 / (shape[2] + fan_out)) ** 0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def glorot(layer: Conv | LocalConv) -> tuple[Initializer, Initializer]:
    """Uniform within sqrt(6 / (fan_in + fan_out)), bias 0 (Glorot & Bengio 2010; VGG's note).

    fan_in is the number of inputs of a unit, K * K * C; fan_out is the number of outputs that an
    input reaches, K * K * F, or F in a fully connected layer.
    """
    if isinstance(layer, LocalConv):
        return _glorot_local(layer), _constant(0.0)
    return jax.nn.initializers.glorot_uniform(**_fans(layer)), _constant(0.0)


def he(layer: Conv | LocalConv) -> tuple[Initializer, Initializer]:
    """N(0, 2 / fan_in), biases 0 (He et al. 2015, derived for ReLU nets of VGG's depth)."""
    init = jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal", **_fans(layer))
    return init, _constant(0.0)


PRESETS: dict[str, Preset] = {
    "paper": paper,
    "paper_literal": paper_literal,
    "original_code": original_code,
    "caffe": caffe,
    "glorot": glorot,
    "he": he,
}
