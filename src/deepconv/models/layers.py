"""The layers of both papers: a network is a tuple of layer records, each with one pure function.

    layers = (Conv("conv1_1", 64, 3, padding=(1, 1)), Activation("relu1_1"), Pool("pool1", 2, 2))
    for layer in layers:
        size = output_size(layer, size)

The records are plain data: `network.py` runs them and `summary.py` counts them, and neither needs
to know which network it has been given.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


@dataclasses.dataclass(frozen=True)
class Conv:
    """A convolution; a fully connected layer is one whose kernel spans its whole input map.

    Attributes:
      name: Caffe's name of the layer, the key of its parameters.
      features: number of output channels.
      kernel: side of the square kernel, in input pixels.
      stride: step between outputs, in input pixels.
      padding: zeros before and after, on both axes.
      groups: the channels are split into this many groups that do not see each other.
      std: standard deviation of the paper's initial weights.
      bias: the paper's initial bias.
      fully_connected: whether the kernel spans the whole map of a crop.
      gather: mesh axis to all-gather the input's channels over; "" if they are not sharded. See
        `towers`.
    """

    name: str
    features: int
    kernel: int
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    std: float = 0.01
    bias: float = 0.0
    fully_connected: bool = False
    gather: str = ""


@dataclasses.dataclass(frozen=True)
class LocalConv:
    """A convolution with its own kernel and bias at every position; stride 1, fixed map size."""

    name: str
    features: int
    kernel: int
    padding: tuple[int, int] = (0, 0)
    std: float = 0.01
    bias: float = 0.0


@dataclasses.dataclass(frozen=True)
class Activation:
    """An elementwise non-linearity."""

    name: str
    function: Literal["relu", "tanh"] = "relu"


@dataclasses.dataclass(frozen=True)
class LRN:
    """Local response normalization across channels; `alpha` multiplies the plain sum of squares."""

    name: str
    size: int = 5
    k: float = 2.0
    alpha: float = 1e-4
    beta: float = 0.75
    groups: int = 1


@dataclasses.dataclass(frozen=True)
class Pool:
    """Max-pooling; with `ceil` the last window may extend past the edge, as in cuda-convnet."""

    name: str
    window: int
    stride: int
    ceil: bool = False


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Dropout; `scale_at` says when outputs are rescaled to keep their expectation.

    AlexNet multiplies by `1 - rate` at test time ("test"); Caffe, and therefore VGG, divides by it
    in training ("train"). `gather` is as in `Conv`.
    """

    name: str
    rate: float = 0.5
    scale_at: Literal["train", "test"] = "train"
    gather: str = ""


Layer = Conv | LocalConv | Activation | LRN | Pool | Dropout

# By the name used in JSON.
_KINDS: dict[str, Callable[..., Layer]] = {
    kind.__name__: kind for kind in (Conv, LocalConv, Activation, LRN, Pool, Dropout)
}


@jax.custom_jvp
def relu(x: jax.Array) -> jax.Array:
    """Compute max(x, 0); the gradient is that of the outputs that are not 0.

    With `jax.nn.relu`, whose gradient depends on x, a compiler keeps x for the backward pass, and
    therefore does not fuse the function with the convolution before it.
    """
    return jnp.maximum(x, 0)


# Not `y > 0`: XLA's simplifier turns it into x > 0.
relu.defjvps(lambda slope, y, x: jnp.where(y != 0, slope, jnp.zeros((), slope.dtype)))

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {"relu": relu, "tanh": jnp.tanh}


def layers_to_json(layers: Sequence[Layer]) -> list[dict[str, Any]]:
    """Return a network's layers as JSON values, `{"kind": "Conv", "name": "conv1", ...}` each."""
    return [{"kind": type(layer).__name__, **dataclasses.asdict(layer)} for layer in layers]


def layers_from_json(value: Sequence[Mapping[str, Any]]) -> tuple[Layer, ...]:
    """Return the layers from what `layers_to_json` returned.

    Raises:
      ValueError: if a record is not a layer; the message gives its number.
    """
    return tuple(_layer_from_json(number, record) for number, record in enumerate(value))


