"""AlexNet's layers and options against the paper."""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from deepconv import models
from deepconv.models import summary
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


VARIANTS = {
    "grouped": {},
    "one_tower": {"towers": 1},
    "one_gpu_half": {"towers": 1, "half": True},
    "grouped_conv6": {"conv6": True},
    "grouped_conv6_10184": {"conv6": True, "num_classes": 10184},
    "one_tower_conv6": {"towers": 1, "conv6": True},
    "grouped_minus_conv3": {"without": "conv3"},
    "grouped_minus_conv4": {"without": "conv4"},
    "grouped_minus_conv5": {"without": "conv5"},
}


@pytest.mark.parametrize("key", VARIANTS)
def test_number_of_parameters_and_of_multiply_accumulates(key):
    params = parameters(**VARIANTS[key])
    counts = PAPER["counts"][key]
    assert sum(layer["kernel"].size for layer in params.values()) == counts["weights"]
    assert sum(layer["bias"].size for layer in params.values()) == counts["biases"]
    assert count(params) == counts["params"]
    network = models.create("alexnet", **VARIANTS[key])
    assert summary.totals(summary.layer_table(network.layers, 224)).macs == counts["macs"]


def test_the_later_one_tower_net_is_torchvisions():
    network = models.create("alexnet_owt")
    totals = summary.totals(summary.layer_table(network.layers, 224))
    assert (totals.parameters, totals.macs) == (61_100_840, 714_188_480)
    names = " ".join(layer.name for layer in network.layers)
    assert names.endswith("relu5 pool5 drop5 fc6 relu6 drop6 fc7 relu7 fc8")
    without = models.create("alexnet_owt", dropout=0.0).layers
    assert not [layer for layer in without if isinstance(layer, Dropout)]
    with pytest.raises(ValueError, match="too small for layer pool5"):
        models.create("alexnet_owt", crop=60)


def test_without_conv2_conv3_sees_pool1_pooled_again():
    conv2 = 5 * 5 * 48 * 256 + 256
    fewer_inputs = 3 * 3 * (256 - 96) * 384
    assert count(parameters(without="conv2")) == 60_965_224 - conv2 - fewer_inputs
    names = [layer.name for layer in models.create("alexnet", without="conv2").layers]
    assert names[:7] == ["conv1", "relu1", "norm1", "pool1", "pool2", "conv3", "relu3"]


def test_the_half_net_keeps_its_last_convolution_and_its_head():
    features = {layer.name: layer.features for layer in layers_of(Conv, towers=1, half=True)}
    assert list(features.values()) == [48, 128, 192, 192, 256, 4096, 4096, 1000]


def test_the_sixth_convolution_stands_on_pool5_and_sees_both_towers():
    layers = models.create("alexnet", conv6=True).layers
    names = [layer.name for layer in layers]
    place = names.index("pool5")
    assert names[place : place + 4] == ["pool5", "conv6", "relu_conv6", "fc6"]
    assert len({*names}) == len(names)
    assert layers[place + 1] == Conv("conv6", 256, 3, padding=(1, 1), bias=1.0)


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


def test_keep_gain_gives_a_narrow_net_the_full_nets_gain_per_layer():
    def gains(**options):
        channels, found = 3, {}
        for layer in layers_of(Conv, keep_gain=True, **options):
            fan_in = layer.kernel**2 * channels / layer.groups
            found[layer.name] = (fan_in / 2) ** 0.5 * layer.std
            channels = layer.features
        return found

    narrow = gains(width=0.25, crop=64)
    assert narrow == pytest.approx(gains())
    assert narrow["conv4"] == pytest.approx((9 * 192 / 2) ** 0.5 * 0.01)
    assert narrow["fc6"] == pytest.approx((36 * 256 / 2) ** 0.5 * 0.01)


def test_normalization_stays_within_a_tower_but_for_caffes():
    groups = {lrn: layers_of(LRN, lrn=lrn)[0].groups for lrn in ("paper", "original_code", "caffe")}
    assert groups == {"paper": 2, "original_code": 2, "caffe": 1}
