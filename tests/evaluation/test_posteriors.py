"""Crops against a loop in numpy; dense evaluation against the image alone, of any size."""

import functools
import io
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from deepconv import models
from deepconv.evaluation import crops, ensemble, posteriors
from deepconv.evaluation.protocols import PROTOCOLS, VIEWS
from deepconv.models.layers import Conv
from tests.evaluation.canvases import noise, on_canvas

MEAN = np.array([120.0, 110.0, 100.0], np.float32)
# What each net pads differently; kernels of 1x1, LRN, two towers and strides among them.
NETS = {
    "vgg_c": {"crop": 32},
    "vgg_a_lrn": {"crop": 48},
    "alexnet": {"crop": 67},
}
# fc8 is scaled until its products and bias are of up to 60, and 16 layers round to some 2^-24 of
# that each; a posterior moves by half of what the scores do.
ROUNDING = 0.5 * 16 * 60 * 2.0**-24


@functools.cache
def make_net(name):
    """Return a narrow net whose random weights tell images apart."""
    options = {"width": 1 / 16, **NETS[name]} if name in NETS else {}
    network = models.create(name, 7, initializer="he", **options)
    shape = (8, network.crop, network.crop, 3)
    images = 60 * np.random.default_rng(2).normal(size=shape).astype(np.float32)
    # The default generator takes seconds to compile for every shape of a parameter.
    params = jax.jit(network.init)(jax.random.key(1, impl="rbg"), images)["params"]
    scores = network.apply({"params": params}, images)[:, 0, 0]
    factor = 2 / scores.std(axis=0).mean()
    last = network.layers[-1].name
    own = {"kernel": params[last]["kernel"] * factor, "bias": -scores.mean(axis=0) * factor}
    return network, {**params, last: own}


def log_softmax(scores):
    shifted = np.asarray(scores, np.float64) - scores.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def softmax(scores):
    return np.exp(log_softmax(scores))


@functools.cache
def apply_of(network):
    return jax.jit(lambda params, pixels: network.apply({"params": params}, pixels))


@functools.cache
def jitted(view, network):
    return jax.jit(lambda *arguments: jnp.exp(VIEWS[view](network, *arguments)))


def scores_of(network, params, pixels):
    return np.asarray(apply_of(network)(params, pixels[None]), np.float64)[0]


@pytest.mark.slow
@pytest.mark.parametrize("view", ["center", "ten_crop", "nine_view", "multi_crop"])
def test_crops_equal_a_loop_over_them(view):
    network, params = make_net("vgg_a_lrn")
    offsets = crops.grid if view == "multi_crop" else getattr(crops, view)
    images = noise((56, 71), (80, 56), (48, 48))
    canvas, extents = on_canvas(images, 80, 71)
    found = np.asarray(jitted(view, network)(params, canvas, extents, MEAN))
    for image, says in zip(images, found, strict=True):
        expected = []
        for top, left in np.asarray(offsets(jnp.array([image.shape[:2]]), 48))[0]:
            crop = image[top : top + 48, left : left + 48].astype(np.float32) - MEAN
            assert crop.shape == (48, 48, 3)
            expected.append(softmax(scores_of(network, params, crop)[0, 0]))
            if view not in ("center", "nine_view"):
                expected.append(softmax(scores_of(network, params, crop[:, ::-1])[0, 0]))
        assert (
            len(expected)
            == {
                "center": 1,
                "ten_crop": 10,
                "nine_view": 9,
                "multi_crop": 50,
            }[view]
        )
        np.testing.assert_allclose(says, np.mean(expected, axis=0), atol=ROUNDING)
    assert np.ptp(found, axis=0).max() > 0.05


def test_crops_have_the_mean_images_own_part_subtracted():
    network, params = make_net("vgg_a_lrn")
    mean = np.random.default_rng(3).uniform(80, 140, (56, 56, 3)).astype(np.float32)
    (image,) = noise((56, 71))
    canvas, extents = on_canvas([image], 56, 71)
    found = jitted("ten_crop", network)(params, canvas, extents, mean)[0]
    square = image[:, 7:63].astype(np.float32) - mean
    expected = []
    for top, left in [(0, 0), (0, 8), (4, 4), (8, 0), (8, 8)]:
        crop = square[top : top + 48, left : left + 48]
        for pixels in (crop, crop[:, ::-1]):
            expected.append(softmax(scores_of(network, params, pixels)[0, 0]))
    np.testing.assert_allclose(found, np.mean(expected, axis=0), atol=ROUNDING)


