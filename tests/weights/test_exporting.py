"""Out again: PyTorch takes the tensors strictly, and a program runs where this package is not."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from deepconv import models
from deepconv.evaluation.posteriors import of_whole
from deepconv.exceptions import UserError
from deepconv.inference import model
from deepconv.weights import exporting, importing, torch_file
from tests.faults.processes import PATIENCE_SECONDS

GOLDEN = Path(__file__).parent / "golden"
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="PyTorch is not installed"
)

ALONE = """
import sys
import jax.export
import numpy as np
program = jax.export.deserialize(open(sys.argv[1], "rb").read())
np.save(sys.argv[3], program.call(np.load(sys.argv[2])))
assert "deepconv" not in sys.modules
"""


def imported(name, folder):
    importing.write(importing.read(GOLDEN / f"{name}.pth"), folder / f"{name}.safetensors")
    return model.open_model(folder / f"{name}.safetensors")


@pytest.mark.parametrize("name", ["vgg11", "alexnet"])
def test_import_export_import_changes_no_bit_but_of_the_first_kernel(name, tmp_path):
    net = imported(name, tmp_path)
    exporting.to_torchvision(net, tmp_path / "theirs.safetensors")
    there = torch_file.read(GOLDEN / f"{name}.pth")
    importing.write(importing.read(tmp_path / "theirs.safetensors"), tmp_path / "again.safetensors")
    again = model.open_model(tmp_path / "again.safetensors")
    first = next(iter(net.params))
    for layer, parts in net.params.items():
        for part, array in parts.items():
            other = again.params[layer][part]
            if (layer, part) == (first, "kernel"):  # 255 std goes out and in, each time rounded
                np.testing.assert_allclose(other, array, rtol=2.0**-23)
            else:
                np.testing.assert_array_equal(other, array)
    exported = importing.weights_file.read_tensors(tmp_path / "theirs.safetensors")[0]
    assert exported.keys() == there.keys()
    for key, array in there.items():
        np.testing.assert_allclose(exported[key], array, rtol=2.0**-22)
    np.testing.assert_array_equal(again.colors.mean_rgb, net.colors.mean_rgb)
    assert again.network == net.network


@needs_torch
@pytest.mark.parametrize("source", ["alexnet", "run"])
def test_pytorch_takes_the_tensors_strictly(source, tmp_path, narrow_run):
    import safetensors.torch
    import torch

    from tests.weights import torch_nets

    if source == "run":
        net, arguments = model.open_model(narrow_run), ("vgg11", 1 / 32, 1, 12)
    else:
        net, arguments = imported("alexnet", tmp_path), ("alexnet", 1 / 64, 2, 5)
    exporting.to_torchvision(net, tmp_path / "theirs.safetensors")
    name, width, side, classes = arguments
    twin = torch_nets.create(name, width=width, side=side, classes=classes, seed=1)
    twin.load_state_dict(safetensors.torch.load_file(tmp_path / "theirs.safetensors"), strict=True)
    _, metadata = importing.weights_file.read_tensors(tmp_path / "theirs.safetensors")
    mean, std = (np.array(json.loads(metadata[key])) for key in ("mean", "std"))
    crop = net.network.crop
    pixels = np.random.default_rng(0).integers(0, 256, (2, crop, crop, 3), np.uint8)
    normalized = torch.tensor((pixels / 255 - mean) / std).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        theirs = twin(normalized).numpy()
    ours = net.network.apply({"params": net.params}, pixels - net.central_mean)[:, 0, 0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "view"), [("vgg11", "crop"), ("alexnet", "dense")])
def test_a_program_runs_without_this_package(name, view, tmp_path):
    net = imported(name, tmp_path)
    exporting.to_stablehlo(net, tmp_path / "net.stablehlo", view=view)
    crop = net.network.crop
    height, width = (crop, crop) if view == "crop" else (crop + 33, crop + 70)
    pixels = np.random.default_rng(0).integers(0, 256, (3, height, width, 3), np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    files = [str(tmp_path / file) for file in ("net.stablehlo", "pixels.npy", "says.npy")]
    subprocess.run(
        [sys.executable, "-c", ALONE, *files], check=True, cwd=tmp_path, timeout=PATIENCE_SECONDS
    )
    says = np.load(tmp_path / "says.npy")
    about = json.loads((tmp_path / "net.stablehlo.json").read_text())
    assert about["class_names"] == [f"class {number}" for number in range(5)]
    assert about["takes"].startswith("uint8 RGB [n, ")
    scores = net.network.apply({"params": net.params}, pixels - net.colors.mean_rgb)
    np.testing.assert_allclose(says, jax.nn.softmax(scores.mean(axis=(1, 2))), rtol=1e-4)
    if view == "dense":  # what evaluation says, of the image and its mirror image
        extents = np.full((3, 2), (height, width))
        both = [np.load(tmp_path / "says.npy")]
        program = jax.export.deserialize((tmp_path / "net.stablehlo").read_bytes())
        both.append(np.asarray(program.call(pixels[:, :, ::-1])))
        expected = of_whole(net.network, net.params, pixels, extents, net.colors.mean_rgb)
        np.testing.assert_allclose(np.mean(both, axis=0), np.exp(expected), rtol=1e-4)


def test_what_cannot_be_exported(tmp_path):
    net = imported("vgg11", tmp_path)
    config = net.config.copy_and_resolve_references().unlock()
    config.model.name = "vgg_c"
    with pytest.raises(UserError, match="torchvision has no equivalent of vgg_c, only of"):
        exporting.to_torchvision(net._replace(config=config), tmp_path / "out")
    config.input.mean = "image"
    with pytest.raises(UserError, match="vgg11 subtracts a mean image, which torchvision does not"):
        exporting.to_torchvision(net._replace(config=config), tmp_path / "out")
    local = net._replace(network=models.create("cifar10_13pct", 10))
    with pytest.raises(UserError, match="locally connected layers"):
        exporting.to_stablehlo(local, tmp_path / "out", view="dense")
    with pytest.raises(UserError, match="cannot write"):
        exporting.to_stablehlo(net, tmp_path / "nowhere" / "out", view="crop")


def test_crop_and_scale_come_back(tmp_path):
    net = imported("vgg11", tmp_path)
    config = net.config.copy_and_resolve_references().unlock()
    config.evaluation.scale = 56
    net = net._replace(config=config, network=net.network.clone(crop=48))
    exporting.to_torchvision(net, tmp_path / "theirs.safetensors")
    again = model.open_model(tmp_path / "theirs.safetensors")
    assert (again.network.crop, again.config.model.crop, again.config.evaluation.scale) == (
        *(48, 48),
        56,
    )
