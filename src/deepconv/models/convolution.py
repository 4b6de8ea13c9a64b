"""Whether Winograd's algorithm or XLA's convolution computes a layer: the one place that decides.

The shapes decide while a network is traced, the platform when its program is lowered: a program
for a GPU has XLA's convolutions only, from whatever machine it is compiled. docs/performance.md
has the measurements behind the rule.
"""

import functools

import jax
from jax import lax

from deepconv.models import layers, winograd

Padding = tuple[int, int]

# The products of C F channels pay for the transforms of C + F only if C F / (C + F) is large.
_CHANNELS = 80
# Smaller maps have too few tiles; for the kernel's gradient, this limit and that of F(4x4, 3x3).
_SIDE = 12
_SIDE_OF_KERNEL = 14
_SIDE_OF_LARGE_TILES = 28


def convolve(
    x: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: Padding = (0, 0)
) -> jax.Array:
    """Convolve maps `[N, H, W, C]` with a kernel `[K, K, C, F]`; see `layers.convolve`.

    Where Winograd's algorithm is the faster one on a CPU, the result can be differentiated in
    reverse mode only.
    """
    if stride == 1 and max(padding) < kernel.shape[0] and pays(x.shape, kernel.shape):
        return _chosen(x, kernel, padding)
    return layers.convolve(x, kernel, stride=stride, padding=padding)


def pays(maps: tuple[int, ...], kernel: tuple[int, ...]) -> bool:
    """Return whether Winograd's algorithm is faster on a CPU for a convolution with stride 1.

    Args:
      maps: `[N, H, W, C]`; sides that are symbols count as too small.
      kernel: `[K, K, C, F]`.
    """
    channels, features = kernel[2:]
    return (
        kernel[0] == winograd.KERNEL
        and channels * features >= _CHANNELS * (channels + features)
        and all(isinstance(side, int) and side > 0 for side in maps)
        and min(maps[1:3]) >= _SIDE
    )


# A rule of its own, because what differentiation makes of `platform_dependent` keeps what either
# branch needs. Winograd's gradient needs the input and the kernel only, not the tiles.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _chosen(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    y: jax.Array = lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(winograd.convolve, padding=padding),
        default=functools.partial(layers.convolve, padding=padding),
    )
    return y


def _forward(
    x: jax.Array, kernel: jax.Array, padding: Padding
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _chosen(x, kernel, padding), (x, kernel)


def _backward(
    padding: Padding, kept: tuple[jax.Array, jax.Array], slopes: jax.Array
) -> tuple[jax.Array, jax.Array]:
    side = min(kept[0].shape[1:3])
    m = 4 if side >= _SIDE_OF_LARGE_TILES else 2

    def of_input(x: jax.Array, kernel: jax.Array, slopes: jax.Array) -> jax.Array:
        return winograd.input_gradient(slopes, kernel, padding=padding)

    def of_kernel(x: jax.Array, kernel: jax.Array, slopes: jax.Array) -> jax.Array:
        gradient = winograd.kernel_gradient(x, slopes, padding=padding, m=m)
        return gradient.astype(kernel.dtype)

    def direct(argument: int, x: jax.Array, kernel: jax.Array, slopes: jax.Array) -> jax.Array:
        _, pull = jax.vjp(functools.partial(layers.convolve, padding=padding), x, kernel)
        gradient: jax.Array = pull(slopes)[argument]
        return gradient

    direct_of_kernel = functools.partial(direct, 1)
    return (
        lax.platform_dependent(*kept, slopes, cpu=of_input, default=functools.partial(direct, 0)),
        lax.platform_dependent(
            *kept,
            slopes,
            cpu=of_kernel if side >= _SIDE_OF_KERNEL else direct_of_kernel,
            default=direct_of_kernel,
        ),
    )


_chosen.defvjp(_forward, _backward)
