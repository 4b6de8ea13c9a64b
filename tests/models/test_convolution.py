import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from deepconv.models import Network, convolution
from deepconv.models.convolution import convolve
from deepconv.models.layers import Conv, Pool

MAPS, KERNEL = (4, 14, 14, 256), (3, 3, 256, 256)


def direct(x, kernel, padding):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), (padding, padding), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize(
    ("maps", "kernel", "expected"),
    [
        (MAPS, KERNEL, True),
        ((1, 14, 19, 512), (3, 3, 512, 512), True),
        ((4, 224, 224, 3), (3, 3, 3, 64), False),
        ((4, 56, 56, 128), (3, 3, 128, 256), True),
        ((4, 112, 112, 128), (3, 3, 128, 128), False),
        ((4, 14, 14, 256), (1, 1, 256, 256), False),
        ((4, 27, 27, 256), (5, 5, 256, 256), False),
        ((4, 14, 7, 256), KERNEL, False),
        ((0, 14, 14, 256), KERNEL, False),
    ],
)
def test_shapes_decide(maps, kernel, expected):
    assert convolution.pays(maps, kernel) is expected


def test_sides_that_are_symbols_are_left_to_xla():
    count, side = jax.export.symbolic_shape("n, s")
    assert not convolution.pays((count, 14, 14, 256), KERNEL)
    assert not convolution.pays((4, side, side, 256), KERNEL)


@pytest.mark.parametrize(("platform", "convolutions"), [("cpu", 0), ("cuda", 3), ("tpu", 3)])
def test_the_platform_of_the_program_decides_and_not_the_one_it_is_compiled_on(
    platform, convolutions
):
    def loss(x, kernel):
        return jnp.square(convolve(x, kernel, padding=(1, 1))).sum()

    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (MAPS, KERNEL)]
    traced = jax.jit(jax.grad(loss, (0, 1))).trace(*shapes)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == convolutions
    assert (text.count("stablehlo.dot_general") > 0) is (platform == "cpu")


def test_the_choice_costs_nothing_at_run_time():
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (MAPS, KERNEL)]
    forward = functools.partial(convolve, padding=(1, 1))
    assert "conditional" not in jax.jit(forward).lower(*shapes).compile().as_text()


LIMITS = {"_CHANNELS": 0, "_SIDE": 1, "_SIDE_OF_KERNEL": 1, "_SIDE_OF_LARGE_TILES": 6}


@pytest.fixture
def everywhere(monkeypatch):
    """Let Winograd's algorithm compute every 3x3 convolution with stride 1."""
    for limit, value in LIMITS.items():
        monkeypatch.setattr(convolution, limit, value)
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("side", "padding"), [(5, (1, 1)), (7, (1, 1)), (6, (0, 0))])
def test_gradients_are_those_of_the_direct_convolution(everywhere, dtype, side, padding):
    rng = np.random.default_rng(0)
    x, kernel, slopes = (
        jnp.asarray(rng.standard_normal(shape), dtype)
        for shape in (
            (2, side, side, 4),
            (3, 3, 4, 5),
            (2, *[side + sum(padding) - 2] * 2, 5),
        )
    )
    found, expected = (
        jax.jit(
            lambda x, k, y, f=function: jax.vjp(lambda x, k: f(x, k, padding=padding), x, k)[1](y)
        )(x, kernel, slopes)
        for function in (convolve, direct)
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        # In bfloat16, XLA may round sums on the way.
        bound = 1e-4 if dtype == "float32" else 2**-6
        assert np.abs(ours - theirs).max() < bound * np.abs(theirs).max()


def test_eight_devices_sum_the_gradient_of_one(everywhere):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((16, 6, 6, 4)).astype(np.float32)
    kernel = rng.standard_normal((3, 3, 4, 5)).astype(np.float32)

    def gradient(kernel, x):
        return jax.grad(lambda k: jnp.square(convolve(x, k, padding=(1, 1))).sum())(kernel)

    def of_device(kernel, x):
        own = jax.lax.pcast(kernel, "data", to="varying")
        return jax.lax.psum(gradient(own, x), "data")

    mesh = Mesh(np.array(jax.devices()[:8]), ("data",))
    on_all = jax.jit(jax.shard_map(of_device, mesh=mesh, in_specs=(P(), P("data")), out_specs=P()))
    expected = np.asarray(jax.jit(gradient)(kernel, x))
    assert np.abs(on_all(kernel, x) - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_network_scores_alike_with_and_without(monkeypatch):
    layers = [Conv("conv1", 8, 3, padding=(1, 1)), Pool("pool1", 2, 2), Conv("conv2", 8, 3)]
    network = Network((*layers, Conv("fc3", 5, 4, fully_connected=True)), crop=12)
    images = jax.random.normal(jax.random.key(1), (2, 12, 12, 3)) * 60
    params = network.init(jax.random.key(0), images)
    scores = {}
    for channels in (0, 10**6):
        monkeypatch.setattr(convolution, "_CHANNELS", channels)
        monkeypatch.setattr(convolution, "_SIDE", 1)
        apply = jax.jit(lambda params, images: network.apply(params, images))
        scores[channels] = np.asarray(apply(params, images))
    # The parity that imported weights are held to.
    largest = np.abs(scores[0]).max()
    np.testing.assert_allclose(scores[0], scores[10**6], rtol=0, atol=1e-4 * largest)
    assert (scores[0] != scores[10**6]).any()
