"""The six networks of VGG's Table 1, and the sizes of Table 2."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from deepconv import models
from deepconv.models.layers import LRN, Conv, Pool
from deepconv.models.summary import layer_table, totals
from deepconv.models.vgg import vgg

PAPER = json.loads((Path(__file__).parents[1] / "paper_tables.json").read_text())["vgg"]
LETTERS = {
    "vgg_a": "A",
    "vgg_a_lrn": "A-LRN",
    "vgg_b": "B",
    "vgg_c": "C",
    "vgg_d": "D",
    "vgg_e": "E",
}
each_network = pytest.mark.parametrize(("name", "letter"), LETTERS.items())


def parameters(network):
    crop = jax.ShapeDtypeStruct((1, network.crop, network.crop, 3), jnp.float32)
    return jax.eval_shape(network.init, jax.random.key(0), crop)["params"]


@each_network
def test_number_of_parameters(name, letter):
    params = parameters(models.create(name))
    counts = PAPER["counts"][letter]
    assert sum(layer["kernel"].size for layer in params.values()) == counts["weights"]
    assert sum(layer["bias"].size for layer in params.values()) == counts["biases"]
    millions = (counts["weights"] + counts["biases"]) / 1e6
    assert round(millions) == PAPER["table2_params_millions"][letter]


@each_network
def test_layers_are_those_of_table_1_under_caffes_names(name, letter):
    layers = models.create(name).layers
    convolutions = [
        {
            f"conv{block}_{index}": column
            for index, column in enumerate(PAPER["table1_configs"][letter][block - 1], start=1)
        }
        for block in range(1, 6)
    ]
    for block, expected in enumerate(convolutions, start=1):
        actual = {
            layer.name: f"conv{layer.kernel}-{layer.features}"
            for layer in layers
            if layer.name.startswith(f"conv{block}_")
        }
        assert actual == expected
    hidden = {name for block in convolutions for name in block}
    assert {*parameters(models.create(name))} == hidden | {"fc6", "fc7", "fc8"}


@each_network
def test_geometry(name, letter):
    layers = models.create(name).layers
    for layer in layers:
        match layer:
            case Conv() if layer.name.startswith("conv"):
                padding = {3: (1, 1), 1: (0, 0)}[layer.kernel]
                assert (layer.stride, layer.padding, layer.groups) == (1, padding, 1)
            case Pool():
                assert (layer.window, layer.stride, layer.ceil) == (2, 2, False)
    assert [layer.name for layer in layers if isinstance(layer, Pool)] == [
        f"pool{block}" for block in range(1, 6)
    ]
    names = [layer.name for layer in layers]
    for index, layer in enumerate(layers):
        if isinstance(layer, Conv) and layer.name != "fc8":
            assert names[index + 1] == layer.name.replace("conv", "relu").replace("fc", "relu")


def test_only_a_lrn_normalizes_and_with_alexnets_constants():
    norms = {
        name: [layer for layer in models.create(name).layers if isinstance(layer, LRN)]
        for name in LETTERS
    }
    assert norms.pop("vgg_a_lrn") == [LRN("norm1_1", size=5, k=2.0, alpha=1e-4, beta=0.75)]
    assert not any(norms.values())
    names = [layer.name for layer in models.create("vgg_a_lrn").layers]
    assert names[:4] == ["conv1_1", "relu1_1", "norm1_1", "pool1"]


def test_width_scales_every_hidden_layer_and_no_other():
    params = parameters(models.create("vgg_d", 10, width=0.25))
    assert params["conv1_1"]["kernel"].shape == (3, 3, 3, 16)
    assert params["conv5_3"]["kernel"].shape == (3, 3, 128, 128)
    assert params["fc6"]["kernel"].shape == (7, 7, 128, 1024)
    assert params["fc8"]["kernel"].shape == (1, 1, 1024, 10)


def test_the_crop_sets_the_side_of_fc6():
    params = parameters(models.create("vgg_a", crop=96, width=0.25))
    assert params["fc6"]["kernel"].shape == (3, 3, 128, 1024)


def test_keep_gain_gives_a_narrow_net_the_full_nets_gain_per_layer():
    def gains(layers):
        channels, found = 3, {}
        for layer in layers:
            if isinstance(layer, Conv):
                found[layer.name] = (layer.kernel**2 * channels / 2) ** 0.5 * layer.std
                channels = layer.features
        return found

    narrow = gains(vgg("vgg_e", 12, width=1 / 8, crop=48, keep_gain=True))
    assert narrow == pytest.approx(gains(vgg("vgg_e", 1000)))
    assert narrow["conv5_4"] == pytest.approx((9 * 512 / 2) ** 0.5 * 0.01)
    assert narrow["fc6"] == pytest.approx((49 * 512 / 2) ** 0.5 * 0.01)


def test_the_std_is_every_layers_before_the_gain_is_kept():
    for gain in (False, True):
        usual, more = (vgg("vgg_e", 12, width=1 / 8, std=s, keep_gain=gain) for s in (0.01, 0.015))
        for layer, other in zip(usual, more, strict=True):
            if isinstance(layer, Conv):
                assert other.std == pytest.approx(1.5 * layer.std)


def test_bs_shallow_twin():
    network = models.create("vgg_b_shallow")
    rows = layer_table(network.layers, network.crop)
    assert totals(rows).parameters == 134_503_528
    assert totals(rows).macs == 9_356_017_664
    deep = {row.name: row for row in layer_table(models.create("vgg_b").layers, 224)}
    for row in rows:
        if row.name.startswith("conv"):
            assert row.kernel[:2] == (5, 5)
            assert row.output == deep[row.name.replace("_1", "_2")].output
        if row.name.startswith("pool"):  # two 3x3 have the receptive field of one 5x5
            assert row.field == deep[row.name].field
