"""From a file to a network that every command takes; what is wrong with a file is one line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

import deepconv
from deepconv.commands import command_line, weights
from deepconv.exceptions import UserError
from deepconv.inference import model, rows
from deepconv.inference.evaluate import Request, evaluate
from deepconv.run import parameters, weights_file
from deepconv.run.parameters import open_parameters
from deepconv.weights import importing, torch_file

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def tensors():
    """Return VGG-11's tensors under torchvision's names."""
    return {name: np.array(t) for name, t in torch_file.read(GOLDEN / "vgg11.pth").items()}


@pytest.fixture
def saved(tensors, tmp_path):
    """Return a function that writes such tensors as safetensors, some of them replaced."""

    def save(metadata=None, **changes):
        changed = {**tensors, **{name.replace("__", "."): t for name, t in changes.items()}}
        kept = {name: tensor for name, tensor in changed.items() if tensor is not None}
        safetensors.numpy.save_file(kept, tmp_path / "net.safetensors", metadata)
        return tmp_path / "net.safetensors"

    return save


def test_the_command_reports_every_tensor_and_writes_what_load_weights_takes(tmp_path, run_main):
    out = tmp_path / "net.safetensors"
    (tmp_path / "classes.txt").write_text("a\nb\nc\nd\ne\n")
    process = run_main(
        "weights", "import", GOLDEN / "vgg11.pth", out, f"--classes={tmp_path}/classes.txt"
    )
    assert process.returncode == 0, process.stderr
    for name in torch_file.read(GOLDEN / "vgg11.pth"):
        assert name in process.stdout
    assert f"{out}: vgg_a, 5 classes, 32-pixel crops of images rescaled" in process.stdout
    net = deepconv.load_weights(out)
    assert (net.name, net.step, net.class_names) == ("net", 0, ("a", "b", "c", "d", "e"))
    assert (net.network.crop, net.config.evaluation.scale) == (32, 37)
    np.testing.assert_allclose(net.colors.mean_rgb, [123.675, 116.28, 103.53])
    _, about = weights_file.read(out)
    assert about["source"]["file"] == "vgg11.pth"
    assert about["source"]["done"]["conv1_1/kernel"] == "OIHW to HWIO, divided by 255 * std"
    assert about["version"]


@pytest.mark.slow
def test_the_package_stays_cheap_to_import():
    script = "import sys, deepconv; deepconv.load_weights; print('jax' in sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert process.stdout == "False\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"features__8__weight": None},
            r"net\.safetensors: tensors of vgg11 are missing: features\.8\.weight",
        ),
        (
            {"features__1__running_mean": np.zeros(1, np.float32)},
            r"features\.1\.running_mean: not part of vgg11, the most similar known network",
        ),
        (
            {"features__3__weight": np.zeros((2, 1, 5, 5), np.float32)},
            r"features\.3\.weight is 2x1x5x5, but a vgg_a like this has 2x1x3x3",
        ),
        (
            {"classifier__6__weight": np.zeros((4, 64), np.float32)},
            r"classifier\.6\.weight is 4x64, but a vgg_a like this has 5x64",
        ),
        (
            {"classifier__0__weight": np.zeros((64, 24), np.float32)},
            r"classifier\.0\.weight is 64x24, but a vgg_a like this has 64x8",
        ),
        (
            {"features__0__bias": np.full(1, np.nan, np.float32)},
            r"features\.0\.weight or its bias contains NaN or infinity",
        ),
    ],
)
def test_what_is_not_the_network_is_one_line(changes, message, saved):
    with pytest.raises(UserError, match=message) as error:
        importing.read(saved(**changes))
    assert "\n" not in str(error.value)


def test_another_network(tmp_path):
    path = tmp_path / "net.safetensors"
    safetensors.numpy.save_file({"layer1.0.conv1.weight": np.zeros((4, 4))}, path)
    with pytest.raises(
        UserError,
        match=r"unknown network, with tensors layer1\.0\.conv1\.weight; known networks of",
    ):
        importing.read(path)


def test_a_wrong_number_of_classes(saved, tmp_path):
    (tmp_path / "classes.txt").write_text("a\nb\n\n")
    with pytest.raises(UserError, match=r"was trained on 5 classes, but .*classes\.txt has 2"):
        importing.read(saved(), class_names=tmp_path / "classes.txt")


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file(kept, saved):
    path = saved()
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(UserError, match=r"net\.safetensors is (damaged|not a \.pth)"):
        importing.read(path)


def test_a_file_of_ours_that_was_altered_or_never_was(saved, tmp_path):
    with pytest.raises(
        UserError,
        match="not a deepconv weights file; convert it with deepconv weights import .* OUT",
    ):
        weights_file.read(saved())
    with pytest.raises(UserError, match="no such file or folder"):
        deepconv.load_weights(tmp_path / "nothing.safetensors")
    out = tmp_path / "ours.safetensors"
    importing.write(importing.read(saved()), out)
    altered = bytearray(out.read_bytes())
    altered[-3] ^= 1
    out.write_bytes(altered)
    with pytest.raises(UserError, match=r"is damaged: the checksum of \S+ is wrong"):
        model.open_model(out)


def test_a_file_of_another_framework_is_imported_on_the_way(tmp_path, caplog):
    importing.write(importing.read(GOLDEN / "vgg11.pth"), tmp_path / "vgg11.safetensors")
    ours = model.open_model(tmp_path / "vgg11.safetensors")
    parameters._announced.clear()
    with caplog.at_level("INFO", "deepconv"):
        net = model.open_model(GOLDEN / "vgg11.pth")
    (line,) = caplog.messages
    assert line.endswith("vgg11.pth: imported from torchvision as vgg_a with 5 classes")
    assert (net.name, net.network, net.digest) == (ours.name, ours.network, ours.digest)
    jax.tree.map(np.testing.assert_array_equal, net.params, ours.params)
    assert net.config.to_dict() == ours.config.to_dict()
    saved = open_parameters(GOLDEN / "vgg11.pth", which="best")  # as init.checkpoint
    assert saved.shapes["conv1_1"]["kernel"] == net.params["conv1_1"]["kernel"].shape
    config, colors = model.load_input(GOLDEN / "vgg11.pth")
    assert config.evaluation.scale == 37
    np.testing.assert_array_equal(colors.mean_rgb, ours.colors.mean_rgb)
    with pytest.raises(UserError, match=r"README\.md is not a \.pth, \.safetensors"):
        model.open_model(ROOT / "README.md")


def test_bad_input_of_the_command_is_one_line(tmp_path, run_main):
    process = run_main("weights", "import", "missing.pth", tmp_path / "out.safetensors")
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == "deepconv: No such file or directory: missing.pth\n"
    for arguments, line in (
        (["import", "README.md"], "usage: deepconv weights import"),
        (["imports", "README.md", "out"], "usage: deepconv weights import"),
        (["import", "README.md", "net.pth"], r"must end in \.safetensors, as in net\.safetensors"),
        (["export", "README.md", "net.pth"], "what is written is a safetensors file, so its name"),
        (
            ["export", "README.md", "net", "--format=deepconv"],
            "must end in .safetensors, as in net",
        ),
        (
            ["export", "README.md", "net.pth", "--format=stablehlo"],
            r"--format=stablehlo writes a \.stablehlo file",
        ),
        (["import", "README.md", "nowhere/out.safetensors"], "there is no folder nowhere"),
    ):
        with pytest.raises(UserError, match=line):
            weights.main(*command_line.parse(weights, arguments))
    with pytest.raises(UserError, match=r"README\.md is not a \.pth, \.safetensors"):
        importing.read(ROOT / "README.md")


def test_an_imported_network_is_evaluated_like_a_run(narrow_run, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "MOST_BUCKETS", 1)
    run = model.open_model(narrow_run)
    about = {
        "network": "vgg_a",
        "options": {"crop": 32, "width": 1 / 32},
        "classes": 12,
        "class_names": None,
        "mean_rgb": run.colors.mean_rgb.tolist(),
        "scale": 36,
    }
    arrays = {
        f"{layer}/{part}": np.asarray(array)
        for layer, parts in run.params.items()
        for part, array in parts.items()
    }
    weights_file.write(tmp_path / "net.safetensors", arrays, about)
    dataset = {key: run.config.dataset[key] for key in ("name", "data_dir", "eval_split")}
    shutil.copytree(narrow_run, tmp_path / "run")
    result = evaluate([tmp_path / "net.safetensors"], Request("center"), dataset=dataset)
    assert result["posteriors"] == str(
        tmp_path / "net" / "evaluation" / "shapes_validation" / "center_q36.npz"
    )
    expected = evaluate([tmp_path / "run"], Request("center"))
    assert result["top1_error"] == expected["top1_error"]
    assert [row["name"] for row in result["classes"]] == [
        row["name"] for row in expected["classes"]
    ]
    # Other weights under the same name are not taken for these.
    arrays["fc8/bias"] = arrays["fc8/bias"] + np.arange(12, dtype=np.float32)
    weights_file.write(tmp_path / "net.safetensors", arrays, about)
    again = evaluate([tmp_path / "net.safetensors"], Request("center"), dataset=dataset)
    assert again["top1_error"] != result["top1_error"]
    assert json.loads(Path(again["posteriors"]).with_suffix(".json").read_text())["images"] == 600


NAMES = ("tench, Tinca tinca", "café", "日本", "crane", "crane")
LINES = "\n".join(NAMES)


@pytest.mark.parametrize(
    "data",
    [
        LINES.encode(),
        f"{LINES}\n".encode(),
        f"{LINES}\n\n  \n".encode(),
        b"\xef\xbb\xbf" + LINES.encode(),
        LINES.replace("\n", "\r\n").encode() + b"\r\n",
        LINES.replace("\n", "\r").encode(),
        LINES.replace("\n", "  \n ").encode(),
        LINES.encode("utf-16"),
        LINES.replace("\n", "\r\n").encode("utf-16"),
        b"\xfe\xff" + LINES.encode("utf-16-be"),
    ],
)
def test_a_file_of_class_names_in_any_editors_form(tmp_path, data):
    path = tmp_path / "words.txt"
    path.write_bytes(data)
    assert importing.read_class_names(path) == NAMES


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            LINES.replace("日本", "Japan").encode("latin-1"),
            "line 2, is not UTF-8: save the file as",
        ),
        (b"a\r\nb\r\n\xe9", "line 3, is not UTF-8"),
        (LINES.encode("utf-16") + b"x", "line 5, is not UTF-16"),
        ("cat\ndog\n".encode("utf-16-le"), "line 1, has characters that are not text"),
        (b"a\n\n  \nb\n", "line 2, is blank: every class needs a name"),
        (b"a\nb\x0cc\n", r"line 2, has characters that are not text \(b\\x0cc\)"),
        (b"PK\x03\x04\x00\x00", "line 1, has characters that are not text"),
    ],
)
def test_a_file_of_class_names_that_cannot_be_read(tmp_path, data, message):
    path = tmp_path / "words.txt"
    path.write_bytes(data)
    with pytest.raises(UserError, match=rf"words\.txt, {message}") as error:
        importing.read_class_names(path)
    assert "\n" not in str(error.value)


def test_class_names_are_counted(tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb\r\n")
    with pytest.raises(UserError, match=r"was trained on 5 classes, but .*words\.txt has 2"):
        importing.read(GOLDEN / "vgg11.pth", class_names=path)


@pytest.mark.parametrize(
    "metadata",
    [
        {"class_names": "[1"},
        {"class_names": "7"},
        {"mean_rgb": "[1, 2]"},
        {"mean_rgb": '"x"'},
        {"crop": "big"},
        {"resize": "[1]"},
    ],
)
def test_metadata_that_are_not_ours(saved, metadata):
    with pytest.raises(UserError, match=r"net\.safetensors: its metadata is not what"):
        importing.read(saved(metadata))


def test_crop_and_scale_are_those_of_the_metadata(saved):
    imported = importing.read(saved({"crop": "48", "resize": "56"}))
    assert (imported.converted.options["crop"], imported.scale) == (48, 56)
    imported = importing.read(saved({"resize": "40"}))
    assert (imported.converted.options["crop"], imported.scale) == (32, 40)
    with pytest.raises(UserError, match="which do not match crops of 64 pixels"):
        importing.read(saved({"crop": "64", "resize": "70"}))
    with pytest.raises(UserError, match="rescaled to 40 pixels, less than the crop, 48"):
        importing.read(saved({"crop": "48", "resize": "40"}))


def test_timms_config_beside_a_file_says_which_pixels(tmp_path):
    file, config = tmp_path / "model.pth", tmp_path / "config.json"
    file.write_bytes((GOLDEN / "vgg11.pth").read_bytes())
    said = {"mean": [0.5, 0.25, 0], "std": [0.229, 0.224, 0.225], "input_size": [3, 32, 32]}
    said["crop_pct"] = 0.8
    config.write_text(json.dumps({"pretrained_cfg": said, "label_names": list("abcde")}))
    net = deepconv.load_model(file)
    assert (net.config.evaluation.scale, net.class_names) == (40, tuple("abcde"))
    np.testing.assert_allclose(net.colors.mean_rgb, [127.5, 63.75, 0])
    config.write_text(json.dumps({"pretrained_cfg": {**said, "std": [0.5, 0.5, 0.5]}}))
    with pytest.raises(UserError, match=r"config\.json says that pixels are divided by \[0\.5, "):
        deepconv.load_model(file)
    config.write_text("{}")  # of something else
    assert deepconv.load_model(file).config.evaluation.scale == 37
