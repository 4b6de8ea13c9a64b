"""Which form of a layer's arithmetic a program contains: all the choices by kind of device.

The forms agree up to rounding. `lax.platform_dependent` chooses while a program is lowered, by the
devices that it is lowered for, which need not be those of this process: only the chosen form is in
the compiled program, and an exported program for several kinds of device has all of them.
"""

import functools

import jax
from jax import lax

from deepconv.models import layers


def convolve(
    x: jax.Array, kernel: jax.Array, *, stride: int, padding: tuple[int, int], groups: int
) -> jax.Array:
    """Convolve a batch of maps; see `layers.convolve`."""
    plain = functools.partial(layers.convolve, stride=stride, padding=padding, groups=groups)
    by_group = functools.partial(
        layers.convolve_by_group, stride=stride, padding=padding, groups=groups
    )
    if groups == 1:
        return plain(x, kernel)
    # On a CPU the gradient of XLA's grouped convolution is nine times slower than that of one
    # convolution per group (docs/performance.md).
    convolved: jax.Array = lax.platform_dependent(x, kernel, cpu=by_group, default=plain)
    return convolved
