"""Which form of a layer's arithmetic a program contains: the choices by kind of device.

The forms agree up to rounding, except that tied maxima share the gradient of a pooling in one form
and not in the other. `lax.platform_dependent` chooses while a program is lowered, by the devices
that it is lowered for, which need not be those of this process: only the chosen form is in the
compiled program, and an exported program for several kinds of device has all of them.
"""

import functools
from typing import Any

import jax
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint

from deepconv.models import convolution, layers
from deepconv.models.layers import LRN


def convolve(
    x: jax.Array, kernel: jax.Array, *, stride: int, padding: tuple[int, int], groups: int
) -> jax.Array:
    """Convolve a batch of maps; see `layers.convolve`."""
    plain = functools.partial(layers.convolve, stride=stride, padding=padding, groups=groups)
    by_group = functools.partial(
        layers.convolve_by_group,
        stride=stride,
        padding=padding,
        groups=groups,
        convolve=convolution.convolve,
    )
    if groups == 1:
        return convolution.convolve(x, kernel, stride=stride, padding=padding)
    # On a CPU the gradient of XLA's grouped convolution is nine times slower than that of one
    # convolution per group (docs/performance.md).
    convolved: jax.Array = lax.platform_dependent(x, kernel, cpu=by_group, default=plain)
    return convolved


def max_pool(x: jax.Array, *, window: int, stride: int, ceil: bool) -> jax.Array:
    """Take the maximum of square windows; see `layers.max_pool`."""
    shared = functools.partial(layers.max_pool, window=window, stride=stride, ceil=ceil)
    if window != stride or ceil:
        return shared(x)
    # Of a large map, XLA's GPU compiler writes and reads the comparisons of the shared gradient.
    # On a CPU sharing is as good, and its results are those of earlier runs.
    pooled: jax.Array = lax.platform_dependent(
        x, cpu=shared, default=lambda x: layers.max_pool_to_first(x, window)
    )
    return pooled


def local_response_norm(x: jax.Array, layer: LRN) -> jax.Array:
    """Normalize each activation by its neighbors; see `layers.local_response_norm`."""
    normalize = functools.partial(
        layers.local_response_norm,
        size=layer.size,
        k=layer.k,
        alpha=layer.alpha,
        beta=layer.beta,
        groups=layer.groups,
    )
    # Left to itself, XLA's GPU compiler keeps a float32 map of the forward pass and computes the
    # slopes that arrive several times. On a CPU, writing them costs a tenth of the time.
    normalized: jax.Array = lax.platform_dependent(
        x, cpu=normalize, default=functools.partial(normalize, written=True)
    )
    return normalized


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def cast(kernel: jax.Array, dtype: Any) -> jax.Array:
    """Cast a kernel to the dtype of the computation.

    Args:
      kernel: float32 `[K, K, C / groups, F]`.
      dtype: the dtype of the result; the gradient is rounded to it, then cast back.
    """
    return kernel.astype(dtype)


def _cast_forward(kernel: jax.Array, dtype: Any) -> tuple[jax.Array, None]:
    return kernel.astype(dtype), None


def _cast_backward(dtype: Any, _: None, slopes: jax.Array) -> tuple[jax.Array]:
    del dtype
    slopes = lax.platform_dependent(slopes, cpu=lambda slopes: slopes, default=_laid_out)
    return (slopes.astype("float32"),)


def _laid_out(slopes: jax.Array) -> jax.Array:
    # cuDNN writes a kernel's gradient with F first. Left to itself, XLA's GPU compiler computes the
    # update of the parameters in that order, and then cannot write it over the old parameters.
    order = Layout(tuple(range(slopes.ndim)))
    laid_out: jax.Array = lax.optimization_barrier(with_layout_constraint(slopes, order))
    return laid_out


cast.defvjp(_cast_forward, _cast_backward)
