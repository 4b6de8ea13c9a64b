"""AlexNet on two devices: what each holds, what it asks the other for, and the same scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from deepconv import models, parallel
from deepconv.models import towers
from deepconv.models.layers import LRN, Conv, Dropout

KEYS = jax.random.split(jax.random.key(1), 4)


def local_of(**options):
    return towers.on_one_device(models.create("alexnet", **options), axis="model").layers


def test_each_device_has_half_of_every_layer_but_the_last():
    features = {layer.name: layer.features for layer in local_of() if isinstance(layer, Conv)}
    assert features == {
        "conv1": 48,
        "conv2": 128,
        "conv3": 192,
        "conv4": 192,
        "conv5": 128,
        "fc6": 2048,
        "fc7": 2048,
        "fc8": 1000,
    }
    assert {layer.groups for layer in local_of() if isinstance(layer, Conv | LRN)} == {1}


@pytest.mark.parametrize(
    ("options", "gathering"),
    [
        ({}, ["conv3", "fc6", "drop6", "drop7"]),
        ({"dropout": 0.0}, ["conv3", "fc6", "fc7", "fc8"]),
        ({"conv6": True}, ["conv3", "conv6", "fc6", "drop6", "drop7"]),
        ({"without": "conv3"}, ["fc6", "drop6", "drop7"]),
    ],
)
def test_only_the_layers_that_see_both_towers_communicate(options, gathering):
    layers = [layer for layer in local_of(**options) if isinstance(layer, Conv | Dropout)]
    assert [layer.name for layer in layers if layer.gather] == gathering


def test_parameters_keep_their_shapes_and_are_split_by_outputs():
    layers = models.create("alexnet").layers
    split = {"kernel": P(None, None, None, "model"), "bias": P("model")}
    specs = towers.parameter_specs(layers, axis="model")
    assert specs.pop("fc8") == {"kernel": P(), "bias": P()}
    assert all(spec == split for spec in specs.values())
    assert len(specs) == 7
    whole = towers.parameter_specs(models.create("cifar10_13pct").layers, axis=None)
    assert set(whole) == {"conv1", "conv2", "local3", "local4", "fc10"}
    assert all(spec == {"kernel": P(), "bias": P()} for spec in whole.values())


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"conv6": True}, {"dropout": 0.0}, {"lrn": "none"}])
@pytest.mark.parametrize("train", [False, True])
def test_scores_are_those_of_one_device(options, train):
    network = models.create("alexnet", 5, width=1 / 16, crop=64, initializer="he", **options)
    images = 50 * jax.random.normal(jax.random.key(0), (4, 64, 64, 3))
    params = network.init(jax.random.key(2), images)["params"]
    mesh = parallel.tower_mesh(jax.devices()[:2])
    local = towers.on_one_device(network, axis="model")
    specs = towers.parameter_specs(network.layers, axis="model")

    def local_scores(p, x):
        scores = local.apply({"params": p}, x, train, KEYS)
        return jax.lax.pmax(scores, "model")

    scores = jax.jit(jax.shard_map(local_scores, mesh=mesh, in_specs=(specs, P()), out_specs=P()))(
        params, images
    )
    expected = network.apply({"params": params}, images, train, KEYS)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5 * jnp.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vgg_a", {}, "needs a network with two towers"),
        ("alexnet", {"towers": 1}, "needs a network with two towers"),
        ("alexnet", {"lrn": "caffe"}, "the windows of norm1 cross"),
        ("alexnet", {"width": 0.01}, "fc6 has 41 outputs, an odd number"),
    ],
)
def test_what_cannot_be_split(name, options, message):
    with pytest.raises(ValueError, match=message):
        towers.on_one_device(models.create(name, **options), axis="model")
