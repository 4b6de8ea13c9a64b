"""Every command takes another framework's file itself, and announces the import in one line."""

import importlib
import json

import numpy as np
import PIL.Image
import pytest

import deepconv
from deepconv.commands import command_line
from deepconv.exceptions import UserError
from deepconv.inference import model, rows
from deepconv.run import parameters
from deepconv.training import loop
from deepconv.weights import exporting
from tests.conftest import GOLDEN
from tests.training.test_finetune import config_from

FILE = GOLDEN / "vgg11.pth"
LINE = f"{FILE}: imported from torchvision as vgg_a with 5 classes"


@pytest.fixture(autouse=True)
def few_programs(monkeypatch):
    monkeypatch.setattr(rows, "MOST_BUCKETS", 1)
    parameters._announced.clear()


@pytest.fixture
def lines(caplog):
    """Return the lines of the log so far that announce an import."""
    caplog.set_level("INFO", "deepconv")
    return lambda: [line for line in caplog.messages if "imported from" in line]


def of(name, *arguments):
    command = importlib.import_module(f"deepconv.commands.{name}")
    command.main(*command_line.parse(command, list(map(str, arguments))))


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "--protocol=center", "--json={out}/x.json", "{photos}"),
        ("features", "--layer=relu7", "--out={out}/x.npz", "{photos}"),
        ("saliency", "--out={out}/x.png", "{photos}/a.jpg"),
        ("figures", "kernels", "--out={out}/x.png"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_pictures(arguments, photos, tmp_path, lines):
    name, *rest = (text.format(out=tmp_path, photos=photos) for text in arguments)
    of(name, f"--weights={FILE}", *rest)
    assert len([*tmp_path.glob("x.*")]) == 1
    assert lines() == [LINE]


@pytest.mark.slow
def test_evaluation(tmp_path, lines, encode):
    for number in range(5):
        folder = tmp_path / "val" / f"kind {number}"
        folder.mkdir(parents=True)
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)
        (folder / "x.png").write_bytes(encode(pixels, "PNG"))
    of(
        "evaluate",
        f"--weights={FILE}",
        f"--dataset=folder:{tmp_path}",
        "--split=val",
        "--protocol=center",
        f"--out={tmp_path}/out",
        f"--json={tmp_path}/x.json",
    )
    assert json.loads((tmp_path / "x.json").read_text())["images"] == 5
    assert lines() == [LINE]


@pytest.mark.slow
def test_a_classifier_of_another_framework_names_boxes(
    narrow_run, boxes_run, photos, tmp_path, lines
):
    net = model.open_model(narrow_run)
    config = net.config.copy_and_resolve_references().unlock()
    config.input.mean = "rgb"
    names = tuple(f"class {number}" for number in range(12))
    file = tmp_path / "net.safetensors"
    exporting.to_torchvision(net._replace(config=config, class_names=names), file)
    given = (f"--boxes={boxes_run}", f"--classifier={file}", f"--json={tmp_path}/x.json")
    of("localize", *given, photos / "a.jpg")
    (found,) = json.loads((tmp_path / "x.json").read_text())
    assert {box["label"] for box in found["boxes"]} <= {*net.class_names}
    assert lines() == [f"{file}: imported from torchvision as vgg_a with 12 classes"]


@pytest.mark.slow
def test_training_starts_from_it_and_says_so_once(shapes_root, tmp_path, lines):
    config = config_from(FILE, shapes_root)
    config.train.epochs = 0.5
    loop.train(config, tmp_path / "run")
    source, run = model.open_model(FILE), deepconv.load_model(tmp_path / "run")
    np.testing.assert_array_equal(
        run.params["conv1_1"]["kernel"], source.params["conv1_1"]["kernel"]
    )
    assert lines() == [LINE]


def test_what_is_not_there_is_said_to_be_missing(tmp_path):
    missing = tmp_path / "vgg16.pth"
    for opened in (
        deepconv.load_model,
        model.load_input,
        lambda path: parameters.open_parameters(path, which="best"),
    ):
        with pytest.raises(UserError, match=r"no such file or folder: .*vgg16\.pth"):
            opened(missing)


def test_a_picture_is_not_taken_for_weights(tmp_path):
    PIL.Image.new("RGB", (9, 9)).save(tmp_path / "cat.png")
    with pytest.raises(UserError, match=r"cat\.png is not a \.pth, \.safetensors"):
        deepconv.load_model(tmp_path / "cat.png")
