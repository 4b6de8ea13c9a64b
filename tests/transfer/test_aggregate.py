"""Descriptors of whole images against the image alone; how they are joined."""

import functools
import io
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from deepconv import models, parallel
from deepconv.exceptions import UserError
from deepconv.inference import activations, buckets, rows
from deepconv.models.layers import LRN, Activation, Conv, Dropout, Pool
from deepconv.transfer import aggregate
from tests.evaluation.canvases import noise, on_canvas

MEAN = np.array([120.0, 110.0, 100.0], np.float32)
# What each net pads differently; kernels of 1x1, LRN, two towers and strides among them.
NETS = {
    "vgg_c": {"crop": 32, "width": 1 / 16},
    "vgg_a_lrn": {"crop": 48, "width": 1 / 16},
    "alexnet": {"crop": 67, "width": 1 / 16},
    "cifar10_11pct": {},
}
LAYERS = [
    *(("vgg_c", layer) for layer in ("relu7", "fc7", "conv3_3", "pool2")),
    *(("vgg_a_lrn", layer) for layer in ("relu7", "pool5", "norm1_1")),
    *(("alexnet", layer) for layer in ("relu7", "drop7", "norm2")),
    # Their pools reach past the image's edge.
    *(("cifar10_11pct", layer) for layer in ("pool1", "relu2", "pool2")),
]
# Of the largest number: 16 layers round to some 2^-24 each.
ROUNDING = 32 * 2.0**-24


@functools.cache
def make_net(name):
    network = models.create(name, 7, initializer="he", **NETS[name])
    images = np.zeros((1, network.crop, network.crop, 3), np.float32)
    params = jax.jit(network.init)(jax.random.key(1, impl="rbg"), images)["params"]
    # Biases, so that what lies beyond an image is not zero.
    rng = np.random.default_rng(3)
    return network, {
        layer: {**parts, "bias": rng.normal(0, 5, parts["bias"].shape).astype(np.float32)}
        for layer, parts in params.items()
    }


@functools.cache
def described(network):
    return jax.jit(lambda *arguments: aggregate.of_whole(network, *arguments))


@functools.cache
def looking(network, layer):
    network = activations.cut(network, [layer])
    return jax.jit(lambda params, pixels: network.apply({"params": params}, pixels))


def alone(network, layer, params, image):
    """Describe one image, on its own, in numpy from the map on."""
    means = [
        np.asarray(
            looking(network, layer)(params, pixels[None].astype(np.float32) - MEAN), np.float64
        )[0].mean(axis=(0, 1))
        for pixels in (image, image[:, ::-1])
    ]
    return np.mean(means, axis=0)


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, atol=ROUNDING * np.abs(expected).max(), rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_an_image_on_a_canvas_is_described_as_it_is_alone(name, layer):
    network, params = make_net(name)
    side = network.crop
    images = noise((side, side), (side + 1, 2 * side), (side + 37, side + 8))
    # What lies beyond an image must not matter, so it is not left black.
    canvas, extents = on_canvas(images, side + 40, 2 * side + 5, fill=77)
    found = described(activations.cut(network, [layer]))(params, canvas, extents, MEAN)
    assert found.dtype == jnp.float32
    expected = [alone(network, layer, params, image) for image in images]
    assert_close(found, expected)
    assert np.ptp(found, axis=0).max() > 0.01 * np.abs(expected).max()


def test_a_pool_past_the_edge_sees_nothing_there_even_before_the_relu():
    """As in cuda-convnet's nets that pool first: the largest of negative numbers is negative."""
    network = models.Network(
        (
            Conv("conv1", 5, 3, padding=(1, 1)),
            Pool("pool1", 3, 2, ceil=True),
            LRN("norm1"),
            Pool("pool2", 3, 2, ceil=True),
            Activation("relu1"),
        ),
        crop=8,
    )
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 3, 5)).astype(np.float32)
    params = {"conv1": {"kernel": kernel, "bias": np.array([400, -300, 0, 50, 9], np.float32)}}
    images = [
        rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in ((8, 8), (9, 14), (12, 11))
    ]
    canvas, extents = on_canvas(images, 17, 16, fill=255)
    for layer in ("pool1", "norm1", "pool2", "relu1"):
        found = described(activations.cut(network, [layer]))(params, canvas, extents, MEAN)
        assert_close(found, [alone(network, layer, params, image) for image in images])


