"""The module that runs the layers: shapes, names, dtypes, and whole forward passes in float64."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from numpy.lib.stride_tricks import sliding_window_view

from deepconv import models, parallel
from deepconv.models import Network
from deepconv.models.layers import Activation, Conv, LocalConv

PAPER = json.loads((Path(__file__).parents[1] / "paper_tables.json").read_text())


def shapes(network, side):
    """Return the shapes of the parameters and of a score map, without computing either."""
    crop = jax.ShapeDtypeStruct((1, network.crop, network.crop, 3), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), crop)
    height, width = side if isinstance(side, tuple) else (side, side)
    images = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
    return params, jax.eval_shape(network.apply, params, images)


def random_params(network, seed=0):
    """Draw weights that keep the signal's size, and biases that matter."""
    rng = np.random.default_rng(seed)
    params, _ = shapes(network, network.crop)

    def draw(leaf):
        scale = (2 / np.prod(leaf.shape[:-1])) ** 0.5 if leaf.ndim > 1 else 0.3
        return (scale * rng.normal(size=leaf.shape)).astype(np.float32)

    return jax.tree.map(draw, params)


def random_images(side, count=2):
    return np.random.default_rng(1).uniform(-120, 120, (count, side, side, 3)).astype(np.float32)


def tiny_vgg(**options):
    return models.create("vgg_a", 7, width=1 / 32, crop=32, **options)


# The papers' operations in float64.


def convolve(x, layer, padding=(0, 0), stride=1):
    x = np.pad(x, ((0, 0), padding, padding, (0, 0)))
    kernel, bias = (layer[key].astype(np.float64) for key in ("kernel", "bias"))
    windows = sliding_window_view(x, kernel.shape[:2], axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("nhwcij,ijcf->nhwf", windows, kernel) + bias


def relu(x):
    return np.maximum(x, 0)


def pool(x, window):
    windows = sliding_window_view(x, (window, window), axis=(1, 2))
    return windows[:, ::2, ::2].max(axis=(-2, -1))


def normalize(x):
    padded = np.pad(x**2, ((0, 0), (0, 0), (0, 0), (2, 2)))
    return x / (2 + 1e-4 * sliding_window_view(padded, 5, axis=-1).sum(axis=-1)) ** 0.75


def test_vgg_a_computes_what_the_paper_says():
    network, images = tiny_vgg(), random_images(32)
    variables = random_params(network)
    params = variables["params"]
    x = images.astype(np.float64)
    for block, layers in enumerate(PAPER["vgg"]["table1_configs"]["A"], start=1):
        for index in range(1, len(layers) + 1):
            x = relu(convolve(x, params[f"conv{block}_{index}"], padding=(1, 1)))
        x = pool(x, 2)
    x = relu(convolve(x, params["fc6"]))
    x = relu(convolve(x, params["fc7"]))
    expected = convolve(x, params["fc8"])
    assert expected.shape == (2, 1, 1, 7)
    scores = jax.jit(network.apply)(variables, images)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_alexnet_computes_what_the_paper_says_in_its_two_towers():
    network = models.create("alexnet", 7, width=1 / 16, crop=96)
    images, variables = random_images(96), random_params(network)
    params = variables["params"]

    def halves(name):
        layer = params[name]
        split = {key: np.split(layer[key], 2, axis=-1) for key in layer}
        return [{key: split[key][tower] for key in layer} for tower in (0, 1)]

    x = images.astype(np.float64)
    towers = [
        pool(normalize(relu(convolve(x, half, (0, 3), stride=4))), 3) for half in halves("conv1")
    ]
    towers = [
        pool(normalize(relu(convolve(own, half, (2, 2)))), 3)
        for own, half in zip(towers, halves("conv2"), strict=True)
    ]
    both = np.concatenate(towers, axis=-1)
    towers = [relu(convolve(both, half, (1, 1))) for half in halves("conv3")]
    for name in ("conv4", "conv5"):
        towers = [
            relu(convolve(own, half, (1, 1)))
            for own, half in zip(towers, halves(name), strict=True)
        ]
    both = np.concatenate([pool(tower, 3) for tower in towers], axis=-1)
    assert both.shape == (2, 2, 2, 16)
    x = relu(convolve(both, params["fc6"])) * 0.5
    x = relu(convolve(x, params["fc7"])) * 0.5
    expected = convolve(x, params["fc8"])
    scores = jax.jit(network.apply)(variables, images)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["alexnet", "vgg_a", "vgg_c"])
def test_map_extents_are_the_sizes_of_the_score_maps(name):
    network = models.create(name, 2, width=1 / 64)
    sizes = [(227, 230), (256, 341), (500, 391), (512, 512)]
    found = network.map_extents(jnp.array(sizes))
    for size, extent in zip(sizes, found.tolist(), strict=True):
        assert shapes(network, size)[1].shape == (2, *extent, 2)


@pytest.mark.parametrize(("side", "expected"), PAPER["vgg"]["dense_map_size_by_Q"].items())
def test_a_larger_image_gives_the_papers_score_map(side, expected):
    _, scores = shapes(models.create("vgg_a"), int(side))
    assert scores.shape == (2, expected, expected, 1000)


@pytest.mark.parametrize("name", ["vgg_a_lrn", "vgg_b", "vgg_c", "vgg_d", "vgg_e"])
def test_an_image_that_is_not_square_gives_a_score_map_that_is_not_square(name):
    _, scores = shapes(models.create(name), (256, 400))
    assert scores.shape == (2, 2, 6, 1000)


@pytest.mark.parametrize(("side", "expected"), [(224, 1), (227, 1), (256, 2)])
def test_score_maps_of_alexnet(side, expected):
    _, scores = shapes(models.create("alexnet"), side)
    assert scores.shape == (2, expected, expected, 1000)


