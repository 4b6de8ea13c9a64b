"""Each preset against its closed form, layer by layer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepconv import models
from deepconv.models.initializers import PRESETS
from deepconv.models.layers import Conv, LocalConv, convolve_locally

ALEXNET = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
BIAS_ONE = ("conv2", "conv4", "conv5", "fc6", "fc7")
MANY = (50, 50, 4, 10)  # their deviation is known to 0.2 percent; the tests allow 1.5
KEY = jax.random.key(0, impl="rbg")  # compiles in a fraction of the default's time


def weight_layers(name, **options):
    layers = models.create(name, **options).layers
    return {layer.name: layer for layer in layers if isinstance(layer, Conv | LocalConv)}


def draw(preset, layer, shape):
    return np.asarray(PRESETS[preset](layer)[0](KEY, shape, jnp.float32))


def bias(preset, layer):
    return np.unique(PRESETS[preset](layer)[1](KEY, (5,), jnp.float32)).item()


@pytest.mark.parametrize(
    ("preset", "std", "exceptions", "bias_one"),
    [
        ("paper", 0.01, {}, 1.0),
        ("paper_literal", 0.1, {}, 1.0),
        ("original_code", 0.01, {"conv3": 0.03, "conv4": 0.03, "conv5": 0.03}, 1.0),
        ("caffe", 0.01, {"fc6": 0.005, "fc7": 0.005}, 0.1),
    ],
)
def test_gaussian_presets_of_alexnet(preset, std, exceptions, bias_one):
    layers = weight_layers("alexnet")
    assert tuple(layers) == ALEXNET
    for name, layer in layers.items():
        kernel = draw(preset, layer, MANY)
        deviation = exceptions.get(name, std)
        assert kernel.std() == pytest.approx(deviation, rel=0.015), name
        assert kernel.mean() == pytest.approx(0, abs=4 * deviation / kernel.size**0.5), name
        expected = np.float32(bias_one) if name in BIAS_ONE else 0
        assert bias(preset, layer) == expected, name


@pytest.mark.parametrize(
    ("network", "local_features"), [("cifar10_13pct", 32), ("cifar10_11pct", 64)]
)
def test_the_paper_preset_of_the_cifar_nets(network, local_features):
    layers = weight_layers(network, num_classes=10)
    stds = {"conv1": 1e-4, "conv2": 0.01, "local3": 0.04, "local4": 0.04, "fc10": 0.01}
    assert tuple(layers) == tuple(stds)
    assert layers["local3"].features == local_features
    for name, layer in layers.items():
        assert draw("paper", layer, MANY).std() == pytest.approx(stds[name], rel=0.015), name
        assert bias("paper", layer) == 0, name


def test_the_paper_preset_of_vgg_has_no_bias():
    assert {bias("paper", layer) for layer in weight_layers("vgg_e").values()} == {0}


LAYERS = [
    # layer, shape of its kernel, inputs and outputs for the fans
    (Conv("conv3_1", 256, 3), (3, 3, 128, 256), 9 * 128, 9 * 256),
    (Conv("conv3_3", 256, 1), (1, 1, 256, 256), 256, 256),
    (Conv("fc7", 512, 1), (1, 1, 256, 512), 256, 512),
    (Conv("fc6", 256, 7, fully_connected=True), (7, 7, 64, 256), 49 * 64, 256),
    (LocalConv("local3", 64, 3), (6, 6, 9 * 32, 64), 9 * 32, 9 * 64),
    (LocalConv("local4", 32, 5), (6, 6, 25 * 64, 32), 25 * 64, 25 * 32),
]


@pytest.mark.parametrize(("layer", "shape", "fan_in", "fan_out"), LAYERS)
def test_glorot(layer, shape, fan_in, fan_out):
    kernel = draw("glorot", layer, shape)
    bound = (6 / (fan_in + fan_out)) ** 0.5
    assert 0.999 * bound < np.abs(kernel).max() <= bound * (1 + 1e-6)
    assert kernel.std() == pytest.approx(bound / 3**0.5, rel=0.015)
    assert bias("glorot", layer) == 0


def test_glorot_keeps_the_variance_of_a_local_layer_both_ways_as_that_of_a_convolution():
    """Var w = 2 / (K K C + K K F) scales a signal by fan_in, a gradient by fan_out times that."""
    channels, local, side = 16, LocalConv("local3", 48, 3, padding=(1, 1)), 24
    kernel = draw("glorot", local, (side, side, 9 * channels, 48))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, side, side, channels)).astype(np.float32)
    convolve = functools.partial(convolve_locally, side=3, padding=(1, 1))
    y, pull = jax.vjp(lambda x: convolve(x, kernel), x)
    (slopes,) = pull(rng.normal(size=y.shape).astype(np.float32))
    inside = slice(1, -1)  # where no input is padding, and no output is missing
    variance = 2 / (9 * channels + 9 * 48)
    forward, backward = (np.var(map_[:, inside, inside]) for map_ in (y, slopes))
    assert forward == pytest.approx(9 * channels * variance, rel=0.05)
    assert backward == pytest.approx(9 * 48 * variance, rel=0.05)


@pytest.mark.parametrize(("layer", "shape", "fan_in", "fan_out"), LAYERS)
def test_he(layer, shape, fan_in, fan_out):
    kernel = draw("he", layer, shape)
    assert kernel.std() == pytest.approx((2 / fan_in) ** 0.5, rel=0.015)
    assert np.abs(kernel).max() > 3.5 * kernel.std()  # a Gaussian with its tails
    assert bias("he", layer) == 0


def test_a_network_is_initialized_by_its_preset():
    network = models.create("alexnet", 10, width=1 / 8, crop=64, initializer="original_code")
    params = jax.jit(network.init)(KEY, jnp.zeros((1, 64, 64, 3)))["params"]
    for name, layer in params.items():
        assert np.unique(layer["bias"]) == (name in BIAS_ONE), name
    assert params["conv3"]["kernel"].std() == pytest.approx(0.03, rel=0.05)
    assert params["fc7"]["kernel"].std() == pytest.approx(0.01, rel=0.05)
