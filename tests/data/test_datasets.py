"""Which folder is opened, and what is said about one that cannot be."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from deepconv.data import color, datasets, shapes
from deepconv.user_error import UserError


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
    for split, count in (("train", 24), ("train[:50%]", 12)):
        dataset = datasets.open_dataset("shapes", data_dir=str(tmp_path), train_split=split)
        records = [{"image": shapes.example("train", i)["image"]} for i in range(count)]
        expected = color.of_training_set(records, 20)
        statistics = dataset.color_statistics(20)
        np.testing.assert_array_equal(statistics.mean_image, expected.mean_image)
    files = {path.name for path in dataset.directory.glob("color_*")}
    assert files == {"color_train_20.npz", "color_train_50_20.npz"}


# What the user can mend.


def test_a_missing_set_is_one_line_that_names_the_folder(tmp_path):
    with pytest.raises(UserError) as error:
        datasets.open_dataset("imagenet2012", data_dir=str(tmp_path))
    assert_one_line(error, "imagenet2012", str(tmp_path / "imagenet2012"), "data_dir")


@pytest.mark.parametrize("name", ["/data/flowers", "./flowers", "../flowers", "~/flowers", "here"])
def test_a_bare_path_gets_a_hint(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    with pytest.raises(UserError, match=f"{name} is a path: .* folder:{name}"):
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