def test_alexnet_has_the_same_parameters_for_crops_of_224_and_227():
    for_224, _ = shapes(models.create("alexnet", crop=224), 224)
    for_227, scores = shapes(models.create("alexnet", crop=227), 227)
    assert jax.tree.map(jnp.shape, for_224) == jax.tree.map(jnp.shape, for_227)
    assert scores.shape == (2, 1, 1, 1000)


def test_activations_by_name():
    network, images = tiny_vgg(), random_images(32)
    variables = random_params(network)
    outputs = jax.jit(lambda v, x: network.apply(v, x, method="activations"))(variables, images)
    assert outputs["conv3_2"].shape == outputs["relu3_2"].shape == (2, 8, 8, 8)
    assert outputs["pool5"].shape == (2, 1, 1, 16)
    assert outputs["conv3_2"].min() < 0
    np.testing.assert_array_equal(outputs["relu3_2"], relu(outputs["conv3_2"]))
    scores = jax.jit(network.apply)(variables, images)  # another program, of other roundings
    np.testing.assert_allclose(outputs["fc8"], scores, rtol=0, atol=1e-4 * np.abs(scores).max())


def test_the_activations_are_in_the_order_of_the_layers():
    network = models.create("cifar10_11pct", 10)
    params, _ = shapes(network, 24)
    names = []

    def record(variables, images):  # a dict that leaves a traced function is sorted
        names.extend(network.apply(variables, images, method="activations"))

    jax.eval_shape(record, params, jax.ShapeDtypeStruct((1, 24, 24, 3), jnp.float32))
    assert " ".join(names) == (
        "conv1 relu1 pool1 norm1 conv2 relu2 norm2 pool2 local3 relu3 local4 relu4 fc10"
    )


def test_bfloat16_computes_in_it_but_keeps_parameters_and_scores_in_float32():
    network = tiny_vgg(dtype=jnp.bfloat16)
    params, scores = shapes(network, 32)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert scores.dtype == jnp.float32
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    outputs = jax.eval_shape(lambda v, x: network.apply(v, x, method="activations"), params, images)
    inner = {output.dtype for name, output in outputs.items() if name != "fc8"}
    assert inner == {jnp.dtype("bfloat16")}


BIASED = {
    "convolution": Conv("layer", 2, 3, padding=(1, 1)),
    "groups": Conv("layer", 4, 1, groups=2),
    "fully connected": Conv("layer", 2, 8, fully_connected=True),
    "local": LocalConv("layer", 2, 3, padding=(1, 1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BIASED)
def test_the_gradient_of_a_bias_counts_every_unit_in_bfloat16(name):
    """Through a ReLU, of the sum of a map: the number of units above zero, exactly, in float32."""
    layers = (Conv("first", 4, 1), BIASED[name], Activation("relu"))
    network = Network(layers, crop=8, dtype=jnp.bfloat16)
    images = np.random.default_rng(0).normal(size=(2048, 8, 8, 3)).astype(np.float32)
    variables = random_params(network)
    scores = jax.jit(network.apply)(variables, images)
    counted = np.asarray(scores > 0).sum(axis=0 if name == "local" else (0, 1, 2))
    assert counted.max() > 900

    def gradient(variables, images):
        return jax.grad(lambda v: network.apply(v, images).sum())(variables)

    whole = jax.jit(gradient)(variables, images)["params"]["layer"]["bias"]
    np.testing.assert_array_equal(whole, counted)

    parts = images.reshape(4, 512, 8, 8, 3)
    of_parts = jax.jit(jax.vmap(gradient, in_axes=(None, 0)))(variables, parts)
    np.testing.assert_array_equal(of_parts["params"]["layer"]["bias"].sum(axis=0), counted)

    mesh = parallel.data_mesh(jax.devices()[:4])

    def on_each(variables, images):
        own = jax.lax.pcast(variables, parallel.DATA_AXIS, to="varying")
        return jax.lax.psum(gradient(own, images), parallel.DATA_AXIS)

    mapped = jax.shard_map(on_each, mesh=mesh, in_specs=(P(), P(parallel.DATA_AXIS)), out_specs=P())
    on_four = jax.jit(mapped)(variables, images)["params"]["layer"]["bias"]
    np.testing.assert_array_equal(on_four, counted)


def test_training_with_dropout_needs_keys():
    images = jnp.zeros((1, 32, 32, 3))
    with pytest.raises(ValueError, match="dropout_keys"):
        tiny_vgg().init(jax.random.key(0), images, train=True)
    network = tiny_vgg(dropout=0.0)
    jax.eval_shape(lambda v: network.apply(v, images, train=True), random_params(network))


def test_each_dropout_has_a_mask_of_its_own_for_each_example():
    network = tiny_vgg()
    variables = random_params(network)
    for name in ("fc6", "fc7"):
        variables["params"][name]["kernel"][:] = 0
        variables["params"][name]["bias"][:] = 1
    keys = jax.random.split(jax.random.key(0), 3)

    @jax.jit
    def masks(images, keys):
        outputs = network.apply(
            variables, images, train=True, dropout_keys=keys, method="activations"
        )
        return outputs["drop6"] > 0, outputs["drop7"] > 0

    images = random_images(32, count=3)
    drop6, drop7 = masks(images, keys)
    assert not np.array_equal(drop6, drop7)
    assert not np.array_equal(drop6[0], drop6[1])
    reversed6, reversed7 = masks(images[::-1], keys[::-1])
    np.testing.assert_array_equal(reversed6[::-1], drop6)
    np.testing.assert_array_equal(reversed7[::-1], drop7)
