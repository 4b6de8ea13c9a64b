import functools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepconv.models import winograd

convolve, input_gradient, kernel_gradient = (
    jax.jit(function, static_argnames=("padding", "m"))
    for function in (winograd.convolve, winograd.input_gradient, winograd.kernel_gradient)
)


def by_hand(x, kernel, padding=(0, 0)):
    """Convolve in float64, tap by tap."""
    x = np.pad(np.asarray(x, np.float64), ((0, 0), padding, padding, (0, 0)))
    kernel = np.asarray(kernel, np.float64)
    height, width = x.shape[1] - 2, x.shape[2] - 2
    return sum(
        x[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3)
    )


def gradients_by_hand(x, kernel, slopes, padding):
    """Return the gradients of the input and of the kernel in float64, tap by tap."""
    kernel, slopes = np.asarray(kernel, np.float64), np.asarray(slopes, np.float64)
    before, after = padding
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), padding, padding, (0, 0)))
    of_padded, of_kernel = np.zeros_like(padded), np.zeros_like(kernel)
    height, width = slopes.shape[1:3]
    for i in range(3):
        for j in range(3):
            window = np.s_[:, i : i + height, j : j + width]
            of_padded[window] += slopes @ kernel[i, j].T
            of_kernel[i, j] = np.einsum("nhwc,nhwf->cf", padded[window], slopes)
    height, width = (side - before - after for side in padded.shape[1:3])
    return of_padded[:, before : before + height, before : before + width], of_kernel


def drawn(height, width, padding, *, channels=5, features=7, count=3):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((count, height, width, channels), np.float32)
    kernel = rng.standard_normal((3, 3, channels, features), np.float32)
    outputs = [side + sum(padding) - 2 for side in (height, width)]
    return x, kernel, rng.standard_normal((count, *outputs, features), np.float32)


def assert_close(found, expected, m):
    assert found.shape == expected.shape
    error = np.abs(np.asarray(found, np.float64) - expected).max() / np.abs(expected).max()
    assert error < winograd.ERROR_BOUND[m]


@pytest.mark.parametrize("m", winograd.MATRICES)
def test_the_matrices_convolve_a_tile_exactly(m):
    # The identity is bilinear: unit vectors for the tile and the kernel prove it for all.
    b, g, a = (
        np.array([[Fraction(v).limit_denominator(24) for v in row] for row in matrix])
        for matrix in winograd.MATRICES[m]
    )
    for d in np.eye(m + 2, dtype=int):
        for taps in np.eye(3, dtype=int):
            expected = [sum(d[i : i + 3] * taps) for i in range(m)]
            assert (a @ ((g @ taps) * (b @ d))).tolist() == expected


# Odd sizes, sizes below a tile, and paddings of either side, with and without.
SIZES = [(7, 10, (1, 1)), (2, 1, (1, 1)), (6, 9, (0, 2))]


@pytest.mark.parametrize("m", winograd.MATRICES)
@pytest.mark.parametrize(("height", "width", "padding"), SIZES)
def test_results_and_gradients_are_those_of_a_direct_convolution(m, height, width, padding):
    x, kernel, slopes = drawn(height, width, padding)
    found = convolve(x, kernel, padding=padding, m=m)
    assert_close(found, by_hand(x, kernel, padding), m)
    of_input, of_kernel = gradients_by_hand(x, kernel, slopes, padding)
    assert_close(input_gradient(slopes, kernel, padding=padding, m=m), of_input, m)
    assert_close(kernel_gradient(x, slopes, padding=padding, m=m), of_kernel, m)


@pytest.mark.parametrize("m", winograd.MATRICES)
def test_the_error_bound_holds_for_many_channels(m):
    x, kernel, slopes = drawn(14, 14, (1, 1), channels=512, features=8, count=2)
    x = np.maximum(x, 0)  # as after a ReLU, where the sums have no zero mean
    assert_close(convolve(x, kernel, padding=(1, 1), m=m), by_hand(x, kernel, (1, 1)), m)
    found = kernel_gradient(x, slopes, padding=(1, 1), m=m)
    assert_close(found, gradients_by_hand(x, kernel, slopes, (1, 1))[1], m)


@pytest.mark.parametrize("m", winograd.MATRICES)
def test_blocks_of_images_change_nothing(m, monkeypatch):
    x, kernel, slopes = drawn(6, 6, (1, 1), count=6)
    whole = convolve(x, kernel, padding=(1, 1), m=m)
    gradient = kernel_gradient(x, slopes, padding=(1, 1), m=m)
    jax.clear_caches()
    monkeypatch.setattr(winograd, "_BLOCK", 2 * (m + 2) ** 2 * 9 * 12 * 4)
    assert 1 < winograd._images(x.shape[:3], 12, m) < 6
    assert_close(convolve(x, kernel, padding=(1, 1), m=m), whole, m)
    assert_close(kernel_gradient(x, slopes, padding=(1, 1), m=m), gradient, m)


def test_bfloat16_is_rounded_once():
    x, kernel, slopes = drawn(8, 8, (1, 1))
    x, kernel, slopes = (jnp.asarray(array, jnp.bfloat16) for array in (x, kernel, slopes))
    narrow = functools.partial(jnp.asarray, dtype=jnp.float32)
    found = convolve(x, kernel, padding=(1, 1))
    assert found.dtype == jnp.bfloat16
    exact = by_hand(narrow(x), narrow(kernel), (1, 1))
    # Half a unit in the last of 8 bits, and what float32 adds.
    np.testing.assert_allclose(narrow(found), exact, rtol=2**-8, atol=1e-5 * np.abs(exact).max())
    found = kernel_gradient(x, slopes, padding=(1, 1))
    assert found.dtype == jnp.float32
    _, of_kernel = gradients_by_hand(narrow(x), narrow(kernel), narrow(slopes), (1, 1))
    assert_close(found, of_kernel, 2)


def test_only_the_tiles_of_one_block_are_in_memory():
    maps = jax.ShapeDtypeStruct((16, 56, 56, 128), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 128, 128), jnp.float32)
    function = functools.partial(winograd.convolve, padding=(1, 1))
    sizes = jax.jit(function).lower(maps, kernel).compile().memory_analysis()
    if sizes is None:
        pytest.skip("this backend does not report a program's memory")
    assert sizes.temp_size_in_bytes < 3 * winograd._BLOCK