def test_a_descriptor_does_not_see_left_from_right():
    network, params = make_net("vgg_c")
    network = activations.cut(network, ["relu7"])
    (image,) = noise((40, 72))
    given = [on_canvas([pixels], 48, 80) for pixels in (image, image[:, ::-1])]
    one, other = (described(network)(params, *pair, MEAN) for pair in given)
    assert_close(one, other)


@pytest.mark.slow
def test_rows_of_photographs_of_all_shapes_are_those_of_each_alone(shared_data):
    file = shared_data("caltech101_s112.zip")
    with zipfile.ZipFile(file) as archive:
        members = sorted(name for name in archive.namelist() if name.endswith(".jpg"))[::600]
        source = [{"image": archive.read(name), "label": 0} for name in members]
    network, params = make_net("vgg_c")
    network = activations.cut(network, ["relu7"])
    mesh = parallel.data_mesh(jax.devices()[:1])
    found = rows.compute(
        lambda *arguments: aggregate.of_whole(network, *arguments, MEAN),
        params,
        source,
        buckets.survey(source, threads=1).rescaled(48),
        rows.Memory((len(source), network.layers[-2].features)),
        scale=48,
        pixels=8 * 48 * 64,
        mesh=mesh,
        threads=1,
        description="",
    )
    for example, descriptor in zip(source, found, strict=True):
        size = PIL.Image.open(io.BytesIO(example["image"])).size[::-1]
        height, width = buckets.decode.rescaled_size(*size, 48)
        batch = buckets.load_bucket([example], 48, height, width, [0])
        assert_close(descriptor, alone(network, "relu7", params, batch["image"][0]))


def test_the_penultimate_layer_is_behind_the_relu_and_before_dropout():
    for name in ("vgg_d", "alexnet"):
        assert aggregate.penultimate(models.create(name, 7)) == "relu7"
    assert aggregate.penultimate(models.create("cifar10_13pct", 7)) == "relu4"
    alone = models.Network((Dropout("drop"), Conv("fc8", 7, 4, fully_connected=True)), crop=4)
    with pytest.raises(ValueError, match="no layer in front of the classifier"):
        aggregate.penultimate(alone)


def test_what_cannot_be_applied_densely_is_refused():
    network, _ = make_net("vgg_c")
    cut = activations.cut(network, ["relu7"])
    aggregate.require_dense(cut, 32)
    with pytest.raises(
        UserError, match="Q=31 is too small: a map of 1x1 is too small for layer pool5"
    ):
        aggregate.require_dense(cut, 31)
    aggregate.require_dense(activations.cut(network, ["pool1"]), 31)
    cifar, params = make_net("cifar10_11pct")
    with pytest.raises(UserError, match="local3 is locally connected.*a layer before it"):
        aggregate.require_dense(cifar, 32)
    with pytest.raises(ValueError, match="locally connected"):
        aggregate.of_whole(cifar, params, *on_canvas(noise((24, 24)), 24, 24), MEAN)


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_descriptors_are_divided_by_their_length():
    x = np.array([[3, 4], [0, 0], [0, -1e-30], [1e30, 1e30]], np.float32)
    found = aggregate.normalize(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0], [0, -1], [0.5**0.5] * 2], rtol=1e-6)
    assert x[0, 0] == 3  # it is not changed


def test_scales_are_averaged_then_normalized():
    rng = np.random.default_rng(0)
    scales = [factor * rng.random((4, 6), np.float32) for factor in (1, 5, 2)]
    np.testing.assert_allclose(aggregate.average(scales), unit(np.mean(scales, axis=0)), rtol=1e-6)
    with pytest.raises(ValueError, match="one shape"):
        aggregate.average([scales[0], scales[1][:, :5]])
    with pytest.raises(ValueError, match="one shape"):
        aggregate.average([])


def test_stacked_parts_count_alike_whatever_their_size():
    rng = np.random.default_rng(0)
    parts = [rng.random((4, 6), np.float32), 100 * rng.random((4, 3), np.float32)]
    found = aggregate.stack(parts)
    expected = np.concatenate([unit(part) for part in parts], axis=1) / np.sqrt(2)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)
    with pytest.raises(ValueError, match="same images"):
        aggregate.stack([parts[0], parts[1][:3]])
    with pytest.raises(ValueError, match="same images"):
        aggregate.stack([])
