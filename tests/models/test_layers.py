"""Each layer's function against loops in float64 that follow its definition."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from deepconv import models
from deepconv.models import layers
from deepconv.models.alexnet import LRN_CONVENTIONS
from deepconv.models.layers import LRN, Activation, Conv, Dropout, LocalConv, Pool

VECTORS = json.loads((Path(__file__).parents[1] / "paper_tables.json").read_text())["test_vectors"]


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


U = 2.0**-24  # half the distance of float32 numbers at 1


def assert_sums(found, expected, sizes, terms):
    """Compare sums of float32 products with exact ones.

    In whatever order n products are summed, the sum is off by at most n U times the sum of their
    sizes, which is `sizes`.
    """
    assert found.shape == expected.shape
    assert (np.abs(np.asarray(found, np.float64) - expected) <= terms * U * sizes).all()


def assert_convolution(found, x, kernel, **options):
    expected = convolve_by_loops(x, kernel, **options)
    sizes = convolve_by_loops(np.abs(x), np.abs(kernel), **options)
    assert_sums(found, expected, sizes, terms=kernel[..., 0].size)


def convolve_by_loops(x, kernel, stride=1, padding=(0, 0), groups=1):
    x, kernel = x.astype(np.float64), kernel.astype(np.float64)
    x = np.pad(x, ((0, 0), padding, padding, (0, 0)))
    side, _, channels, features = kernel.shape
    height, width = ((length - side) // stride + 1 for length in x.shape[1:3])
    out = np.zeros((len(x), height, width, features))
    for i in range(height):
        for j in range(width):
            patch = x[:, i * stride : i * stride + side, j * stride : j * stride + side]
            for f in range(features):
                first = f // (features // groups) * channels
                group = patch[..., first : first + channels]
                out[:, i, j, f] = (group * kernel[..., f]).sum(axis=(1, 2, 3))
    return out


CONVOLUTIONS = pytest.mark.parametrize("convolve", [layers.convolve, layers.convolve_by_group])


@CONVOLUTIONS
@pytest.mark.parametrize(
    ("side", "options"),
    [
        (3, {"padding": (1, 1)}),
        (5, {"stride": 4, "padding": (0, 3)}),
        (5, {"padding": (2, 2), "groups": 2}),
        (3, {"stride": 2, "groups": 3}),
        (1, {}),
        (1, {"groups": 2}),
    ],
)
def test_convolution(side, options, convolve):
    x, kernel = draw(2, 9, 11, 6), draw(side, side, 6 // options.get("groups", 1), 12, seed=1)
    assert_convolution(convolve(x, kernel, **options), x, kernel, **options)


@CONVOLUTIONS
@pytest.mark.parametrize("groups", [1, 2])
def test_a_kernel_as_large_as_the_map(groups, convolve):
    x, kernel = draw(3, 4, 4, 6), draw(4, 4, 6 // groups, 8, seed=1)
    assert_convolution(convolve(x, kernel, groups=groups), x, kernel, groups=groups)


def test_a_larger_map_holds_the_full_map_product_of_each_window():
    x, kernel = draw(2, 5, 6, 3), draw(4, 4, 3, 7, seed=1)
    score_map = layers.convolve(x, kernel)
    assert score_map.shape == (2, 2, 3, 7)
    for i, j in np.ndindex(2, 3):
        window = x[:, i : i + 4, j : j + 4]
        assert_convolution(layers.convolve(window, kernel), window, kernel)
        assert_convolution(score_map[:, i : i + 1, j : j + 1], window, kernel)


@pytest.mark.parametrize("padding", [(1, 1), (0, 0)])
def test_local_convolution_orders_a_patch_by_row_column_channel(padding):
    side = 5 + sum(padding) - 2
    x, kernel = draw(2, 5, 5, 4), draw(side, side, 9 * 4, 6, seed=1)
    padded = np.pad(x.astype(np.float64), ((0, 0), padding, padding, (0, 0)))
    expected, sizes = np.zeros((2, 2, side, side, 6))
    for i, j in np.ndindex(side, side):
        patch = padded[:, i : i + 3, j : j + 3].reshape(2, -1)
        weights = kernel[i, j].astype(np.float64)
        expected[:, i, j], sizes[:, i, j] = patch @ weights, np.abs(patch) @ np.abs(weights)
    actual = layers.convolve_locally(x, kernel, side=3, padding=padding)
    assert_sums(actual, expected, sizes, terms=9 * 4)


@pytest.mark.parametrize(
    ("height", "width", "window", "stride", "ceil", "expected"),
    [
        (6, 8, 2, 2, False, (3, 4)),
        (7, 5, 2, 2, False, (3, 2)),
        (7, 13, 3, 2, False, (3, 6)),
        (8, 6, 3, 2, False, (3, 2)),
        (8, 7, 3, 2, True, (4, 3)),
        (24, 12, 3, 2, True, (12, 6)),
    ],
)
def test_max_pooling(height, width, window, stride, ceil, expected):
    x = draw(2, height, width, 3) - 5  # below zero, where padding with zeros would win
    pooled = layers.max_pool(x, window=window, stride=stride, ceil=ceil)
    assert pooled.shape == (2, *expected, 3)
    for i, j in np.ndindex(*expected):
        rows = slice(i * stride, i * stride + window)
        columns = slice(j * stride, j * stride + window)
        np.testing.assert_array_equal(pooled[:, i, j], x[:, rows, columns].max(axis=(1, 2)))


@pytest.mark.parametrize(("window", "size"), [(2, 6), (3, 7)])
def test_gradient_of_max_pooling_goes_to_the_maxima(window, size):
    values = np.random.default_rng(0).permutation(2 * size * size * 3)  # no two are equal
    x = jnp.asarray(values.reshape(2, size, size, 3), jnp.float32)
    weights = draw(2, 3, 3, 3)

    def by_windows(x):
        shape, strides = (1, window, window, 1), (1, 2, 2, 1)
        return jnp.sum(weights * lax.reduce_window(x, -jnp.inf, lax.max, shape, strides, "VALID"))

    def by_slices(x):
        return jnp.sum(weights * layers.max_pool(x, window=window, stride=2))

    # A place is in at most four windows.
    atol = 2 * 4 * U * 4 * np.abs(weights).max()
    np.testing.assert_allclose(jax.grad(by_slices)(x), jax.grad(by_windows)(x), rtol=0, atol=atol)


@pytest.mark.parametrize(("window", "height", "width"), [(2, 6, 8), (2, 7, 5), (3, 9, 11)])
def test_gradient_of_max_pooling_goes_to_the_first_maximum(window, height, width):
    x = jnp.asarray(np.random.default_rng(0).integers(0, 3, (2, height, width, 3)), jnp.float32)

    def by_windows(x):
        shape = (1, window, window, 1)
        return lax.reduce_window(x, -jnp.inf, lax.max, shape, shape, "VALID")

    expected, pull = jax.vjp(by_windows, x)
    found, own = jax.vjp(lambda x: layers.max_pool_to_first(x, window), x)
    np.testing.assert_array_equal(found, expected)
    slopes = draw(*expected.shape)
    np.testing.assert_array_equal(own(slopes)[0], pull(slopes)[0])


# Up to nine squares and k are summed, all positive; of that sum, off by 12 U, the power -3/4 is
# taken, by roots or a logarithm and an exponential that are good to 8 U and more where it is large.
NORMALIZED = 40 * U


def normalize_by_loops(x, size=5, k=2.0, alpha=1e-4, beta=0.75, groups=1):
    x = x.astype(np.float64)
    out = np.empty_like(x)
    channels = x.shape[-1]
    for i in range(channels):
        first = i // (channels // groups) * (channels // groups)
        window = range(
            max(first, i - size // 2), min(first + channels // groups, i + size // 2 + 1)
        )
        total = sum(x[..., j] ** 2 for j in window)
        out[..., i] = x[..., i] / (k + alpha * total) ** beta
    return out


@pytest.mark.parametrize(
    ("convention", "factor", "vector"),
    [
        ("paper", 1, "lrn_paper"),
        ("paper", 100, "lrn_input_x100_paper"),
        ("original_code", 1, "lrn_original_code_alpha_over_n_k2"),
        ("caffe", 1, "lrn_caffe_alpha_over_n_k1"),
    ],
)
def test_normalization_gives_the_published_vectors(convention, factor, vector):
    x = factor * jnp.array(VECTORS["lrn_input"], jnp.float32).reshape(1, 1, 1, -1)
    normalized = layers.local_response_norm(x, **LRN_CONVENTIONS[convention])
    np.testing.assert_allclose(normalized.ravel(), VECTORS[vector], rtol=NORMALIZED)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"groups": 2},
        {"size": 9, "k": 1.0, "alpha": 0.001 / 9},
        {"size": 3, "beta": 0.5, "groups": 3},
    ],
)
def test_normalization(options):
    x = 100 * draw(2, 3, 4, 12)
    actual = layers.local_response_norm(x, **options)
    np.testing.assert_allclose(actual, normalize_by_loops(x, **options), rtol=NORMALIZED)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("options", [{}, {"groups": 2}, {"size": 3, "beta": 0.5, "groups": 3}])
def test_gradient_of_normalization(options, dtype, written):
    x = jnp.asarray(100 * draw(2, 3, 4, 12), dtype)
    slopes = jnp.asarray(draw(2, 3, 4, 12, seed=1), dtype)
    _, pull = jax.vjp(functools.partial(layers.local_response_norm, **options, written=written), x)
    (of_x,) = pull(slopes)
    assert of_x.dtype == x.dtype
    a, g = np.asarray(x, np.float64), np.asarray(slopes, np.float64)
    settings = {"size": 5, "k": 2.0, "alpha": 1e-4, "beta": 0.75, "groups": 1, **options}
    size, k, alpha, beta, groups = (settings[name] for name in settings)
    channels = a.shape[-1] // groups
    i = np.arange(a.shape[-1])
    near = (np.abs(i[:, None] - i) <= size // 2) & (i[:, None] // channels == i // channels)
    d = k + alpha * a**2 @ near
    terms = g * a * d ** (-beta - 1)
    expected = g * d**-beta - 2 * alpha * beta * a * (terms @ near)
    sizes = np.abs(g) * d**-beta + 2 * alpha * beta * np.abs(a) * (np.abs(terms) @ near)
    # Three times NORMALIZED for the two powers and the second sum; in bfloat16 the terms and the
    # result are rounded too.
    bound = 3 * NORMALIZED + (2 * 2.0**-8 if dtype == "bfloat16" else 0)
    assert (np.abs(np.asarray(of_x, np.float64) - expected) <= bound * sizes).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradient_of_relu(dtype):
    x = jnp.array([-jnp.inf, -1.0, -1e-30, -0.0, 0.0, 1e-30, 2.0, jnp.inf], dtype)
    y, pull = jax.vjp(layers.relu, x)
    np.testing.assert_array_equal(y, np.maximum(np.asarray(x), 0))
    (slopes,) = pull(jnp.full_like(x, 3))
    np.testing.assert_array_equal(slopes, [0, 0, 0, 0, 0, 3, 3, 3])
    assert np.isnan(layers.relu(jnp.array(jnp.nan, dtype)))


@pytest.mark.parametrize("shape", [(7,), (5, 6, 7)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_bias_is_added_in_the_dtype_of_the_map(shape, dtype):
    x, bias = jnp.asarray(draw(4, 5, 6, 7), dtype), draw(*shape, seed=1)
    expected = x + jnp.asarray(bias, dtype)  # each of the two rounded, and their sum
    actual = layers.add_bias(x, bias)
    assert actual.dtype == x.dtype
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("shape", [(7,), (5, 6, 7)])
def test_the_gradient_of_a_bias_is_summed_in_float32(shape):
    """In whatever order n terms are added, the error is at most n 2^-24 times the sum of sizes."""
    x, bias = jnp.asarray(draw(3000, 5, 6, 7), jnp.bfloat16), draw(*shape, seed=1)
    slopes = jnp.asarray(1 + draw(*x.shape, seed=2), jnp.bfloat16)
    _, pull = jax.vjp(layers.add_bias, x, bias)
    of_x, of_bias = jax.jit(pull)(slopes)
    np.testing.assert_array_equal(of_x, slopes)
    assert (of_x.dtype, of_bias.dtype) == (jnp.bfloat16, jnp.float32)
    terms = np.asarray(slopes, np.float64).reshape(-1, *shape)
    error = np.abs(of_bias - terms.sum(axis=0))
    assert (error <= len(terms) * 2.0**-24 * np.abs(terms).sum(axis=0)).all()


def test_normalization_of_bfloat16_is_rounded_only_once():
    x = jnp.asarray(100 * draw(4, 3, 4, 12), jnp.bfloat16)
    actual = layers.local_response_norm(x, groups=2)
    assert actual.dtype == jnp.bfloat16
    expected = normalize_by_loops(np.asarray(x, np.float32), groups=2)
    half_a_unit = 2.0**-8
    rtol = half_a_unit + NORMALIZED
    np.testing.assert_allclose(actual.astype(np.float32), expected, rtol=rtol)


# One program for several tests, because random bits take seconds to compile on a CPU.
drop = jax.jit(layers.dropout, static_argnames="scale_at")


def test_dropout_of_an_example_does_not_depend_on_its_batch():
    keys = jax.random.split(jax.random.key(0), 100)
    x = 1 + jnp.abs(draw(100, 10, 10, 10))
    together = drop(x, keys, rate=0.3, scale_at="train")
    others = np.random.default_rng(1).integers(0, 100, 100)
    elsewhere = drop(x[others], keys[others], rate=0.3, scale_at="train")
    np.testing.assert_array_equal(elsewhere, together[others])
    masks = np.unique(np.reshape(together != 0, (100, -1)), axis=0)
    assert len(masks) == 100


@pytest.mark.parametrize(
    ("scale_at", "kept", "at_test"), [("train", 1 / 0.7, 1.0), ("test", 1.0, 0.7)]
)
def test_dropout_drops_at_its_rate_and_keeps_the_mean(scale_at, kept, at_test):
    keys = jax.random.split(jax.random.key(1), 100)
    x = jnp.ones((100, 10, 10, 10))
    dropped = np.asarray(drop(x, keys, rate=0.3, scale_at=scale_at))
    np.testing.assert_allclose(np.unique(dropped), [0, kept], rtol=1e-6)
    deviation = (0.3 * 0.7 / x.size) ** 0.5
    assert np.mean(dropped != 0) == pytest.approx(0.7, abs=4 * deviation)
    mean = layers.dropout(x, None, rate=0.3, scale_at=scale_at)
    np.testing.assert_allclose(mean, at_test, rtol=1e-6)
    assert dropped.mean() == pytest.approx(at_test, abs=4 * kept * deviation)


@pytest.mark.parametrize(
    ("layer", "size", "expected"),
    [
        (Conv("", 1, 11, stride=4, padding=(0, 3)), 224, 55),
        (Conv("", 1, 11, stride=4), 227, 55),
        (Conv("", 1, 3, padding=(1, 1)), 14, 14),
        (LocalConv("", 1, 3, padding=(1, 1)), 6, 6),
        (LocalConv("", 1, 3), 6, 4),
        (Pool("", 3, 2), 55, 27),
        (Pool("", 3, 2), 24, 11),
        (Pool("", 3, 2, ceil=True), 24, 12),
        (Pool("", 2, 2), 7, 3),
        (Pool("", 2, 2, ceil=True), 7, 4),
        (LRN(""), 27, 27),
        (Activation(""), 27, 27),
        (Dropout(""), 1, 1),
    ],
)
def test_output_size(layer, size, expected):
    assert layers.output_size(layer, size) == expected
    sizes = layers.output_size(layer, jnp.array([[size, size + 7]]))
    assert sizes.tolist() == [[expected, layers.output_size(layer, size + 7)]]


def test_what_lies_beyond_a_maps_own_size_becomes_zero():
    x = draw(3, 4, 5, 2)
    x[0, 3] = np.nan
    found = np.asarray(layers.zero_beyond(jnp.asarray(x), jnp.array([[3, 2], [4, 5], [1, 1]])))
    expected = np.zeros_like(x)
    expected[0, :3, :2], expected[1], expected[2, 0, 0] = x[0, :3, :2], x[1], x[2, 0, 0]
    np.testing.assert_array_equal(found, expected)


def test_a_map_that_vanishes_is_blamed_on_its_layer():
    trunk = [Pool("pool1", 2, 2), Pool("pool2", 2, 2), Conv("conv3", 1, 3)]
    assert layers.map_size(trunk, 12) == 1
    with pytest.raises(ValueError, match=r"2x2 is too small for layer conv3"):
        layers.map_size(trunk, 11)


@pytest.mark.parametrize("name", ["alexnet", "vgg_a_lrn", "vgg_c", "cifar10_11pct"])
def test_layers_survive_json(name):
    network = models.create(name, 7)
    text = json.dumps(layers.layers_to_json(network.layers))
    assert layers.layers_from_json(json.loads(text)) == network.layers


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"kind": "Conv3D", "name": "x"}, "layer 1 has unknown kind 'Conv3D'; known: Conv"),
        ({"name": "x"}, "layer 1 has unknown kind None"),
        ({"kind": "Pool", "name": "x", "side": 2}, "layer 1: .*side"),
    ],
)
def test_a_record_that_is_no_layer_is_named(record, words):
    relu = {"kind": "Activation", "name": "relu1"}
    with pytest.raises(ValueError, match=words):
        layers.layers_from_json([relu, record])