@pytest.mark.slow
def test_the_nine_views_of_cifar10_are_those_of_the_papers_code():
    network, params = make_net("cifar10_11pct")
    mean = np.random.default_rng(3).uniform(80, 140, (32, 32, 3)).astype(np.float32)
    images = noise((32, 32), (32, 32), (32, 32))
    canvas, extents = on_canvas(images, 32, 32)
    found = np.asarray(jitted("nine_view", network)(params, canvas, extents, mean))
    assert np.ptp(found, axis=0).max() > 0.05
    for image, says in zip(images, found, strict=True):
        pixels = image.astype(np.float32) - mean
        expected = [
            softmax(scores_of(network, params, pixels[top : top + 24, left : left + 24])[0, 0])
            for top in (0, 4, 8)
            for left in (0, 4, 8)
        ]
        np.testing.assert_allclose(says, np.mean(expected, axis=0), atol=ROUNDING)


@pytest.mark.parametrize("view", VIEWS)
def test_classes_keep_their_order_where_posteriors_vanish(view):
    """A linear net of whole numbers, whose scores, hundreds apart, are exact in float32."""
    network = models.Network((Conv("fc8", 7, 4, fully_connected=True),), crop=4)
    rng = np.random.default_rng(0)
    kernel = rng.integers(-1, 2, (4, 4, 3, 7))
    bias = np.array([0, -2000, 3, -2100, -2050, -7, -1900])  # four classes far behind
    params = {"fc8": {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}}
    images = [
        rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in ((6, 6), (5, 9), (8, 6))
    ]
    canvas, extents = on_canvas(images, 9, 9)
    found = np.asarray(VIEWS[view](network, params, canvas, extents, MEAN))
    assert (np.exp(found) == 0).sum() > 5

    def score_map(pixels):
        windows = sliding_window_view(pixels - MEAN.astype(int), (4, 4), axis=(0, 1))
        return np.einsum("hwcij,ijcf->hwf", windows, kernel) + bias

    for image, says in zip(images, found, strict=True):
        logs = []
        mirrored = view not in ("center", "nine_view")
        for pixels in (image, image[:, ::-1]) if mirrored else (image,):
            scores = score_map(pixels)
            if view == "dense":
                scores = scores.mean(axis=(0, 1), keepdims=True)
            elif view != "dense_posteriors":
                # A crop of the mirror image is the mirror image of a crop, from the other side.
                offsets = crops.grid if view == "multi_crop" else getattr(crops, view)
                top, left = np.asarray(offsets(jnp.array([image.shape[:2]]), 4))[0].T
                left = left if pixels is image else image.shape[1] - 4 - left
                scores = scores[top, left]
            logs.append(log_softmax(scores).reshape(-1, 7))
        logs = np.concatenate(logs)
        exact = np.logaddexp.reduce(logs) - np.log(len(logs))
        # Some roundings of logs whose size is that of the scores.
        np.testing.assert_allclose(says, exact, rtol=2e-6, atol=2e-6)
        vanished = np.exp(says) == 0
        np.testing.assert_array_equal(np.argsort(says[vanished]), np.argsort(exact[vanished]))


def test_a_canvas_smaller_than_the_crop_is_refused():
    network, params = make_net("vgg_a_lrn")
    canvas, extents = on_canvas(noise((47, 60)), 47, 60)
    with pytest.raises(ValueError, match="no crop of 48 fits a canvas of 47x60"):
        VIEWS["center"](network, params, canvas, extents, MEAN)


def alone(network, params, image, average="scores"):
    """Score one image densely, on its own, in numpy from the score map on."""
    says = []
    for pixels in (image, image[:, ::-1]):
        score_map = scores_of(network, params, pixels.astype(np.float32) - MEAN)
        if average == "scores":
            says.append(softmax(score_map.mean(axis=(0, 1))))
        else:
            says.append(softmax(score_map).mean(axis=(0, 1)))
    return np.mean(says, axis=0)


