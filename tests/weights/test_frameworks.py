"""Caffe's, Keras' and MatConvNet's files: each activation is that of an independent computation."""

import numpy as np
import pytest

from deepconv.exceptions import UserError
from deepconv.weights import caffe, importing, keras, matconvnet
from tests.weights import files, reference

BGR_MEAN = np.array([103.939, 116.779, 123.68])
BLOCKS = {"vgg_d": reference.VGG16, "vgg_e": reference.VGG19}


def pixels_of(crop, count=2):
    return np.random.default_rng(5).integers(0, 256, (count, crop, crop, 3), np.uint8)


def run(compute, tensors, images, **options):
    """Return {name: [N, C, H, W]} of images [N, C, H, W]."""
    outputs = [compute(tensors, image, **options) for image in images]
    return {name: np.stack([each[name] for each in outputs]) for name in outputs[0]}


def blue_first(pixels, mean):
    return (pixels[..., ::-1] - mean).transpose(0, 3, 1, 2)


def in_order_hwc(x):
    return x.transpose(1, 2, 0).ravel()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "legacy"), [("vgg_d", True), ("vgg_e", False)])
def test_caffes_vgg(name, legacy, tmp_path, assert_parity):
    tensors = reference.random_vgg(BLOCKS[name], width=1 / 32, side=2, classes=6)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(files.caffemodel(tensors, legacy=legacy))
    pixels = pixels_of(64)
    expected = run(
        lambda t, x: reference.vgg(BLOCKS[name], t, x), tensors, blue_first(pixels, BGR_MEAN)
    )
    imported, net = assert_parity(path, pixels, expected)
    assert imported.converted.network == name
    assert net.unnamed


@pytest.mark.slow
@pytest.mark.parametrize("mean", ["values", "image"])
def test_caffes_alexnet(mean, tmp_path, assert_parity):
    tensors = reference.random_alexnet(width=1 / 16, side=2, classes=6)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(files.caffemodel(tensors, legacy=False))
    crop, scale, options = 99, 104, {}
    pixels, subtracted = pixels_of(crop), np.array([104.00698793, 116.66876762, 122.67891434])
    if mean == "image":
        image = np.random.default_rng(0).uniform(90, 130, (scale, scale, 3)).astype(np.float32)
        (tmp_path / "mean.binaryproto").write_bytes(files.binaryproto(image))
        options = {"mean": tmp_path / "mean.binaryproto"}
        offset = (scale - crop) // 2
        subtracted = image[offset:, offset:][:crop, :crop, ::-1]
    expected = run(reference.alexnet, tensors, blue_first(pixels, subtracted))
    imported, net = assert_parity(path, pixels, expected, **options)
    assert imported.converted.options == {"crop": crop, "width": 1 / 16, "lrn": "caffe"}
    assert net.config.input.mean == ("image" if mean == "image" else "rgb")


def test_caffenet_is_not_taken_for_alexnet(tmp_path):
    tensors = reference.random_alexnet(width=1 / 16, side=2, classes=6)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(files.caffemodel(tensors, legacy=False, bottoms={"norm1": "pool1"}))
    with pytest.raises(UserError, match="is CaffeNet, not AlexNet: it pools before it normalizes"):
        caffe.read(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "channels_first", "backend", "file"),
    [
        (1, False, "", "vgg16_weights_tf_dim_ordering_tf_kernels.h5"),
        (2, False, "tensorflow", "net.h5"),
        (2, True, "theano", "net.h5"),
        (1, False, "theano", "vgg16_weights_tf_dim_ordering_th_kernels.h5"),
    ],
)
def test_kerass_vgg(version, channels_first, backend, file, tmp_path, assert_parity):
    tensors = reference.random_vgg(reference.VGG16, width=1 / 32, side=2, classes=6)
    path = tmp_path / file
    files.keras(path, tensors, version=version, channels_first=channels_first, backend=backend)
    pixels = pixels_of(64, count=1)
    expected = run(
        lambda t, x: reference.vgg(reference.VGG16, t, x), tensors, blue_first(pixels, BGR_MEAN)
    )
    imported, _ = assert_parity(path, pixels, expected)
    turned = [row for row in imported.converted.rows if "rotated by 180" in row.done]
    assert len(turned) == (13 if backend == "theano" else 0)


def test_kernels_are_turned_where_the_name_alone_says_so(tmp_path):
    tensors = reference.random_vgg(reference.VGG16, width=1 / 32, side=1, classes=6)
    path = tmp_path / "vgg16_weights_tf_dim_ordering_th_kernels.h5"
    files.keras(path, tensors, version=1, side=1)
    assert keras.read(path).flipped


@pytest.mark.slow
def test_matconvnets_vgg(tmp_path, assert_parity):
    tensors = reference.random_vgg(reference.VGG16, width=1 / 32, side=2, classes=3)
    mean = np.array([123.68, 116.779, 103.939], np.float32)
    path = tmp_path / "net.mat"
    names = ["tench, Tinca tinca", "goldfish", "shark"]
    files.matconvnet(path, tensors, mean=mean.reshape(1, 1, 3), classes=names)
    pixels = pixels_of(64)
    expected = run(
        lambda t, x: reference.vgg(reference.VGG16, t, x),
        tensors,
        (pixels - mean.astype(float)).transpose(0, 3, 1, 2),
    )
    _, net = assert_parity(path, pixels, expected)
    assert net.class_names == tuple(names)


def test_matconvnets_alexnet_of_the_older_layout_with_a_mean_image(tmp_path, assert_parity):
    tensors = reference.random_alexnet(width=1 / 16, side=2, classes=3)
    image = np.random.default_rng(0).uniform(90, 130, (99, 99, 3)).astype(np.float32)
    path = tmp_path / "net.mat"
    files.matconvnet(path, tensors, mean=image, old=True)
    pixels = pixels_of(99)
    expected = run(reference.alexnet, tensors, (pixels - image.astype(float)).transpose(0, 3, 1, 2))
    assert_parity(path, pixels, expected)


@pytest.mark.parametrize("kept", [0.3, 0.97])
def test_a_truncated_file_is_one_line(kept, tmp_path):
    tensors = reference.random_vgg(reference.VGG16, width=1 / 32, side=1, classes=3)
    (tmp_path / "net.caffemodel").write_bytes(files.caffemodel(tensors, legacy=True))
    files.keras(tmp_path / "net.h5", tensors, side=1)
    files.matconvnet(tmp_path / "net.mat", tensors, mean=np.zeros((1, 1, 3)), side=1)
    for name in ("net.caffemodel", "net.h5", "net.mat"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: int(kept * len(whole))])
        with pytest.raises(UserError, match=rf"{name} is damaged") as error:
            importing.read(tmp_path / name)
        assert "\n" not in str(error.value)


def test_what_the_frameworks_cannot_have_written(tmp_path):
    scipy_file = tmp_path / "other.mat"
    import h5py
    import scipy.io

    scipy.io.savemat(scipy_file, {"x": np.zeros(3)})
    with pytest.raises(UserError, match="not a MatConvNet file"):
        matconvnet.read(scipy_file)
    with h5py.File(tmp_path / "new.weights.h5", "w") as file:
        file.create_group("layers/conv2d/vars")
    with pytest.raises(UserError, match="has no layer names"):
        keras.read(tmp_path / "new.weights.h5")
    with pytest.raises(UserError, match="not a square mean image"):
        (tmp_path / "mean.binaryproto").write_bytes(files.binaryproto(np.zeros((2, 3, 3))))
        caffe.read_mean(tmp_path / "mean.binaryproto")
