"""Labels of pictures: what evaluation says of them, in a table, JSON and a contact sheet."""

import json

import jax
import numpy as np
import PIL.Image
import pytest

from deepconv import parallel
from deepconv.commands import predict as command
from deepconv.data import decode
from deepconv.data.sources import pictures
from deepconv.exceptions import UserError
from deepconv.inference import model, predict, rows
from deepconv.inference.evaluate import Request
from deepconv.visualize import sheets


@pytest.fixture(scope="module")
def net(narrow_file):
    return model.open_model(narrow_file, parallel.replicated(parallel.data_mesh()))


@pytest.fixture(autouse=True)
def few_programs(monkeypatch):
    monkeypatch.setattr(rows, "MOST_BUCKETS", 1)


@pytest.mark.slow
def test_posteriors_are_those_of_each_picture_alone(net, photos):
    source = pictures.open_pictures([photos])
    dense, center = (
        np.exp(predict.log_posteriors(net, source, Request(protocol, (40,)), threads=2))
        for protocol in ("dense", "center")
    )
    assert dense.shape == (3, 5)
    for number in range(3):
        pixels, _ = decode.load_crop(
            source[number]["image"], lambda h, w: decode.whole(h, w, shorter=40)
        )
        top, left = ((length - 32) // 2 for length in pixels.shape[:2])

        def says(image):
            scores = net.network.apply({"params": net.params}, image[None] - net.colors.mean_rgb)
            return jax.nn.softmax(scores.mean(axis=(1, 2)))[0]

        whole = np.mean([says(pixels), says(pixels[:, ::-1])], axis=0)
        np.testing.assert_allclose(dense[number], whole, rtol=1e-4)
        central = says(pixels[top : top + 32, left : left + 32])
        np.testing.assert_allclose(center[number], central, rtol=1e-4)


def test_the_best_come_first_and_of_equal_ones_the_first():
    says = np.array([[0.1, 0.4, 0.1, 0.3, 0.1, 1e-9], [1.0, 0, 0, 0, 0, 0]])
    logs = np.log(
        says, where=says > 0, out=np.array([[0.0] * 6, [0, -300, -200, -500, -100, -400]])
    )
    first, second = predict.best(logs, ["x", "y"], "abcdef")
    assert [label for label, _ in first.best] == [*"bdace"]
    assert [says for _, says in first.best] == pytest.approx([0.4, 0.3, 0.1, 0.1, 0.1])
    assert second.best[0] == ("a", 1.0)
    assert [label for label, _ in second.best] == [*"aecbf"]
    few = predict.best(logs[:, :2], ["x", "y"], "ab")
    assert [len(each.best) for each in few] == [2, 2]


def test_the_command_and_a_picture_that_is_none(narrow_file, photos, tmp_path, run_main):
    (photos / "broken.jpg").write_bytes((photos / "a.jpg").read_bytes()[:600])
    (photos / "notes.txt").write_text("no picture, and not named as one")
    process = run_main(
        "predict",
        f"--weights={narrow_file}",
        "--protocol=ten_crop",
        f"--json={tmp_path}/x.json",
        f"--sheet={tmp_path}/x.png",
        photos,
    )
    assert process.returncode == 2
    assert process.stderr.count("\n") == 1
    assert f"{photos}/broken.jpg cannot be read as a picture" in process.stderr
    listed = json.loads((tmp_path / "x.json").read_text())
    assert [each["picture"] for each in listed] == [
        f"{photos}/{name}" for name in ("a.jpg", "b.png", "more/c.JPG")
    ]
    for each in listed:
        assert sum(label["posterior"] for label in each["best"]) == pytest.approx(1)
        assert f"{each['best'][0]['label']} {each['best'][0]['posterior']:.2f}" in process.stdout
        assert each["picture"] in process.stdout
    assert PIL.Image.open(tmp_path / "x.png").size == (960, 330)


def test_pictures_are_found_and_faults_named(photos, tmp_path):
    source = pictures.open_pictures([photos / "b.png", photos])
    assert [name[len(str(photos)) :] for name in source.file_names] == [
        "/b.png",
        "/a.jpg",
        "/b.png",
        "/more/c.JPG",
    ]
    PIL.Image.new("RGB", (400, 10)).save(tmp_path / "long.png")
    (tmp_path / "text.png").write_text("text")
    paths = [tmp_path / "long.png", tmp_path / "text.png", photos / "a.jpg"]
    kept, refused = pictures.recognized(pictures.open_pictures(paths), 2)
    assert kept.file_names == [str(photos / "a.jpg")]
    assert refused == [
        f"{paths[0]} is 400x10; the aspect ratio may be at most 32:1",
        f"{paths[1]} cannot be read as a picture: not an image of a known format",
    ]
    with pytest.raises(UserError, match="is 400x10; the aspect ratio"):
        pictures.recognized(pictures.open_pictures(paths[:1]), 2)
    for paths, message in (
        ([tmp_path / "nothing"], "no such picture or folder: .*nothing"),
        ([], "no pictures in the arguments"),
    ):
        with pytest.raises(UserError, match=message):
            pictures.open_pictures(paths)


def test_pixels_are_decoded_once_and_what_is_damaged_is_set_aside(net, photos, monkeypatch):
    whole = (photos / "a.jpg").read_bytes()
    (photos / "a.jpg").write_bytes(whole[: len(whole) // 2])  # the header is whole
    decoded = []
    load_crop = decode.load_crop

    def counted(data, choose):
        decoded.append(data)
        return load_crop(data, choose)

    monkeypatch.setattr(decode, "load_crop", counted)
    source, refused = pictures.recognized(pictures.open_pictures([photos]), 2)
    assert (len(source), refused) == (3, [])
    says = predict.log_posteriors(net, source, Request("dense", (40,)), threads=2)
    assert len(decoded) == 3
    assert np.isnan(says).all(axis=1).tolist() == [True, False, False]
    others, kept, damaged = pictures.set_aside(source, [0])
    assert kept == [1, 2]
    assert others.file_names == source.file_names[1:]
    assert [line.partition(": ")[0] for line in damaged] == [
        f"{source.file_names[0]} cannot be read as a picture"
    ]
    assert pictures.set_aside(others, [])[1] == [0, 1]


def test_a_sheet_has_every_picture_over_its_labels(net, photos):
    source = pictures.open_pictures([photos])
    says = np.full((3, 5), np.log(0.2))
    named = predict.best(says, source.file_names, net.class_names)
    figure = sheets.contact_sheet(source, says, named, net.class_names)
    titles = [axes.get_title() for axes in figure.axes if axes.images]
    assert titles == ["a.jpg", "b.png", "c.JPG"]
    bars = [axes for axes in figure.axes if axes.patches]
    assert [len(axes.patches) for axes in bars] == [5, 5, 5]


def test_a_narrow_terminal_shows_fewer_labels_that_can_be_read():
    names = ("suspension bridge", "African grey", "yellow lady's slipper", "reel", "carbonara")
    best = tuple((name, 0.2) for name in names)
    row = predict.Prediction("val/ILSVRC2012_val_00000002.JPEG", best, (0, 1, 2, 3, 4))
    whole = command._table([row], None)
    assert all(f"{name} 0.20" in whole for name in names)
    assert command._table([row], 200) == whole
    (*_, line) = command._table([row], 80).splitlines()
    assert line.endswith("00002.JPEG  suspension bridge 0.20  African grey 0.20")
    (*_, line) = command._table([row], 60).splitlines()
    assert line.count("0.20") == 2
    assert len(line) <= 60
