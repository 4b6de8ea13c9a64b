"""PyTorch files that are not plain torchvision's: normalized, converted from Caffe, wrapped."""

import argparse
import json

import numpy as np
import pytest

from deepconv.commands import command_line, weights
from deepconv.exceptions import UserError
from deepconv.run import weights_file
from deepconv.weights import conversion, importing
from tests.weights import files, reference

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
BGR_MEAN = np.array([103.939, 116.779, 123.68])
SIZE = {"width": 1 / 32, "side": 2, "classes": 6}


@pytest.fixture
def pixels():
    return np.random.default_rng(5).integers(0, 256, (2, 64, 64, 3), np.uint8)


@pytest.fixture
def tensors():
    return reference.random_vgg(reference.VGG11, **SIZE)


def computed(tensors, images, **options):
    """Return {name: [N, C, H, W]} of VGG-11 for images [N, H, W, 3]."""
    outputs = [
        reference.vgg(reference.VGG11, tensors, image, **options)
        for image in images.transpose(0, 3, 1, 2)
    ]
    return {name: np.stack([each[name] for each in outputs]) for name in outputs[0]}


@pytest.mark.slow
@pytest.mark.parametrize("timm", [False, True])
def test_batch_normalization_is_folded(timm, tensors, pixels, tmp_path, assert_parity):
    normalization = reference.random_normalization(tensors)
    state = files.torchvision(tensors, reference.VGG11, normalization=normalization, timm=timm)
    path = tmp_path / "net.pth"
    files.torch_archive(path, state)
    expected = computed(tensors, (pixels / 255 - MEAN) / STD, normalization=normalization)
    imported, _ = assert_parity(path, pixels, expected)
    assert imported.source.dialect == ("timm" if timm else "torchvision")
    assert imported.converted.folded
    assert "batch normalization is folded into the convolutions" in importing.describe(imported)
    _, about = weights_file.read(tmp_path / "ours.safetensors")
    assert about["source"]["batch_normalization"] == "folded"
    assert {row.there for row in imported.converted.rows} == {
        name for name in state if not name.endswith("num_batches_tracked")
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("features.1.running_var", None), r"tensors of vgg11_bn are missing: features\.1\.runn"),
        (("features.1.weight", np.ones(3, np.float32)), r"features\.1\.weight is 3, but a vgg_a"),
        (("features.1.running_var", np.full(2, -1, np.float32)), "contains NaN or infinity"),
        (("features.9.gain", np.ones(2, np.float32)), r"features\.9\.gain: not part of vgg11_bn"),
    ],
)
def test_normalization_that_does_not_fit(change, message, tensors, tmp_path):
    state = files.torchvision(
        tensors, reference.VGG11, normalization=reference.random_normalization(tensors)
    )
    name, array = change
    if array is None:
        del state[name]
    else:
        state[name] = array
    files.torch_archive(tmp_path / "net.pth", state)
    with pytest.raises(UserError, match=message):
        importing.read(tmp_path / "net.pth")


@pytest.mark.slow
def test_a_file_converted_from_caffe(tensors, pixels, tmp_path, assert_parity):
    path = tmp_path / "net.pth"
    files.torch_archive(path, files.torchvision(tensors, reference.VGG11))
    expected = computed(tensors, pixels[..., ::-1] - BGR_MEAN)
    assert_parity(path, pixels, expected, pixels="caffe")
    _, about = weights_file.read(tmp_path / "ours.safetensors")
    assert (about["source"]["channels"], about["source"]["std"]) == ("BGR", [1, 1, 1])
    expected = computed(tensors, (pixels / 255 - MEAN) / STD)
    assert_parity(path, pixels, expected, pixels="torchvision")


@pytest.mark.parametrize(
    ("norm", "pixels", "warning"),
    [
        (1.4, None, None),
        (1.4, "torchvision", None),
        (0.4, None, "are small for normalized pixels (median norm 0.4)"),
        (0.4, "torchvision", "use --pixels=caffe"),
        (0.4, "caffe", None),
        (1.4, "caffe", "are as large as those for normalized pixels (median norm 1.4)"),
    ],
)
def test_a_first_kernel_that_contradicts_the_pixels_is_reported(
    norm, pixels, warning, tensors, tmp_path, caplog
):
    weight, bias = tensors["conv1_1"]
    norms = np.sqrt((weight**2).sum(axis=(1, 2, 3), keepdims=True))
    tensors["conv1_1"] = norm * weight / norms, bias
    files.torch_archive(tmp_path / "net.pth", files.torchvision(tensors, reference.VGG11))
    imported = importing.read(tmp_path / "net.pth", pixels=pixels)
    if warning is None:
        assert not caplog.messages
    else:
        (line,) = caplog.messages
        assert warning.replace("use --pixels", "--pixels") in line
    assert ("BGR" in conversion.describe_pixels(imported.source)) == (pixels == "caffe")


def test_pixels_are_a_choice_of_pytorchs_files_only(tmp_path):
    path = tmp_path / "net.caffemodel"
    random = reference.random_vgg(reference.VGG16, **SIZE)
    path.write_bytes(files.caffemodel(random, legacy=True))
    with pytest.raises(UserError, match="--pixels is for PyTorch's files; those of caffe have no"):
        importing.read(path, pixels="caffe")


def test_the_command_prints_the_choice_and_what_it_left(tensors, tmp_path, capsys):
    state = files.torchvision(
        tensors, reference.VGG11, normalization=reference.random_normalization(tensors)
    )
    renamed = {f"model.{name}": array for name, array in state.items()}
    saved = {"state_dict": {**renamed, "loss.weight": np.ones(6)}, "args": argparse.Namespace(a=1)}
    files.torch_archive(tmp_path / "net.pth", saved)
    arguments = ["import", str(tmp_path / "net.pth"), str(tmp_path / "net.safetensors")]
    weights.main(*command_line.parse(weights, arguments))
    lines = capsys.readouterr().out.splitlines()
    assert "pixels: RGB, (p / 255 - mean) / std, as in torchvision; for a file" in lines[-4]
    assert lines[-3] == importing.FOLDED
    assert lines[-2] == "not used: args (argparse.Namespace), loss.weight"
    weights.main(*command_line.parse(weights, [*arguments, "--pixels=caffe"]))
    assert "pixels: BGR, p - mean" in capsys.readouterr().out.splitlines()
    assert json.dumps(weights_file.read(tmp_path / "net.safetensors")[1]["source"]["std"])
