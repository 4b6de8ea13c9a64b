"""Which folder is opened, and what is said about one that cannot be."""

import json
import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from deepconv.data import color
from deepconv.data.sources import datasets, identity, shapes
from deepconv.data.sources.identity import Identity, Part
from deepconv.exceptions import UserError


@pytest.fixture
def edited(tmp_path, shapes_root):
    """Return a function that lays a changed copy of the embedded set under a data folder."""
    original = datasets.prepared_directory("shapes", str(shapes_root))

    def edited(file, change):
        copy = tmp_path / "shapes" / original.name
        copy.mkdir(parents=True)
        for path in original.iterdir():
            os.symlink(path, copy / path.name)
        content = json.loads((original / file).read_text())
        change(content)
        (copy / file).unlink()
        (copy / file).write_text(json.dumps(content))
        return copy

    return edited


def assert_one_line(error, *parts):
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


# Where data sets lie.


@pytest.mark.parametrize(
    ("data_dir", "environment", "expected"),
    [
        ("/given", "/environment", "/given"),
        ("", "/environment", "/environment"),
        ("", "", "/home/somebody/tensorflow_datasets"),
        ("", None, "/home/somebody/tensorflow_datasets"),
        ("~/sets", None, "/home/somebody/sets"),
    ],
)
def test_root_is_as_given_else_of_the_environment_else_the_default(
    monkeypatch, data_dir, environment, expected
):
    monkeypatch.setenv("HOME", "/home/somebody")
    if environment is None:
        monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    else:
        monkeypatch.setenv("TFDS_DATA_DIR", environment)
    assert datasets.root(data_dir) == Path(expected)


def lay(root, *folders):
    for folder in folders:
        (root / folder).mkdir(parents=True)
        (root / folder / "dataset_info.json").write_text("{}")


def test_newest_version_is_by_number_not_by_letter(tmp_path):
    lay(tmp_path, "cats/1.0.0", "cats/1.10.0", "cats/1.9.0", "dogs/2.0.0")
    assert datasets.prepared_directory("cats", str(tmp_path)) == tmp_path / "cats" / "1.10.0"


def test_versions_of_a_configuration_are_found(tmp_path):
    lay(tmp_path, "cats/small/1.9.0", "cats/small/1.10.0")
    expected = tmp_path / "cats" / "small" / "1.10.0"
    assert datasets.prepared_directory("cats", str(tmp_path)) == expected


def test_unfinished_and_empty_folders_are_passed_over(tmp_path):
    lay(tmp_path, "cats/1.0.0", "cats/3.0.0.incompleteA1B2C3")
    (tmp_path / "cats" / "2.0.0").mkdir()
    assert datasets.prepared_directory("cats", str(tmp_path)) == tmp_path / "cats" / "1.0.0"
    assert datasets.prepared_directory("dogs", str(tmp_path)) is None


# Opening.


def test_the_embedded_set_is_opened(shapes_root):
    dataset = datasets.open_dataset("shapes", data_dir=str(shapes_root))
    assert (len(dataset.train), len(dataset.evaluation)) == (3600, 600)
    assert dataset.class_names == shapes.CLASSES
    assert dataset.directory.parent == shapes_root / "shapes"
    record, expected = dataset.evaluation[31], shapes.example("validation", 31)
    assert record["image"] == expected["image"]
    assert record["label"] == expected["label"]


def test_splits_are_written_as_in_tfds(shapes_root):
    dataset = datasets.open_dataset(
        "shapes", data_dir=str(shapes_root), train_split="train[:10%]", eval_split="train[3500:]"
    )
    assert (len(dataset.train), len(dataset.evaluation)) == (360, 100)
    assert dataset.evaluation[0]["image"] == shapes.example("train", 3500)["image"]


def test_an_own_set_is_prepared_when_first_opened_and_never_again(monkeypatch, tmp_path):
    monkeypatch.setattr(shapes, "SPLITS", {"train": 24, "validation": 12})
    first = datasets.open_dataset("shapes", data_dir=str(tmp_path))
    assert (len(first.train), len(first.evaluation)) == (24, 12)
    monkeypatch.setattr(datasets, "OWN_BUILDERS", {})
    again = datasets.open_dataset("shapes", data_dir=str(tmp_path))
    assert again.directory == first.directory
    assert again.train[5]["image"] == first.train[5]["image"]


def test_color_statistics_lie_beside_the_data_under_the_name_of_their_split(monkeypatch, tmp_path):
    monkeypatch.setattr(shapes, "SPLITS", {"train": 24, "validation": 12})
    files = set()
    for split, count in (("train", 24), ("train[:50%]", 12)):
        dataset = datasets.open_dataset("shapes", data_dir=str(tmp_path), train_split=split)
        records = [{"image": shapes.example("train", i)["image"]} for i in range(count)]
        expected = color.of_training_set(records, 20)
        statistics = dataset.color_statistics(20)
        np.testing.assert_array_equal(statistics.mean_image, expected.mean_image)
        part = dataset.identity.train
        files.add(f"color_{'train' if count == 24 else 'train_50'}_20_{part.digest}.npz")
    assert {path.name for path in dataset.directory.glob("color_*")} == files


