"""A network in a program: pictures of any kind in, names, numbers and features out."""

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

import deepconv
from deepconv import models
from deepconv.data.sources.given import open_given
from deepconv.exceptions import UserError
from deepconv.inference import activations, rows


@pytest.fixture(scope="module")
def net(narrow_file):
    return deepconv.load_model(narrow_file)


@pytest.fixture(autouse=True)
def few_programs(monkeypatch):
    monkeypatch.setattr(rows, "MOST_BUCKETS", 1)


@pytest.fixture
def array():
    return np.random.default_rng(3).integers(0, 256, (50, 60, 3), np.uint8)


def test_pictures_of_every_kind_are_the_same(array, tmp_path, photos):
    path = tmp_path / "x.png"
    image = PIL.Image.fromarray(array)
    image.save(path)
    source = open_given([path, str(path), image, array, jnp.asarray(array), np.stack([array] * 2)])
    assert source.file_names == [str(path), str(path), *(f"picture {n}" for n in range(2, 7))]
    for record in range(len(source)):
        example = source[record]
        assert (example["label"], example["file_name"]) == (0, source.file_names[record])
        encoded = example["image"]
        (tmp_path / "again").write_bytes(encoded)
        np.testing.assert_array_equal(PIL.Image.open(tmp_path / "again"), array)
    assert len(open_given(photos)) == 3
    assert len(open_given(image.convert("L"))) == len(open_given(image.convert("RGBA"))) == 1


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (np.zeros((9, 9), np.uint8), r"uint8 RGB \[H, W, 3\] or .*, not uint8 \[9, 9\]"),
        (np.zeros((9, 9, 4), np.uint8), r"not uint8 \[9, 9, 4\]"),
        (np.zeros((2, 2, 9, 9, 3), np.uint8), r"not uint8 \[2, 2, 9, 9, 3\]"),
        (np.zeros((9, 9, 3), np.float32), r"in 0\.\.255, not float32 \[9, 9, 3\]"),
        (np.zeros((0, 9, 9, 3), np.uint8), r"not uint8 \[0, 9, 9, 3\]"),
        ([], "no pictures are given"),
        (["nowhere.jpg"], r"no such picture or folder: nowhere\.jpg"),
        ([7], "a picture is a path, a Pillow image or an array, not a int"),
    ],
)
def test_what_is_no_picture(pictures, message):
    with pytest.raises(UserError, match=message):
        open_given(pictures)


@pytest.mark.slow
def test_the_three_ways_agree(net, photos):
    crops = net.preprocess(photos)
    assert (crops.dtype, crops.shape) == (np.float32, (3, 32, 32, 3))
    outputs = net.network.apply({"params": net.params}, crops, method="activations")
    for layers in ("relu7", ["relu7", "conv1_1"]):
        found = net.features(photos, layers)
        found = found if isinstance(found, dict) else {layers: found}
        for name, values in found.items():
            np.testing.assert_allclose(values, outputs[name], rtol=1e-4, atol=1e-4)
    posteriors = jax.nn.softmax(outputs["fc8"][:, 0, 0])
    predictions = net.predict(photos)
    assert [each.picture for each in predictions] == open_given(photos).file_names
    for prediction, expected in zip(predictions, posteriors, strict=True):
        names, found = zip(*prediction.best, strict=True)
        assert names == tuple(net.labels[number] for number in prediction.classes)
        # Predictions rescale whole pictures, and of a JPEG that is not quite the same as a part.
        np.testing.assert_allclose(found, np.sort(expected)[::-1], rtol=0.03)


@pytest.mark.slow
def test_other_protocols_and_scales(net, array):
    (dense,) = net.predict(array, protocol="dense", scales=[40])
    assert sum(posterior for _, posterior in dense.best) == pytest.approx(1)
    with pytest.raises(UserError, match="unknown protocol 'densely'; choose from center"):
        net.predict(array, protocol="densely")
    with pytest.raises(UserError, match="Q=31 is below vgg_a's crop, 32"):
        net.predict(array, scales=[31])


def test_a_damaged_picture_is_named(net, photos):
    data = (photos / "a.jpg").read_bytes()
    (photos / "a.jpg").write_bytes(data[: len(data) // 2])
    for use in (net.preprocess, net.predict, lambda pictures: net.features(pictures, "pool1")):
        with pytest.raises(UserError, match=r"a\.jpg cannot be read as a picture: ."):
            use([photos / "b.png", photos / "a.jpg"])


def test_a_model_is_shown_in_a_few_lines(net):
    lines = repr(net).splitlines()
    assert lines == [
        "Model 'narrow': vgg_a, 11 layers with 7,381 parameters",
        "  5 classes: class 0, class 1, class 2, ...",
        "  crops of 32 pixels of images with a shorter side of 37; mean RGB 123.7, 116.3, 103.5",
        "  outputs: conv1_1, relu1_1, pool1, ..., drop7, fc8",
    ]
    assert len(repr(net._replace(class_names=("x" * 400,) * 3))) < 400


def test_an_extractor_takes_one_name(net, array):
    one, several = (
        activations.extractor(net, names)(array[None]) for names in ("pool1", ["pool1"])
    )
    np.testing.assert_array_equal(one, several["pool1"])
    with pytest.raises(ValueError, match="no layer 'relu'; the layers are conv1_1"):
        activations.extractor(net, "relu")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((40, 40, 3), r"must have shape \[N, H, W, 3\], not \[40, 40, 3\]"),
        ((1, 3, 40, 40), r"must have shape \[N, H, W, 3\], not \[1, 3, 40, 40\]"),
        ((1, 31, 40, 3), r"images of shape \[1, 31, 40, 3\] are too small: the output of pool5 is"),
    ],
)
def test_images_of_a_wrong_shape(net, shape, message):
    with pytest.raises(ValueError, match=message):
        activations.extractor(net, "fc8")(np.zeros(shape, np.uint8))


def test_a_network_refuses_what_would_be_nan():
    network = models.create("vgg_a", 3, width=1 / 64, crop=64)
    variables = network.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    with pytest.raises(ValueError, match=r"\[2, 63, 64, 3\] are too small: .* fc6 is empty; .* 64"):
        network.apply(variables, jnp.zeros((2, 63, 64, 3)))
    with pytest.raises(ValueError, match=r"must have shape \[N, H, W, 3\], not \[64, 64, 3\]"):
        network.apply(variables, jnp.zeros((64, 64, 3)))
    assert network.apply(variables, jnp.zeros((0, 64, 64, 3))).shape == (0, 1, 1, 3)