def _layer_from_json(number: int, record: Mapping[str, Any]) -> Layer:
    fields = {
        name: tuple(item) if isinstance(item, list) else item for name, item in record.items()
    }
    kind = fields.pop("kind", None)
    if kind not in _KINDS:
        raise ValueError(f"layer {number} has unknown kind {kind!r}; known: {', '.join(_KINDS)}")
    try:
        return _KINDS[kind](**fields)
    except TypeError as error:
        raise ValueError(f"layer {number}: {error}") from None


Size = TypeVar("Size", int, jax.Array)


def output_size(layer: Layer, size: Size) -> Size:
    """Return the side of the layer's output map for an input map of side `size`, in pixels.

    Given an array of sides, return an array.
    """
    match layer:
        case Conv():
            return (size + sum(layer.padding) - layer.kernel) // layer.stride + 1
        case LocalConv():
            return size + sum(layer.padding) - layer.kernel + 1
        case Pool(ceil=True):
            return -((layer.window - size) // layer.stride) + 1
        case Pool():
            return (size - layer.window) // layer.stride + 1
    return size


def map_size(layers: Sequence[Layer], size: int) -> int:
    """Return the side of the output map of `layers` for an input of side `size`.

    Raises:
      ValueError: if a layer's output would be empty; the message names the layer.
    """
    for layer in layers:
        before, size = size, output_size(layer, size)
        if size < 1:
            raise ValueError(f"a map of {before}x{before} is too small for layer {layer.name}")
    return size


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
    groups: int = 1,
) -> jax.Array:
    """Convolve (cross-correlate) a batch of maps.

    Args:
      x: `[N, H, W, C]`.
      kernel: `[K, K, C / groups, F]`; group g of the inputs produces block g of the outputs.
      stride: step between outputs on both axes.
      padding: zeros before and after on both axes.
      groups: number of groups of channels.

    Returns:
      `[N, h, w, F]` with `h = floor((H + padding - K) / stride) + 1`.
    """
    side, _, channels, features = kernel.shape
    if groups == 1 and padding == (0, 0) and x.shape[1:3] == (side, side):
        flat = x.reshape(x.shape[0], side * side * channels)
        return (flat @ kernel.reshape(-1, features))[:, None, None, :]
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=(padding, padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def convolve_by_group(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
    groups: int = 1,
    convolve: Callable[..., jax.Array] = convolve,
) -> jax.Array:
    """Convolve as `convolve`, with one convolution per group, by default of `convolve` itself."""
    pairs = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
    return jnp.concatenate(
        [convolve(a, k, stride=stride, padding=padding) for a, k in pairs], axis=-1
    )


def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """Add a bias in the dtype of x; the bias gradient is summed in the dtype of the bias.

    Args:
      x: `[N, H, W, F]`.
      bias: float32 `[F]`, or `[H, W, F]` for a bias at every position.

    Returns:
      `[N, H, W, F]`, in the dtype of x.
    """
    # Broadcast first, then cast: the gradient's N * H * W terms are then cast to float32 before
    # they are summed. In bfloat16, with its 8 bits, a sum of ones stops at 256. The result is the
    # same as casting the bias alone, and compilers move the cast back there, so a convolution is
    # still fused with its bias and ReLU.
    return x + jnp.broadcast_to(bias, x.shape).astype(x.dtype)


def zero_beyond(x: jax.Array, extents: jax.Array) -> jax.Array:
    """Zero everything beyond each map's own (height, width).

    Args:
      x: `[N, H, W, C]`.
      extents: `[N, 2]` int.
    """
    own = inside(extents, x.shape[1], x.shape[2])
    return jnp.where(own, x, jnp.zeros((), x.dtype))


def inside(extents: jax.Array, height: int, width: int) -> jax.Array:
    """Return a mask of the positions within each map's own (height, width), `extents` `[N, 2]`.

    Returns:
      bool `[N, height, width, 1]`.
    """
    rows = jnp.arange(height) < extents[:, :1]
    columns = jnp.arange(width) < extents[:, 1:]
    return rows[:, :, None, None] & columns[:, None, :, None]


def mirrored(x: jax.Array, extents: jax.Array) -> jax.Array:
    """Mirror each map within its own width; what lies beyond it is meaningless.

    Args:
      x: `[N, H, W, C]`.
      extents: `[N, 2]` int, (height, width).
    """
    columns = extents[:, 1:] - 1 - jnp.arange(x.shape[2])
    return jnp.take_along_axis(x, jnp.maximum(columns, 0)[:, None, :, None], axis=2)


def convolve_locally(
    x: jax.Array, kernel: jax.Array, *, side: int, padding: tuple[int, int]
) -> jax.Array:
    """Convolve with a separate kernel at every position.

    Args:
      x: `[N, H, W, C]`.
      kernel: `[h, w, K * K * C, F]` with `K = side`; a patch is ordered row, column, channel.
      side: K.
      padding: zeros before and after on both axes.

    Returns:
      `[N, h, w, F]`.
    """
    x = jnp.pad(x, ((0, 0), padding, padding, (0, 0)))
    height, width = (length - side + 1 for length in x.shape[1:3])
    shifts = [(i, j) for i in range(side) for j in range(side)]
    patches = jnp.concatenate([x[:, i : i + height, j : j + width] for i, j in shifts], axis=-1)
    return jnp.einsum("nhwk,hwkf->nhwf", patches, kernel)


@jax.named_scope("max_pool")
def max_pool(x: jax.Array, *, window: int, stride: int, ceil: bool = False) -> jax.Array:
    """Take the maximum of square windows.

    Computed as the maximum of strided slices, one axis after the other, instead of a windowed
    reduction: the values are the same and the gradient is far cheaper on a CPU. Tied maxima share
    the gradient; after a ReLU ties are zeros, where the gradient is zero anyway.

    Args:
      x: `[N, H, W, C]`.
      window: side z of the windows.
      stride: step s between windows.
      ceil: whether the last window may extend past the edge.

    Returns:
      `[N, h, w, C]` with `h = (H - z) / s + 1`, rounded down, or up with `ceil`.
    """
    layer = Pool("", window, stride, ceil)
    for axis in (1, 2):
        outputs = output_size(layer, x.shape[axis])
        covered = (outputs - 1) * stride + window
        if covered > x.shape[axis]:
            lowest = jnp.array(-jnp.inf, x.dtype)
            x = lax.pad(
                x, lowest, [(0, covered - x.shape[axis] if a == axis else 0, 0) for a in range(4)]
            )
        slices = [
            lax.slice_in_dim(x, i, i + (outputs - 1) * stride + 1, stride, axis)
            for i in range(window)
        ]
        x = slices[0]
        for other in slices[1:]:
            x = jnp.maximum(x, other)
    return x


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool_to_first(x: jax.Array, window: int) -> jax.Array:
    """Take the maximum of square windows that do not overlap: `max_pool` with stride `window`.

    Of tied maxima the first in its window has the whole gradient, as in Caffe, cuDNN and PyTorch;
    it is computed from the maps before and after, which a network keeps anyway.
    """
    return max_pool(x, window=window, stride=window)


def _pool_forward(x: jax.Array, window: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = max_pool(x, window=window, stride=window)
    return y, (x, y)


@jax.named_scope("max_pool")
def _pool_backward(
    window: int, maps: tuple[jax.Array, jax.Array], slopes: jax.Array
) -> tuple[jax.Array]:
    x, y = maps
    zero = jnp.zeros((), slopes.dtype)
    given, of_x = jnp.zeros(y.shape, bool), jnp.zeros(x.shape, slopes.dtype)
    # From the first to the last of the inputs at one place of their windows.
    span = [(length - 1) * window + 1 for length in y.shape[1:3]]
    for i, j in np.ndindex(window, window):
        ends = (x.shape[0], i + span[0], j + span[1], x.shape[3])
        maximal = y == lax.slice(x, (0, i, j, 0), ends, (1, window, window, 1))
        own = jnp.where(maximal & ~given, slopes, zero)
        given |= maximal
        edges = [
            (before, length - before - reach, window - 1)
            for before, length, reach in zip((i, j), x.shape[1:3], span, strict=True)
        ]
        of_x += lax.pad(own, zero, [(0, 0, 0), *edges, (0, 0, 0)])
    return (of_x,)


max_pool_to_first.defvjp(_pool_forward, _pool_backward)


@jax.named_scope("local_response_norm")
def local_response_norm(
    x: jax.Array,
    *,
    size: int = 5,
    k: float = 2.0,
    alpha: float = 1e-4,
    beta: float = 0.75,
    groups: int = 1,
    written: bool = False,
) -> jax.Array:
    r"""Normalize each activation by its neighbors across channels (AlexNet, section 3.3).

    b_i = a_i / (k + alpha * sum_j a_j^2)^beta, j from i - size // 2 to i + size // 2 within the
    group.

    alpha multiplies the sum of squares, not their mean: for nets that divide alpha by `size` (the
    original code, Caffe), pass the quotient. Computed in float32 whatever the dtype of x.

    Args:
      x: `[N, H, W, C]`.
      size: number of channels in a window, odd.
      k: added to the sum.
      alpha: factor of the sum.
      beta: exponent.
      groups: number of equal blocks of channels; a window does not cross from one to the next.
      written: whether the compiler has to write two of the gradient's maps to memory, instead of
        computing them where they are used.

    Returns:
      `[N, H, W, C]`, in the dtype of x.
    """
    return _normalized(x, LRN("", size, k, alpha, beta, groups), written)


def _scale(x: jax.Array, layer: LRN) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return x in groups, the denominator without its power, and its power -beta, in float32."""
    a = x.astype(jnp.float32).reshape(*x.shape[:-1], layer.groups, x.shape[-1] // layer.groups)
    denominator = layer.k + layer.alpha * _window_sums(jnp.square(a), layer.size)
    if layer.beta == 0.75:
        # d^(-3/4) from two square roots: several times cheaper than a general power.
        root = lax.rsqrt(denominator)
        return a, denominator, root * jnp.sqrt(root)
    return a, denominator, denominator**-layer.beta


def _window_sums(a: jax.Array, size: int) -> jax.Array:
    ones, none, reach = (1,) * (a.ndim - 1), ((0, 0),) * (a.ndim - 1), size // 2
    sums: jax.Array = lax.reduce_window(
        a, 0.0, lax.add, (*ones, size), (*ones, 1), (*none, (reach, reach))
    )
    return sums


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _normalized(x: jax.Array, layer: LRN, written: bool) -> jax.Array:
    del written
    a, _, scale = _scale(x, layer)
    return (a * scale).reshape(x.shape).astype(x.dtype)


def _normalized_forward(x: jax.Array, layer: LRN, written: bool) -> tuple[jax.Array, jax.Array]:
    return _normalized(x, layer, written), x


@jax.named_scope("local_response_norm")
def _normalized_backward(
    layer: LRN, written: bool, x: jax.Array, slopes: jax.Array
) -> tuple[jax.Array]:
    # With d_i the denominator without its power and g the slopes, the gradient is
    #   g_i d_i^-beta - 2 alpha beta a_i sum_j g_j a_j d_j^(-beta - 1).
    # Only x is kept for it, in its own dtype.
    if written:
        x, slopes = lax.optimization_barrier((x, slopes))
    a, denominator, scale = _scale(x, layer)
    g = slopes.astype(jnp.float32).reshape(a.shape)
    terms = (g * a * scale / denominator).astype(x.dtype)
    if written:
        terms = lax.optimization_barrier(terms)
    sums = _window_sums(terms.astype(jnp.float32), layer.size)
    of_x = g * scale - 2 * layer.alpha * layer.beta * a * sums
    return (of_x.reshape(x.shape).astype(x.dtype),)


_normalized.defvjp(_normalized_forward, _normalized_backward)


def dropout(x: jax.Array, keys: jax.Array | None, *, rate: float, scale_at: str) -> jax.Array:
    """Drop units at random in training; rescale at test time where `scale_at` says so.

    Args:
      x: `[N, H, W, C]`.
      keys: `[N]`, one key per example, so that an example's mask does not depend on its device or
        batch; None at test time.
      rate: the probability that a unit is dropped.
      scale_at: see `Dropout`.

    Returns:
      `[N, H, W, C]`.
    """
    keep = 1.0 - rate
    if keys is None:
        return x * keep if scale_at == "test" else x
    mask = jax.vmap(lambda key: jax.random.bernoulli(key, keep, x.shape[1:]))(keys)
    kept = x / keep if scale_at == "train" else x
    return jnp.where(mask, kept, jnp.zeros((), x.dtype))