@pytest.mark.slow
@pytest.mark.parametrize("average", ["scores", "posteriors"])
@pytest.mark.parametrize("name", NETS)
def test_an_image_on_a_canvas_is_scored_as_it_is_alone(name, average):
    network, params = make_net(name)
    side = network.crop
    images = noise((side, side), (side + 1, 3 * side), (2 * side + 13, side), (side + 37, side + 9))
    # What lies beyond an image must not matter, so it is not left black.
    canvas, extents = on_canvas(images, 2 * side + 20, 3 * side + 5, fill=77)
    view = "dense" if average == "scores" else "dense_posteriors"
    found = np.asarray(jitted(view, network)(params, canvas, extents, MEAN))
    expected = [alone(network, params, image, average) for image in images]
    np.testing.assert_allclose(found, expected, atol=ROUNDING)
    assert np.ptp(found, axis=0).max() > 0.02


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_dense_evaluation_of_an_image_of_the_crops_size_is_the_crop(name):
    network, params = make_net(name)
    (image,) = noise((network.crop, network.crop))
    canvas, extents = on_canvas([image], 3 * network.crop, 2 * network.crop)
    dense = jitted("dense", network)(params, canvas, extents, MEAN)
    crop = posteriors.of_crops(
        network, params, image[None], extents, MEAN, offsets=crops.center, mirror=True
    )
    np.testing.assert_allclose(dense, np.exp(crop), atol=ROUNDING)


def test_dense_evaluation_does_not_see_left_from_right():
    network, params = make_net("vgg_a_lrn")
    (image,) = noise((60, 100))
    given = [on_canvas([pixels], 64, 120) for pixels in (image, image[:, ::-1])]
    one, other = (jitted("dense", network)(params, *pair, MEAN) for pair in given)
    np.testing.assert_allclose(one, other, atol=ROUNDING)


@pytest.mark.slow
def test_photographs_of_twenty_aspect_ratios_are_scored_as_they_are_alone(shared_data):
    file = shared_data("ilsvrc_val750_s320.zip")
    network, params = make_net("vgg_a_lrn")
    by_ratio = {}
    with zipfile.ZipFile(file) as archive:
        for member in sorted(n for n in archive.namelist() if n.endswith(".JPEG")):
            image = PIL.Image.open(io.BytesIO(archive.read(member)))
            by_ratio.setdefault(round(image.width / image.height, 2), image)
    chosen = [by_ratio[ratio] for ratio in sorted(by_ratio)][:: max(1, len(by_ratio) // 20)][:20]
    assert len(chosen) == 20
    images = []
    for image in chosen:
        width, height = (round(length * 56 / min(image.size)) for length in image.size)
        images.append(np.asarray(image.convert("RGB").resize((width, height))))
    canvas, extents = on_canvas(images, *np.max([image.shape[:2] for image in images], axis=0))
    found = jitted("dense", network)(params, canvas, extents, MEAN)
    expected = [alone(network, params, image) for image in images]
    np.testing.assert_allclose(found, expected, atol=ROUNDING)


def test_posteriors_are_fused_by_their_mean():
    rng = np.random.default_rng(0)
    parts = log_softmax(rng.normal(size=(3, 5, 4))).astype(np.float32)
    fused = ensemble.fuse(list(parts))
    assert fused.dtype == np.float32
    np.testing.assert_allclose(np.exp(fused), np.exp(parts).mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(ensemble.fuse([parts[0]]), parts[0])
    with pytest.raises(ValueError, match="same shape"):
        ensemble.fuse([parts[0], parts[1, :3]])
    with pytest.raises(ValueError, match="same shape"):
        ensemble.fuse([])


def test_fusing_loses_nothing_that_float32_cannot_hold_as_a_posterior():
    logs = [np.array([[-300.0, -200.0, -np.inf, -np.inf, np.nan]], np.float32) for _ in range(2)]
    logs[1][0, :3] = [-301.0, -np.inf, 0.0]
    (found,) = ensemble.fuse(logs)
    expected = [-300 + np.log((1 + np.exp(-1)) / 2), -200 - np.log(2), -np.log(2), -np.inf, np.nan]
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_every_protocol_is_made_of_views():
    assert {view for views in PROTOCOLS.values() for view in views} <= VIEWS.keys()
