"""Convolutions with 3x3 kernels and stride 1 in fewer multiplications (Lavin & Gray 2015).

F(m x m, 3 x 3) computes tiles of m x m outputs from tiles of (m + 2) x (m + 2) inputs:

    Y = A^T [(G g G^T) * (B^T d B)] A

with products over tiles and channels for each of the (m + 2)^2 elements (arXiv 1509.09308,
sections 4 and 5). m = 2 needs 2.25 times fewer multiplications than a direct convolution, m = 4
four times fewer. Arithmetic is in float32 at least, for narrower inputs too.

Rounding: relative to the largest output, errors are about those of a direct convolution for m = 2
and ten times as large for m = 4 (`ERROR_BOUND`).
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

KERNEL = 3

Rows = tuple[tuple[float, ...], ...]
# The elements of a tile, or of a kernel, by row and column; each is an array of all tiles.
Grid = list[list[jax.Array]]


class Matrices(NamedTuple):
    """The matrices of F(m x m, 3 x 3), by row."""

    b_transposed: Rows
    g: Rows
    a_transposed: Rows


# Section 4.1 (m = 2) and section 4.3 (m = 4).
MATRICES: dict[int, Matrices] = {
    2: Matrices(
        b_transposed=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
        g=((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
        a_transposed=((1, 1, 1, 0), (0, 1, -1, -1)),
    ),
    4: Matrices(
        b_transposed=(
            (4, 0, -5, 0, 1, 0),
            (0, -4, -4, 1, 1, 0),
            (0, 4, -4, -1, 1, 0),
            (0, -2, -1, 2, 1, 0),
            (0, 2, -1, -2, 1, 0),
            (0, 4, 0, -5, 0, 1),
        ),
        g=(
            (1 / 4, 0, 0),
            (-1 / 6, -1 / 6, -1 / 6),
            (-1 / 6, 1 / 6, -1 / 6),
            (1 / 24, 1 / 12, 1 / 6),
            (1 / 24, -1 / 12, 1 / 6),
            (0, 0, 1),
        ),
        a_transposed=(
            (1, 1, 1, 1, 1, 0),
            (0, 1, -1, 2, -2, 0),
            (0, 1, 1, 4, 4, 0),
            (0, 1, -1, 8, -8, 1),
        ),
    ),
}

# Of results in float32: the largest error relative to the largest output, by m, for channels or
# positions summed over up to some thousands.
ERROR_BOUND = {2: 1e-5, 4: 1e-4}

# Tiles and products of one block of images, in bytes: a block that stays in a processor's shared
# cache is faster (docs/performance.md), and only one block is in memory at a time.
_BLOCK = 2**25


def convolve(
    x: jax.Array, kernel: jax.Array, *, padding: tuple[int, int] = (0, 0), m: int = 2
) -> jax.Array:
    """Convolve (cross-correlate) a batch of maps with a 3x3 kernel, stride 1.

    Args:
      x: `[N, H, W, C]`, float32 or bfloat16.
      kernel: `[3, 3, C, F]`.
      padding: zeros before and after on both axes.
      m: side of a tile of outputs, a key of `MATRICES`.

    Returns:
      `[N, h, w, F]` with `h = H + padding - 2`, in the dtype of x.
    """
    return _convolved(x, kernel, padding=padding, m=m, product="nhwc,cf->nhwf")


def _convolved(
    x: jax.Array, kernel: jax.Array, *, padding: tuple[int, int], m: int, product: str
) -> jax.Array:
    """Convolve with a kernel whose axes for the input and the output are those of `product`."""
    matrices = MATRICES[m]
    height, width = (side + sum(padding) - KERNEL + 1 for side in x.shape[1:3])
    factors = _transformed(matrices.g, _grid(_wide(kernel)))

    def of_block(block: jax.Array) -> jax.Array:
        tiles = _transformed(matrices.b_transposed, _tiles(block, m, (height, width), padding))
        products = [
            [jnp.einsum(product, v, u) for v, u in zip(vs, us, strict=True)]
            for vs, us in zip(tiles, factors, strict=True)
        ]
        outputs = _transformed(matrices.a_transposed, products)
        return _joined(outputs)[:, :height, :width].astype(x.dtype)

    blocks = _blocks(x, _images(x.shape[:3], sum(kernel.shape[2:]), m))
    if len(blocks) == 1:
        return of_block(blocks[0])
    y: jax.Array = lax.map(of_block, blocks)
    return y.reshape(-1, *y.shape[2:])


def input_gradient(
    slopes: jax.Array, kernel: jax.Array, *, padding: tuple[int, int] = (0, 0), m: int = 2
) -> jax.Array:
    """Return the gradient of the input of `convolve`: a convolution with the mirrored kernel.

    Args:
      slopes: `[N, h, w, F]`, the gradient of the output.
      kernel: `[3, 3, C, F]`.
      padding: that of the convolution, at most 2.
      m: side of a tile.

    Returns:
      `[N, H, W, C]`, in the dtype of the slopes.
    """
    before, after = padding
    reach = KERNEL - 1
    # The mirrored kernel keeps its order of channels, because rearranging it in memory is slow.
    return _convolved(
        slopes,
        kernel[::-1, ::-1],
        padding=(reach - before, reach - after),
        m=m,
        product="nhwf,cf->nhwc",
    )


def kernel_gradient(
    x: jax.Array, slopes: jax.Array, *, padding: tuple[int, int] = (0, 0), m: int = 2
) -> jax.Array:
    """Return the gradient of the kernel of `convolve`.

    G^T [sum over tiles of (B^T d B) * (A y A^T)] G, with y the gradient of a tile of outputs.

    Args:
      x: `[N, H, W, C]`.
      slopes: `[N, h, w, F]`, the gradient of the output.
      padding: that of the convolution.
      m: side of a tile.

    Returns:
      `[3, 3, C, F]`, float32 or wider.
    """
    matrices = MATRICES[m]
    height, width = slopes.shape[1:3]

    def of_block(maps: jax.Array, ys: jax.Array) -> Grid:
        tiles = _transformed(matrices.b_transposed, _tiles(maps, m, (height, width), padding))
        ends = [-(-side // m) * m - side for side in (height, width)]
        whole = _wide(jnp.pad(ys, ((0, 0), (0, ends[0]), (0, ends[1]), (0, 0))))
        split = [[whole[:, i::m, j::m] for j in range(m)] for i in range(m)]
        slopes_of_tiles = _transformed(_transposed(matrices.a_transposed), split)
        return [
            [_flat(v).T @ _flat(y) for v, y in zip(vs, ys, strict=True)]
            for vs, ys in zip(tiles, slopes_of_tiles, strict=True)
        ]

    images = _images(x.shape[:3], x.shape[-1] + slopes.shape[-1], m)
    maps, ys = _blocks(x, images), _blocks(slopes, images)
    total = of_block(maps[0], ys[0]) if len(maps) == 1 else _summed(of_block, maps, ys)
    taps = _transformed(_transposed(matrices.g), total)
    return jnp.stack([jnp.stack(row) for row in taps])


def _summed(function: Callable[[jax.Array, jax.Array], Grid], *blocks: jax.Array) -> Grid:
    """Return the sum of a function over blocks, computed one after the other."""
    shapes = jax.eval_shape(function, *(each[0] for each in blocks))
    # Like the blocks, so that inside `shard_map` the sum varies over the same axes of the mesh.
    zeros = jax.tree.map(lambda x: jnp.zeros_like(blocks[0], x.dtype, x.shape), shapes)

    def add(total: Grid, block: tuple[jax.Array, ...]) -> tuple[Grid, None]:
        summed: Grid = jax.tree.map(jnp.add, total, function(*block))
        return summed, None

    total: Grid = lax.scan(add, zeros, blocks)[0]
    return total


def _images(shape: Sequence[int], channels: int, m: int) -> int:
    """Return how many images make a block: as many as fit in `_BLOCK`, at least one."""
    count, height, width = shape
    tiles = -(-height // m) * -(-width // m)
    fit = _BLOCK // ((m + KERNEL - 1) ** 2 * tiles * channels * 4)
    return max(n for n in range(1, count + 1) if count % n == 0 and n <= max(fit, 1))


def _flat(elements: jax.Array) -> jax.Array:
    return elements.reshape(-1, elements.shape[-1])


def _blocks(x: jax.Array, images: int) -> jax.Array:
    return x.reshape(-1, images, *x.shape[1:])


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _grid(kernel: jax.Array) -> Grid:
    return [[kernel[i, j] for j in range(KERNEL)] for i in range(KERNEL)]


def _tiles(x: jax.Array, m: int, outputs: tuple[int, int], padding: tuple[int, int]) -> Grid:
    """Return the inputs of all tiles, `[N, h / m, w / m, C]` for each element of a tile."""
    side = m + KERNEL - 1
    before, _ = padding
    counts = [-(-length // m) for length in outputs]
    # Zeros for the last tiles, or fewer than the convolution's own padding.
    after = [
        (count - 1) * m + side - before - length
        for count, length in zip(counts, x.shape[1:3], strict=True)
    ]
    maps = lax.pad(
        _wide(x),
        jnp.zeros((), _wide(x).dtype),
        ((0, 0, 0), (before, after[0], 0), (before, after[1], 0), (0, 0, 0)),
    )
    spans = [(count - 1) * m + 1 for count in counts]
    return [
        [maps[:, i : i + spans[0] : m, j : j + spans[1] : m] for j in range(side)]
        for i in range(side)
    ]


def _joined(outputs: Grid) -> jax.Array:
    """Put the outputs of all tiles in their places: `[N, m * h, m * w, F]`."""
    m = len(outputs)
    count, height, width, features = outputs[0][0].shape
    rows = [jnp.stack(row, axis=3) for row in outputs]
    return jnp.stack(rows, axis=2).reshape(count, m * height, m * width, features)


def _transformed(matrix: Rows, elements: Grid) -> Grid:
    """Return matrix X matrix^T for the matrix X of each tile."""
    columns = [_combined(matrix, column) for column in zip(*elements, strict=True)]
    return [_combined(matrix, row) for row in zip(*columns, strict=True)]


def _combined(matrix: Rows, elements: Sequence[jax.Array]) -> list[jax.Array]:
    """Return the linear combinations of arrays whose coefficients are the matrix's rows."""
    return [
        functools.reduce(
            jnp.add,
            [c * e if c != 1 else e for c, e in zip(row, elements, strict=True) if c],
        )
        for row in matrix
    ]


def _transposed(matrix: Rows) -> Rows:
    return tuple(zip(*matrix, strict=True))
