"""AlexNet's layers and options against the paper."""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from deepconv import models
from deepconv.models.layers import LRN, Activation, Conv, Dropout, Pool

PAPER = json.loads((Path(__file__).parents[1] / "paper_tables.json").read_text())["alexnet"]


def parameters(**options):
    network = models.create("alexnet", **options)
    crop = jax.ShapeDtypeStruct((1, network.crop, network.crop, 3), jnp.float32)
    return jax.eval_shape(network.init, jax.random.key(0), crop)["params"]


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def layers_of(kind, **options):
    return [
        layer for layer in models.create("alexnet", **options).layers if isinstance(layer, kind)
    ]


@pytest.mark.parametrize(("towers", "key"), [(2, "grouped"), (1, "one_tower")])
def test_number_of_parameters(towers, key):
    params = parameters(towers=towers)
    counts = PAPER["counts"][key]
    assert sum(layer["kernel"].size for layer in params.values()) == counts["weights"]
    assert sum(layer["bias"].size for layer in params.values()) == counts["biases"]
    assert count(params) == counts["params"]


def test_number_of_neurons():
    network = models.create("alexnet")
    crop = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), crop)
    outputs = jax.eval_shape(lambda v, x: network.apply(v, x, method="activations"), params, crop)
    neurons = [math.prod(outputs[name].shape) for name in params["params"]]
    assert neurons == PAPER["neurons"]["computed"]
    assert neurons[0] == 290_400  # Figure 2 prints 253,440
    assert sum(neurons) == PAPER["neurons"]["computed_sum"] == 659_272


def test_layers_in_the_papers_order_under_caffes_names():
    names = " ".join(layer.name for layer in models.create("alexnet").layers)
    assert names == (
        "conv1 relu1 norm1 pool1 conv2 relu2 norm2 pool2 conv3 relu3 conv4 relu4 conv5 relu5 "
        "pool5 fc6 relu6 drop6 fc7 relu7 drop7 fc8"
    )
    assert {layer.function for layer in layers_of(Activation)} == {"relu"}


@pytest.mark.parametrize(("towers", "key"), [(2, "layers_grouped"), (1, "layers_one_tower")])
def test_convolutions(towers, key):
    expected = [row for row in PAPER[key] if row["type"] == "conv"]
    actual = layers_of(Conv, towers=towers)[:5]
    for layer, row in zip(actual, expected, strict=True):
        assert layer.name == row["name"]
        assert layer.features == row["out"][-1]
        assert (layer.kernel, layer.stride) == (row["k"], row["s"])
        assert [*layer.padding] == row["pad"]
        assert layer.groups == row["groups"]


@pytest.mark.parametrize("towers", [1, 2])
def test_normalization_of_the_paper_stays_within_a_tower(towers):
    norms = layers_of(LRN, towers=towers)
    constants = {"size": 5, "k": 2.0, "alpha": 1e-4, "beta": 0.75}
    assert norms == [LRN(name, groups=towers, **constants) for name in ("norm1", "norm2")]


@pytest.mark.parametrize(
    ("convention", "k", "alpha"), [("original_code", 2.0, 2e-5), ("caffe", 1.0, 2e-5)]
)
def test_normalization_of_other_conventions(convention, k, alpha):
    for norm in layers_of(LRN, lrn=convention):
        assert norm.k == k
        assert norm.alpha == pytest.approx(alpha)


def test_without_normalization():
    assert layers_of(LRN, lrn="none") == []
    assert count(parameters(lrn="none")) == PAPER["counts"]["grouped"]["params"]


@pytest.mark.parametrize(("pooling", "window"), [("overlapping", 3), ("non_overlapping", 2)])
def test_both_poolings_leave_the_same_maps(pooling, window):
    assert {(layer.window, layer.stride) for layer in layers_of(Pool, pooling=pooling)} == {
        (window, 2)
    }
    assert count(parameters(pooling=pooling)) == PAPER["counts"]["grouped"]["params"]


def test_dropout_after_fc6_and_fc7_scales_at_test_time():
    assert layers_of(Dropout) == [Dropout("drop6", 0.5, "test"), Dropout("drop7", 0.5, "test")]
    assert layers_of(Dropout, dropout=0.0) == []


def test_a_narrow_net_keeps_two_equal_towers():
    params = parameters(width=0.01)
    assert params["conv1"]["kernel"].shape == (11, 11, 3, 2)
    assert params["conv2"]["kernel"].shape == (5, 5, 1, 2)
