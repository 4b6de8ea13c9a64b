"""Transfer from the command line, on small folders in the layouts of the real data sets."""

import json

import numpy as np
import PIL.Image
import pytest

from deepconv.commands import command_line, predict, transfer
from deepconv.data.sources import caltech
from deepconv.exceptions import UserError
from deepconv.inference import rows
from deepconv.transfer import splits, svm_file
from tests.data.sources.test_voc import annotate, list_split, thing
from tests.transfer.photographs import draw_classes

CLASSES = ("BACKGROUND_Google", "ant", "bass")


def run(command, *arguments):
    command.main(*command_line.parse(command, [*map(str, arguments)]))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Take three classes for all of Caltech-101, and split its few pictures."""
    published = caltech._PUBLISHED["caltech101"]._replace(classes=3)
    monkeypatch.setitem(caltech._PUBLISHED, "caltech101", published)
    monkeypatch.setitem(splits.CALTECH, "caltech101", splits.Protocol(5, 2, 3))
    monkeypatch.setattr(rows, "MOST_BUCKETS", 1)


@pytest.fixture
def pictures(tmp_path):
    draw_classes(tmp_path / "101_ObjectCategories", CLASSES, 8)
    return tmp_path


@pytest.fixture
def fitted(pictures, narrow_file, capsys):
    """Return what the command wrote for Caltech-101 at two stacked scales, and printed."""
    run(
        transfer,
        f"--weights={narrow_file}",
        f"--dataset=caltech101:{pictures}",
        "--scales=32,40",
        f"--out={pictures}/out",
        f"--json={pictures}/result.json",
        f"--save={pictures}/svm.safetensors",
    )
    return pictures, json.loads((pictures / "result.json").read_text()), capsys.readouterr().out


@pytest.mark.slow
def test_caltech_from_pictures_to_a_table_a_sheet_and_an_svm(fitted):
    pictures, result, printed = fitted
    assert result["mean"] > 0.6  # colors are easy to tell apart
    assert len(result["splits"]) == len(result["of_splits"]) == 3
    assert (result["train_images"], result["test_images"]) == (15, 6)
    assert result["scales"] == [32, 40]
    assert result["networks"][0]["layer"] == "relu7"
    assert f"here: narrow       {100 * result['mean']:.1f} ± " in printed
    assert "VGG Net-D & Net-E  92.7 ± 0.5" in printed
    (file,) = pictures.glob("out/narrow_*/evaluation/*/transfer_relu7_q32-40_stack.json")
    assert json.loads(file.read_text()) == result
    assert f"results: {file}" in printed
    assert file.with_suffix(".txt").read_text() in printed
    assert PIL.Image.open(file.with_suffix(".png")).size == (960, 990)
    classifier = svm_file.load(pictures / "svm.safetensors")
    assert classifier.class_names == CLASSES
    assert classifier.linear.weights.shape == (result["numbers"], 3)
    assert classifier.settings["C"] == result["splits"][0]["C"]


@pytest.mark.slow
def test_the_saved_svm_labels_new_pictures(fitted, narrow_file, tmp_path, capsys):
    pictures, _, _ = fitted
    arguments = (
        f"--weights={narrow_file}",
        f"--svm={pictures}/svm.safetensors",
        f"--json={tmp_path}/labels.json",
        f"--sheet={tmp_path}/sheet.png",
        pictures / "101_ObjectCategories",
    )
    run(predict, *arguments)
    listed = json.loads((tmp_path / "labels.json").read_text())
    right = [row["best"][0]["label"] == row["picture"].split("/")[-2] for row in listed]
    assert len(listed) == 24
    assert np.mean(right) > 0.6
    scores = [label["score"] for label in listed[0]["best"]]
    assert scores == sorted(scores, reverse=True)
    assert f"{listed[0]['best'][0]['label']} {scores[0]:.2f}" in capsys.readouterr().out
    assert PIL.Image.open(tmp_path / "sheet.png").size == (960, 330 * 6)
    with pytest.raises(UserError, match="so --scales has no effect"):
        run(predict, *arguments, "--scales=32")


@pytest.mark.slow
def test_an_svm_is_used_only_with_its_own_networks(fitted, narrow_file, tmp_path):
    pictures, _, _ = fitted
    file = pictures / "svm.safetensors"
    classifier = svm_file.load(file)
    (known,) = classifier.settings["networks"]
    changed = {
        "another network, narrow, whose descriptors are not": {"config_hash": "x"},
        "fitted on narrow after update 7, and these are its parameters after 0": {"step": 7},
        "narrow: there is no layer 'relu9'": {"layer": "relu9"},
        "descriptors of narrow have .* numbers, but the SVM was fitted on": {"layer": "relu3_1"},
    }
    for words, difference in changed.items():
        settings = {**classifier.settings, "networks": [{**known, **difference}]}
        svm_file.save(file, classifier._replace(settings=settings))
        with pytest.raises(UserError, match=words) as error:
            run(predict, f"--weights={narrow_file}", f"--svm={file}", pictures)
        assert "\n" not in str(error.value)
    svm_file.save(file, classifier._replace(settings={}))
    with pytest.raises(UserError, match="the SVM was not written by deepconv transfer"):
        run(predict, f"--weights={narrow_file}", f"--svm={file}", pictures)
    svm_file.save(file, classifier)
    with pytest.raises(UserError, match="fitted on 1 networks, narrow; give --weights as many"):
        run(predict, f"--weights={narrow_file},{narrow_file}", f"--svm={file}", pictures)


@pytest.mark.slow
def test_voc_has_every_class_by_both_rules(tmp_path, narrow_file, capsys):
    root = tmp_path / "VOC2007"
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    draw_classes(root / "JPEGImages", ("cat", "dog"), 12)
    members = {"train": [], "val": []}
    for name in ("cat", "dog"):
        for number in range(12):
            picture = f"{name}{number}"
            file = root / "JPEGImages" / name / f"{number}.png"
            file.rename(root / "JPEGImages" / f"{picture}.png")
            things = [thing(name, (1, 1, 20, 20))]
            if number % 2:
                things.append(thing("hat", (1, 1, 9, 9), difficult=int(number == 3)))
            annotate(root, picture, *things, size=None, file_name=f"{picture}.png")
            members["train" if number < 8 else "val"].append(picture)
    for split, lines in members.items():
        list_split(root, split, *lines)
    run(
        transfer,
        f"--weights={narrow_file}",
        f"--dataset=voc:{root}",
        "--scales=32,36",
        "--combine=average",
        f"--out={tmp_path}/out",
    )
    printed = capsys.readouterr().out
    assert "class  images  AP %, 11-point  AP %, all-point" in printed
    assert "mean        -" in printed
    assert "VGG Net-D & Net-E  89.7" in printed
    assert "note: the paper's results are of all 5,011 and 4,952 images, and cannot be" in printed
    (file,) = tmp_path.glob("out/narrow_*/evaluation/*/transfer_relu7_q32-36_average.json")
    result = json.loads(file.read_text())
    assert result["metric"] == "mean average precision, 11-point"
    of_class = {row["name"]: row["average_precision"]["11-point"] for row in result["classes"]}
    assert min(of_class["cat"], of_class["dog"]) > 0.6
    assert result["train_images"] == 16


@pytest.mark.slow
def test_actions_are_told_by_the_picture_and_the_persons_box(tmp_path, narrow_file, capsys):
    root = tmp_path / "VOC2012"
    for folder in ("Annotations", "ImageSets/Action", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    colors = {"running": (200, 30, 30), "reading": (30, 30, 200)}
    rng = np.random.default_rng(0)
    lines = {(name, split): [] for name in (*colors, "other") for split in ("train", "val")}
    for number in range(12):
        # Two persons in every picture, one of each kind, so that only the boxes tell them apart.
        pixels = rng.integers(0, 60, (40, 60, 3), np.uint8)
        order = sorted(colors, reverse=bool(number % 2))
        for name, left in zip(order, (0, 30), strict=True):
            pixels[:, left : left + 30] += np.uint8(colors[name]) // 2
        PIL.Image.fromarray(pixels).save(root / "JPEGImages" / f"{number}.png")
        persons = [thing("person", (left + 1, 1, left + 30, 40)) for left in (0, 30)]
        annotate(root, f"{number}", *persons, size=None, file_name=f"{number}.png")
        for (name, split), listed in lines.items():
            if split == ("train" if number < 8 else "val"):
                listed += [f"{number} {at + 1} {1 if order[at] == name else -1}" for at in (0, 1)]
    for (name, split), listed in lines.items():
        (root / "ImageSets" / "Action" / f"{name}_{split}.txt").write_text("\n".join(listed))
    arguments = (f"--weights={narrow_file}", f"--dataset=voc_action:{root}", "--scales=32,36")
    run(transfer, *arguments, f"--out={tmp_path}/out")
    printed = capsys.readouterr().out
    assert "16 persons to train on, 8 to test with" in printed
    assert "VGG Net-D & Net-E, image and box  84.0" in printed
    assert "note: the paper's results are of VOC's own test set, and cannot be compared" in printed
    (file,) = tmp_path.glob("out/narrow_*/evaluation/*/transfer_relu7_q32-36_stack.json")
    result = json.loads(file.read_text())
    assert result["metric"] == "mean average precision, all-point"
    assert [row["name"] for row in result["classes"]] in (["reading", "running"], [*colors])
    assert result["mean"] > 0.9
    # Two scales, of the picture and of the box.
    (rows_of_box,) = tmp_path.glob("out/narrow_*/evaluation/*_val_boxes/*_q32/rows.npy")
    assert result["numbers"] == 4 * np.load(rows_of_box).shape[1]
    assert result["worst"][0]["image"].split(", object ")[1] in ("1", "2")

    with pytest.raises(UserError, match="SVMs of actions cannot be saved"):
        run(transfer, *arguments, f"--save={tmp_path}/svm.safetensors")


def test_what_is_wrong_is_one_line(pictures, narrow_file, monkeypatch):
    caltech101 = f"--dataset=caltech101:{pictures}"
    draw_classes(pictures / "flowers", ("rose",), 2)
    monkeypatch.setitem(splits.CALTECH, "caltech101", splits.Protocol(30, 50, 3))
    for arguments, words in (
        ([caltech101], "class BACKGROUND_Google has 8 pictures, but 30 are trained on"),
        ([caltech101, "--split=test"], "are drawn; leave out --train_split and --split"),
        ([caltech101, "--layer=fc9"], "narrow: there is no layer 'fc9'; the layers are conv1_1"),
        ([caltech101, "--scales=8"], "narrow: Q=8 is too small"),
        ([caltech101, f"--weights={narrow_file},{narrow_file}"], "names a network twice"),
        ([caltech101, "--out=x.json"], "must be a folder"),
        ([f"--dataset=folder:{pictures}/flowers", "--splits=2"], "has splits of its own, so"),
        ([f"--dataset=caltech256:{pictures}"], "is not Caltech-256"),
        ([f"--dataset=voc_action:{pictures}"], "has no ImageSets/Action; voc_action: takes"),
    ):
        with pytest.raises(UserError, match=words) as error:
            run(transfer, f"--weights={narrow_file}", "--scales=32", *arguments)
        assert "\n" not in str(error.value)
