"""Boxes at the places of a map against each crop alone, and a canvas against the image alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepconv import models
from deepconv.localization import windows

CROP, CLASSES = 32, 6
MEAN = np.array([120.0, 115.0, 100.0], np.float32)


@pytest.fixture(scope="module", params=["single", "per_class"])
def network(request):
    model = models.create(
        "vgg_a",
        CLASSES,
        boxes=request.param,
        crop=CROP,
        width=1 / 16,
        dropout=0.0,
        initializer="he",
    )
    params = model.init(jax.random.key(0), jnp.zeros((1, CROP, CROP, 3)))["params"]
    return model, params


def images(*sizes, seed=0):
    """Return images in the upper left of canvases, noise around them, and their sizes."""
    rng = np.random.default_rng(seed)
    canvas = np.max(sizes, axis=0) + np.array([0, 5])
    pixels = rng.integers(0, 256, (len(sizes), *canvas, 3), np.uint8)
    return pixels, np.array(sizes, np.int32)


def codes_of(network, params, window):
    """Return the codes of one crop by itself, `[1 or C, 4]`."""
    outputs = network.apply({"params": params}, window[None].astype(np.float32) - MEAN)
    return np.asarray(outputs, np.float64)[0, 0, 0].reshape(-1, 4)


def in_image(code, top, left, height, width):
    cx, cy, w, h = code[0], code[1], max(code[2], 0), max(code[3], 0)
    x0, x1 = left + CROP * (cx - w / 2), left + CROP * (cx + w / 2)
    y0, y1 = top + CROP * (cy - h / 2), top + CROP * (cy + h / 2)
    return [x0 / width, y0 / height, x1 / width, y1 / height]


@pytest.mark.slow
def test_the_central_crop_gives_the_box_of_the_label(network):
    model, params = network
    pixels, extents = images((40, 61), (53, 36), (32, 32))
    labels = np.array([3, 0, 5])
    found = windows.of_center(model, params, pixels, extents, MEAN, labels=labels)
    for row, (height, width) in enumerate(extents):
        top, left = (height - CROP) // 2, (width - CROP) // 2
        codes = codes_of(model, params, pixels[row, top : top + CROP, left : left + CROP])
        code = codes[labels[row] % len(codes)]
        expected = in_image(code, top, left, height, width)
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-5)


def whole(network, pixels, extents, maps, classes, most):
    model, params = network
    return np.asarray(
        windows.of_whole(
            model, params, pixels, extents, MEAN, class_maps=maps, classes=classes, most=most
        )
    )


@pytest.mark.slow
def test_an_image_on_a_canvas_has_the_boxes_that_it_has_alone(network):
    model, _ = network
    pixels, extents = images((70, 100), (96, 64), (40, 33))
    classes = np.array([[1, 4], [0, 2], [5, 3]])
    maps = np.random.default_rng(1).normal(size=(3, 4, 4, CLASSES)).astype(np.float32)
    rows, columns = model.map_extents(jnp.asarray(pixels.shape[1:3]))
    maps = maps[:, : int(rows), : int(columns)]
    found = whole(network, pixels, extents, maps, classes, most=20)
    assert found.shape == (3, 20, 2, 5)
    for row, (height, width) in enumerate(extents):
        h, w = map(int, model.map_extents(jnp.asarray([height, width])))
        alone = whole(
            network,
            pixels[row : row + 1, :height, :width],
            extents[row : row + 1],
            maps[row : row + 1, :h, :w],
            classes[row : row + 1],
            most=20,
        )[0]
        kept = ~np.isnan(found[row, :, 0, 0])
        assert kept.sum() == h * w
        np.testing.assert_allclose(found[row][kept], alone[: h * w], rtol=1e-4, atol=1e-5)


def test_the_center_of_a_map_of_one_place_is_its_only_box(network):
    model, params = network
    pixels, extents = images((CROP, CROP))
    maps = np.random.default_rng(1).normal(size=(1, 1, 1, CLASSES)).astype(np.float32)
    pixels = pixels[:, :CROP, :CROP]
    found = whole(network, pixels, extents, maps, np.array([[4]]), most=1)
    center = windows.of_center(model, params, pixels, extents, MEAN, labels=np.array([4]))
    np.testing.assert_allclose(found[0, 0, :, :4], center, rtol=1e-5, atol=1e-6)
    posterior = np.exp(maps[0, 0, 0, 4]) / np.exp(maps[0, 0, 0]).sum()
    assert found[0, 0, 0, 4] == pytest.approx(posterior, rel=1e-5)


def test_of_a_larger_map_the_places_with_the_highest_posteriors_are_kept(network):
    pixels, extents = images((130, 135))
    pixels = pixels[:, :130, :135]
    maps = np.random.default_rng(2).normal(size=(1, 4, 4, CLASSES)).astype(np.float32)
    classes = np.array([[2, 0, 1]])
    every = whole(network, pixels, extents, maps, classes, most=16)[0]
    some = whole(network, pixels, extents, maps, classes, most=5)[0]
    best = np.sort(np.argsort(-every[..., 4].max(axis=1), kind="stable")[:5])
    np.testing.assert_array_equal(some, every[best])


def test_places_are_a_stride_apart():
    for name in ("vgg_d", "alexnet"):
        model = models.create(name, CLASSES)
        assert windows.stride_of(model.layers, model.crop) == 32


@pytest.mark.slow
def test_a_place_far_from_the_edge_sees_its_crop_alone():
    # Padding makes crops at the edge of an image differ from those within; a network without any
    # padding has none of that, and the box of every place is that of its crop.
    model = models.create("vgg_a", CLASSES, boxes="per_class", crop=CROP, width=1 / 16, dropout=0.0)
    unpadded = [layer for layer in model.layers if not any(getattr(layer, "padding", ()))]
    model = model.clone(layers=tuple(unpadded))
    params = model.init(jax.random.key(0), jnp.zeros((1, CROP, CROP, 3)))["params"]
    pixels, extents = images((96, 128))
    pixels = pixels[:, :96, :128]
    maps = np.zeros((1, 3, 4, CLASSES), np.float32)
    classes = np.array([[3]])
    of_whole = functools.partial(windows.of_whole, class_maps=maps, classes=classes, most=12)
    found = np.asarray(of_whole(model, params, pixels, extents, MEAN))[0, :, 0, :4]
    for place in range(12):
        top, left = 32 * (place // 4), 32 * (place % 4)
        code = codes_of(model, params, pixels[0, top : top + CROP, left : left + CROP])[3]
        np.testing.assert_allclose(
            found[place], in_image(code, top, left, 96, 128), rtol=1e-4, atol=1e-5
        )
