"""A file of 1000 classes without names has ImageNet's, in every command."""

import json

import numpy as np
import pytest

import deepconv
from deepconv.commands import command_line, evaluate, predict, saliency
from deepconv.data import imagenet
from deepconv.exceptions import UserError
from deepconv.inference import model, rows
from deepconv.weights import exporting, importing
from tests.conftest import GOLDEN
from tests.weights import files, reference


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "net.pth"
    tensors = reference.random_vgg(reference.VGG11, width=1 / 64, side=1, classes=1000)
    files.torch_archive(path, files.torchvision(tensors, reference.VGG11))
    return path


@pytest.fixture(autouse=True)
def few_programs(monkeypatch):
    monkeypatch.setattr(rows, "MOST_BUCKETS", 1)


def of(command, *arguments):
    command.main(*command_line.parse(command, list(map(str, arguments))))


def test_names_are_assumed_until_a_data_set_says_others(file, tmp_path):
    assert "with 1000 classes, taken to be ImageNet's" in importing.describe(importing.read(file))
    net = deepconv.load_model(file)
    assert (net.class_names, net.labels[281], net.assumed) == (imagenet.wnids(), "tabby", True)
    others = tuple(f"kind {number}" for number in range(1000))
    assert net.named_like(net.named(others)).class_names == others
    assert not net.named(imagenet.wnids()).unnamed
    for export in (exporting.to_deepconv, exporting.to_torchvision):
        export(net, tmp_path / "out.safetensors")
        assert deepconv.load_model(tmp_path / "out.safetensors").assumed
        export(net.named(others), tmp_path / "out.safetensors")
        assert deepconv.load_model(tmp_path / "out.safetensors").class_names == others
    few = deepconv.load_model(GOLDEN / "vgg11.pth")
    assert (few.labels[0], few.unnamed, few.assumed) == ("class 0", True, False)


@pytest.mark.slow
def test_predictions_have_names_and_numbers(file, photos, tmp_path, capsys):
    json_file = tmp_path / "x.json"
    of(predict, f"--weights={file}", "--protocol=center", f"--json={json_file}", photos / "a.jpg")
    (listed,) = json.loads(json_file.read_text())
    table = capsys.readouterr().out
    for best in listed["best"]:
        assert imagenet.wnids()[best["index"]] == best["class"]
        assert best["label"] == imagenet.label(best["class"])
        assert f"{best['label']} {best['posterior']:.2f}" in table


def test_a_class_is_asked_for_by_any_of_its_names(file):
    net = model.open_model(file)
    for label in ("tabby", "tabby cat", "n02123045", "Tabby_cat", "281"):
        assert saliency.numbered(net, label) == 281
    with pytest.raises(UserError, match="--label=crane is the name of classes 134, 517; give the"):
        saliency.numbered(net, "crane")
    with pytest.raises(
        UserError, match="not one of the 1000 classes, which begin with tench, gold"
    ):
        saliency.numbered(net, "rose")


def fill(folder, encode, names):
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 256, (36, 36, 3), np.uint8)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encode(pixels, "PNG"))


@pytest.mark.slow
def test_a_part_of_the_classes_is_evaluated_among_all_of_them(file, tmp_path, encode, capsys):
    folder = tmp_path / "pictures"
    fill(folder, encode, [f"{wnid}/{n}.png" for wnid in ("n02123045", "n01443537") for n in "ab"])
    fill(tmp_path / "flat", encode, ["a.png", "b.png"])
    (tmp_path / "flat.csv").write_text("a,tabby\nb,goldfish\n")
    common = (f"--weights={file}", "--protocol=center", f"--json={tmp_path}/x.json")
    parts = {
        "named": (f"--dataset=folder:{folder}", "--classes=part"),
        "flat": (f"--dataset=folder:{tmp_path}/flat", f"--labels={tmp_path}/flat.csv"),
    }
    with pytest.raises(UserError, match=r"different classes .*; --classes=part evaluates them as"):
        of(evaluate, *common, parts["named"][0], f"--out={tmp_path}/no")
    for name, given in parts.items():
        of(evaluate, *common, *given, f"--out={tmp_path}/{name}")
        result = json.loads((tmp_path / "x.json").read_text())
        assert result["images"] == (4 if name == "named" else 2)
        assert {row["name"] for row in result["classes"]} == {"n02123045", "n01443537"}
        assert "tabby" in capsys.readouterr().out
        logs = np.load(result["posteriors"])
        assert logs["log_posteriors"].shape == (result["images"], 1000)
        assert {*logs["labels"].tolist()} == {1, 281}


@pytest.mark.slow
def test_parts_that_cannot_be_matched(file, tmp_path, encode):
    fill(tmp_path / "pictures", encode, ["rose/a.png", "tulip/a.png"])
    given = (f"--dataset=folder:{tmp_path}/pictures", "--classes=part", f"--out={tmp_path}/out")
    with pytest.raises(UserError, match="its class 'rose' is not one of the network's 1000"):
        of(evaluate, f"--weights={file}", "--protocol=center", *given)
    with pytest.raises(
        UserError, match=r"vgg11 has no class names .*weights import --classes=FILE"
    ):
        of(evaluate, f"--weights={GOLDEN}/vgg11.pth", "--protocol=center", *given)
    with pytest.raises(UserError, match="--labels needs the folder of the pictures"):
        of(evaluate, f"--weights={file}", "--labels=x.csv")