def test_color_statistics_of_pictures_that_were_replaced_are_computed_anew(tmp_path):
    def lay(gray):
        for number in range(4):
            path = tmp_path / "set" / "a" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.new("L", (8, 8), gray).save(path)

    def mean():
        name = f"folder:{tmp_path / 'set'}"
        dataset = datasets.open_dataset(name, data_dir=str(tmp_path / "data"))
        return dataset.color_statistics(8).mean_rgb

    lay(10)
    np.testing.assert_array_equal(mean(), [10, 10, 10])
    lay(20)  # the files have the same names and sizes
    np.testing.assert_array_equal(mean(), [20, 20, 20])


def test_two_folders_of_one_relative_name_share_nothing(tmp_path, monkeypatch):
    for home, gray in (("one", 10), ("two", 20)):
        path = tmp_path / home / "ds" / "a" / "1.png"
        path.parent.mkdir(parents=True)
        for name in ("1.png", "2.png"):
            PIL.Image.new("L", (8, 8), gray).save(path.with_name(name))
            os.utime(path.with_name(name), (0, 0))
        monkeypatch.chdir(tmp_path / home)
        dataset = datasets.open_dataset("folder:ds", data_dir=str(tmp_path / "data"))
        np.testing.assert_array_equal(dataset.color_statistics(8).mean_rgb, [gray] * 3)


# What a set is known by.


def test_a_newer_version_is_another_set(edited, shapes_root, tmp_path):
    before = datasets.open_dataset("shapes", data_dir=str(shapes_root)).identity
    assert datasets.open_dataset("shapes", data_dir=str(shapes_root)).identity == before
    edited("dataset_info.json", lambda content: content.update(version="9.0.0"))
    now = datasets.open_dataset("shapes", data_dir=str(tmp_path)).identity
    change = identity.difference(before, now)
    assert change is not None
    assert "9.0.0" in change


def test_what_is_known_of_a_set_survives_json(shapes_root):
    known = datasets.open_dataset("shapes", data_dir=str(shapes_root)).identity
    assert Identity.from_json(json.loads(json.dumps(known.to_json()))) == known
    assert identity.difference(known, known) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class_names": ("a", "zb")}, "class 'b' is missing, class 'zb' is new"),
        ({"class_names": ("b", "a")}, "its classes are in a different order"),
        ({"class_names": ("a", "b", "c", "d")}, "class 'c' is new (and 1 more)"),
        ({"train": {"records": 9}}, "it had 8 training images and now has 9"),
        (
            {"train": {"contents": {"a": "4 x", "b": "4 z"}}},
            "different names or sizes, for example in 'b'",
        ),
        ({"train": {"split": "train[:1%]"}}, "its training split changed from train to train[:1%]"),
        (
            {"evaluation": {"version": "set/2.0.0"}},
            "its version changed from set/1.0.0 to set/2.0.0",
        ),
        ({"evaluation": {"times": "x"}}, "its evaluation images have different modification times"),
    ],
)
def test_a_difference_is_said_in_words(change, words):
    part = Part("train", "set/1.0.0", 8, {"a": "4 x", "b": "4 y"}, "t")
    before = Identity(("a", "b"), part, part._replace(split="validation"))
    now = before._replace(
        **{
            name: value if name == "class_names" else getattr(before, name)._replace(**value)
            for name, value in change.items()
        }
    )
    assert words in identity.difference(before, now)
    untimed = identity.difference(before.without_times(), now.without_times())
    assert (untimed is None) == ("modification times" in words)


# What the user can mend.


def test_a_missing_set_is_one_line_that_names_the_folder(tmp_path):
    with pytest.raises(UserError) as error:
        datasets.open_dataset("imagenet2012", data_dir=str(tmp_path))
    assert_one_line(error, "imagenet2012", str(tmp_path / "imagenet2012"), "data_dir")


@pytest.mark.parametrize("name", ["/data/flowers", "./flowers", "../flowers", "~/flowers", "here"])
def test_a_bare_path_gets_a_hint(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    with pytest.raises(UserError, match=f"{name} is a path; .* folder:{name}"):
        datasets.open_dataset(name, data_dir=str(tmp_path))


def test_a_missing_set_names_the_folder_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "elsewhere"))
    with pytest.raises(UserError) as error:
        datasets.open_dataset("imagenet2012")
    assert_one_line(error, str(tmp_path / "elsewhere" / "imagenet2012"))


@pytest.mark.parametrize("argument", ["train_split", "eval_split"])
@pytest.mark.parametrize("split", ["minival", "train[:", "train[5000:5001:2]"])
def test_an_unknown_split_is_one_line_that_names_it(shapes_root, argument, split):
    with pytest.raises(UserError) as error:
        datasets.open_dataset("shapes", data_dir=str(shapes_root), **{argument: split})
    assert_one_line(error, split, str(shapes_root / "shapes"))


def test_a_format_without_random_access_is_refused(edited, tmp_path):
    copy = edited("dataset_info.json", lambda content: content.update(fileFormat="tfrecord"))
    with pytest.raises(UserError) as error:
        datasets.open_dataset("shapes", data_dir=str(tmp_path))
    assert_one_line(error, str(copy), "tfrecord", "file_format=array_record")


def test_a_set_without_labels_is_refused(edited, tmp_path):
    def unlabel(content):
        features = content["featuresDict"]["features"]
        features["caption"] = features.pop("label")

    copy = edited("features.json", unlabel)
    with pytest.raises(UserError) as error:
        datasets.open_dataset("shapes", data_dir=str(tmp_path))
    assert_one_line(error, str(copy), "'label'")
