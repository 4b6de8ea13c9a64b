"""Which algorithm computes a convolution: the one place that decides.

The shapes decide while a network is traced, the platform when its program is lowered: a program
for a GPU has XLA's convolutions only, from whatever machine it is compiled. docs/performance.md
has the measurements behind the rule.
"""

import functools

import jax
from jax import lax

from deepconv.models import winograd

Padding = tuple[int, int]

# Where Winograd's algorithm is faster: with fewer channels, the tiles' transforms take longer than
# the products save, and small maps have too few tiles.
_CHANNELS = 256
_SIDE = 12
# From this side, F(4x4, 3x3) is the faster one for the gradient of a kernel.
_LARGE = 28


def convolve(x: jax.Array, kernel: jax.Array, *, stride: int, padding: Padding) -> jax.Array:
    """Convolve maps `[N, H, W, C]` with a kernel `[K, K, C, F]`; see `layers.convolve`.

    Where Winograd's algorithm is the faster one on a CPU, the result can be differentiated in
    reverse mode only.
    """
    if stride == 1 and max(padding) < kernel.shape[0] and pays(x.shape, kernel.shape):
        return _chosen(x, kernel, padding)
    return _direct(x, kernel, stride=stride, padding=padding)


def pays(maps: tuple[int, ...], kernel: tuple[int, ...]) -> bool:
    """Return whether Winograd's algorithm is faster on a CPU for a convolution with stride 1.

    Args:
      maps: `[N, H, W, C]`; sides that are symbols count as too small.
      kernel: `[K, K, C, F]`.
    """
    height, width = maps[1:3]
    return (
        kernel[0] == winograd.KERNEL
        and min(kernel[2:]) >= _CHANNELS
        and all(isinstance(side, int) and side > 0 for side in maps)
        and min(height, width) >= _SIDE
    )


def _direct(x: jax.Array, kernel: jax.Array, *, stride: int, padding: Padding) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=(padding, padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


# A rule of its own, because what differentiation makes of `platform_dependent` keeps what either
# branch needs. Winograd's gradient needs the input and the kernel only, not the tiles.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _chosen(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    y: jax.Array = lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(winograd.convolve, padding=padding),
        default=functools.partial(_direct, stride=1, padding=padding),
    )
    return y


def _forward(
    x: jax.Array, kernel: jax.Array, padding: Padding
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _chosen(x, kernel, padding), (x, kernel)


def _backward(
    padding: Padding, kept: tuple[jax.Array, jax.Array], slopes: jax.Array
) -> tuple[jax.Array, jax.Array]:
    m = 4 if min(kept[0].shape[1:3]) >= _LARGE else 2

    def of_input(x: jax.Array, kernel: jax.Array, slopes: jax.Array) -> jax.Array:
        return winograd.input_gradient(slopes, kernel, padding=padding)

    def of_kernel(x: jax.Array, kernel: jax.Array, slopes: jax.Array) -> jax.Array:
        gradient = winograd.kernel_gradient(x, slopes, padding=padding, m=m)
        return gradient.astype(kernel.dtype)

    def direct(argument: int, x: jax.Array, kernel: jax.Array, slopes: jax.Array) -> jax.Array:
        _, pull = jax.vjp(functools.partial(_direct, stride=1, padding=padding), x, kernel)
        gradient: jax.Array = pull(slopes)[argument]
        return gradient

    return (
        lax.platform_dependent(*kept, slopes, cpu=of_input, default=functools.partial(direct, 0)),
        lax.platform_dependent(*kept, slopes, cpu=of_kernel, default=functools.partial(direct, 1)),
    )


_chosen.defvjp(_forward, _backward)
