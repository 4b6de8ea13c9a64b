"""The four-layer nets of the AlexNet paper, as cuda-convnet's files have them."""

import jax
import jax.numpy as jnp
import pytest

from deepconv import models
from deepconv.models.layers import LRN, Activation, Conv, Dropout, LocalConv, Pool


def outputs_and_parameters(name, **options):
    network = models.create(name, 10, **options)
    crop = jax.ShapeDtypeStruct((2, 24, 24, 3), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), crop)
    outputs = jax.eval_shape(lambda v, x: network.apply(v, x, method="activations"), params, crop)
    return {name: output.shape for name, output in outputs.items()}, params["params"]


@pytest.mark.parametrize(
    ("name", "parameters"), [("cifar10_13pct", 1_116_490), ("cifar10_11pct", 2_112_970)]
)
def test_number_of_parameters(name, parameters):
    _, params = outputs_and_parameters(name)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters


def test_shapes_of_the_net_without_normalization():
    outputs, params = outputs_and_parameters("cifar10_13pct")
    sides = {
        "conv1": (2, 24, 24, 64),
        "pool1": (2, 12, 12, 64),
        "conv2": (2, 12, 12, 64),
        "pool2": (2, 6, 6, 64),
        "local3": (2, 6, 6, 32),
        "local4": (2, 6, 6, 32),
        "fc10": (2, 1, 1, 10),
    }
    assert {name: outputs[name] for name in sides} == sides
    assert params["local3"]["kernel"].shape == (6, 6, 9 * 64, 32)
    assert params["local3"]["bias"].shape == (6, 6, 32)


def test_order_of_the_net_with_normalization():
    layers = models.create("cifar10_11pct", 10).layers
    assert " ".join(layer.name for layer in layers) == (
        "conv1 relu1 pool1 norm1 conv2 relu2 norm2 pool2 local3 relu3 local4 relu4 fc10"
    )
    assert layers[8].features == 64


def test_constants():
    layers = models.create("cifar10_11pct", 10).layers
    norms = [layer for layer in layers if isinstance(layer, LRN)]
    constants = {"size": 9, "k": 1.0, "alpha": pytest.approx(0.001 / 9), "beta": 0.75}
    for norm in norms:
        assert {key: getattr(norm, key) for key in constants} == constants
    pools = [layer for layer in layers if isinstance(layer, Pool)]
    assert {(layer.window, layer.stride, layer.ceil) for layer in pools} == {(3, 2, True)}
    assert not any(isinstance(layer, Dropout) for layer in layers)


@pytest.mark.parametrize("function", ["relu", "tanh"])
def test_one_activation_throughout(function):
    layers = models.create("cifar10_13pct", 10, activation=function).layers
    activations = [layer.function for layer in layers if isinstance(layer, Activation)]
    assert activations == [function] * 4


def test_tanh_is_computed():
    network = models.create("cifar10_13pct", 10, activation="tanh")
    _, shapes = outputs_and_parameters("cifar10_13pct")
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 1e-3), shapes)
    images = jnp.full((1, 24, 24, 3), -100.0)
    apply = jax.jit(lambda v, x: network.apply(v, x, method="activations"))
    outputs = apply({"params": params}, images)
    inner = (0, 12, 12, 0)
    assert outputs["conv1"][inner] == pytest.approx(-7.499, abs=1e-3)
    assert outputs["relu1"][inner] == pytest.approx(-1, abs=1e-5)


def test_a_narrow_net_and_one_with_normalization_alone():
    _, params = outputs_and_parameters("cifar10_13pct", width=0.25)
    assert params["conv2"]["kernel"].shape == (5, 5, 16, 16)
    assert params["local3"]["kernel"].shape == (6, 6, 9 * 16, 8)
    assert params["fc10"]["kernel"].shape == (6, 6, 8, 10)
    plain, normalized = (models.create("cifar10_13pct", lrn=lrn).layers for lrn in (False, True))
    assert tuple(layer for layer in normalized if not isinstance(layer, LRN)) == plain


def test_a_narrow_net_can_keep_the_full_nets_gain():
    full, narrow = (
        models.create("cifar10_13pct", 10, width=width, keep_gain=True).layers
        for width in (1.0, 0.25)
    )
    assert full == models.create("cifar10_13pct", 10).layers
    stds = [
        (wide.name, slim.std / wide.std)
        for wide, slim in zip(full, narrow, strict=True)
        if isinstance(wide, Conv | LocalConv)
    ]
    # conv1 sees the three colors in both, the others a quarter as many channels.
    assert stds == [("conv1", 1.0)] + [
        (name, pytest.approx(2.0)) for name in ("conv2", "local3", "local4", "fc10")
    ]
