"""Which pictures a folder holds, what they are called, and what is said where there are none."""

import logging
import os
import pathlib
import zipfile

import numpy as np
import pytest

from deepconv.data import decode, pipeline
from deepconv.data.sources import folder
from deepconv.data.sources.folder import open_folder
from deepconv.exceptions import UserError


def lay(root, *names):
    """Write files that hold their own names."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def pictures(root, classes, count):
    lay(root, *(f"{name}/{number:03d}.jpg" for name in classes for number in range(count)))


def names(source):
    return [source[record]["file_name"] for record in range(len(source))]


def assert_one_line(error, *parts):
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


@pytest.fixture
def split(tmp_path):
    """Return a folder of two classes with a part for evaluation."""
    lay(tmp_path, "train/b/2.jpg", "train/b/10.JPEG", "train/a/x.png", "val/a/y.jpg", "val/b/z.PNG")
    return tmp_path


# The layouts.


def test_records_are_bytes_label_and_name(split):
    train, evaluation, class_names = open_folder(split)
    assert class_names == ("a", "b")
    assert [train[record] for record in range(len(train))] == [
        {"image": b"train/a/x.png", "label": 0, "file_name": "a/x.png"},
        {"image": b"train/b/10.JPEG", "label": 1, "file_name": "b/10.JPEG"},
        {"image": b"train/b/2.jpg", "label": 1, "file_name": "b/2.jpg"},
    ]
    assert names(evaluation) == ["a/y.jpg", "b/z.PNG"]
    assert [record["label"] for record in evaluation] == [0, 1]
    assert evaluation[1]["image"] == b"val/b/z.PNG"


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
@pytest.mark.parametrize("asked", ["val", "valid", "validation"])
def test_the_validation_part_has_three_names(tmp_path, name, asked):
    lay(tmp_path, "train/a/1.jpg", f"{name}/a/2.jpg", "test/a/3.jpg")
    dataset = open_folder(tmp_path, eval_split=asked)
    assert (names(dataset.train), dataset.train.split) == (["a/1.jpg"], "train")
    assert (names(dataset.evaluation), dataset.evaluation.split) == (["a/2.jpg"], "validation")


def test_each_split_is_what_its_name_says(tmp_path):
    lay(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/b/2.jpg", "val/a/3.jpg")
    splits = {name: folder.open_split(tmp_path, name) for name in ("train", "val", "test")}
    assert {name: names(source) for name, source in splits.items()} == {
        "train": ["a/1.jpg", "b/1.jpg"],
        "val": ["a/3.jpg"],
        "test": ["b/2.jpg"],
    }
    assert splits["test"][0]["label"] == 1  # as in training
    assert folder.whole_split(tmp_path) == "validation"


def test_the_test_part_never_stands_in_for_validation(tmp_path):
    pictures(tmp_path / "train", ("a",), 20)
    lay(tmp_path, "test/a/t.jpg")
    train, evaluation, _ = open_folder(tmp_path)
    assert evaluation.split == folder.HELD_OUT
    assert (len(train), len(evaluation)) == (18, 2)
    assert not {*names(train)} & {*names(evaluation)}
    train, evaluation, _ = open_folder(tmp_path, eval_split="test")
    assert names(evaluation) == ["a/t.jpg"]
    assert len(train) == 20


def test_all_of_a_folder_without_splits_can_be_evaluated(tmp_path):
    pictures(tmp_path, ("a", "b"), 10)
    assert folder.whole_split(tmp_path) == "all"
    assert len(folder.open_split(tmp_path, "all")) == 20
    parts = [folder.open_split(tmp_path, name) for name in ("train", "validation")]
    both = [name for part in parts for name in names(part)]
    assert sorted(both) == names(folder.open_split(tmp_path, "all"))


def test_a_set_for_testing_alone_has_its_own_classes(tmp_path):
    lay(tmp_path, "test/b/1.jpg", "test/c/1.jpg")
    source = folder.open_split(tmp_path, "test")
    assert source.class_names == ("b", "c")
    with pytest.raises(UserError, match="no split 'train'; its splits are test"):
        open_folder(tmp_path, eval_split="test")


@pytest.mark.parametrize("split", ["banana", "train[:90%]", "all", ""])
def test_a_split_that_is_not_there_is_named_with_those_that_are(tmp_path, split):
    lay(tmp_path, "train/a/1.jpg", "val/a/2.jpg")
    for argument in ("train_split", "eval_split"):
        with pytest.raises(UserError) as error:
            open_folder(tmp_path, **{argument: split})
        assert_one_line(error, tmp_path, repr(split), "its splits are train, validation")


@pytest.mark.parametrize("name", ["dev", "extra", "Val"])
def test_an_unknown_folder_beside_training_pictures_is_named(split, name):
    lay(split, f"{name}/a/1.jpg")
    with pytest.raises(UserError) as error:
        open_folder(split)
    assert_one_line(error, split / name, "val (or valid, validation)", "rename it")


def test_the_folder_above_a_data_set_is_not_one_class(tmp_path):
    lay(tmp_path, "set/train/a/1.jpg", "set/val/a/2.jpg")
    with pytest.raises(UserError) as error:
        open_folder(tmp_path)
    assert_one_line(error, "has one class, set", "train, val", f"did you mean {tmp_path / 'set'}?")


def test_two_validation_parts_are_refused(split):
    lay(split, "valid/a/1.jpg")
    with pytest.raises(UserError) as error:
        open_folder(split)
    assert_one_line(error, split, "val and valid")


# What a folder is known by.


def test_pictures_are_known_by_class_name_size_and_time(tmp_path):
    pictures(tmp_path, ("a", "b"), 4)
    first = folder.open_split(tmp_path, "all").part()
    assert first == folder.open_split(tmp_path, "all").part()
    assert first.records == 8
    file = tmp_path / "a" / "000.jpg"

    def changed():
        return {
            name
            for name, value in folder.open_split(tmp_path, "all").part()._asdict().items()
            if value != getattr(first, name)
        }

    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert changed() == {"times"}
    file.write_bytes(file.read_bytes() + b"x")
    assert {"contents"} <= changed() <= {"contents", "times"}
    file.unlink()
    assert changed() == {"records", "contents", "times"}


def test_a_picture_that_has_gone_is_named(tmp_path):
    pictures(tmp_path, ("a",), 2)
    source = folder.open_split(tmp_path, "all")
    (tmp_path / "a" / "001.jpg").unlink()
    with pytest.raises(UserError, match=r"001\.jpg cannot be read: No such file"):
        source.part()


def test_a_class_without_pictures_for_evaluation_keeps_its_label(tmp_path):
    lay(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg", "val/c/2.jpg")
    dataset = open_folder(tmp_path)
    assert dataset.evaluation[0]["label"] == 2
    assert dataset.class_names == ("a", "b", "c")


def test_the_order_does_not_depend_on_the_file_system(monkeypatch, split):
    expected = names(open_folder(split).train)

    class Reversed(list):
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

    original = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: Reversed([*original(path)][::-1]))
    assert names(open_folder(split).train) == expected


def test_other_files_are_ignored_and_counted(tmp_path, caplog):
    lay(tmp_path, "train/a/1.jpg", "train/a/1.txt", "train/a/Thumbs.db", "train/a/deeper/2.JPG")
    lay(tmp_path, "train/README", "val/a/1.jpeg", "val/a/1.pdf", "notes.txt")
    with caplog.at_level(logging.INFO, logger=folder.__name__):
        dataset = open_folder(tmp_path)
    assert names(dataset.train) == ["a/1.jpg", "a/deeper/2.JPG"]
    assert dataset.train[1]["image"] == b"train/a/deeper/2.JPG"
    assert names(dataset.evaluation) == ["a/1.jpeg"]
    train_line, evaluation_line = (record.getMessage() for record in caplog.records)
    assert "2 pictures in 1 classes; 2 other files" in train_line
    assert "1 other files" in evaluation_line


def test_hidden_files_and_folders_are_ignored(split):
    lay(split, "train/.cache/1.jpg", "train/a/._x.png", "val/.git/1.jpg", ".thumbnails/1.jpg")
    dataset = open_folder(split)
    assert dataset.class_names == ("a", "b")
    assert len(dataset.train) == 3


def test_links_are_followed(tmp_path):
    lay(tmp_path / "elsewhere", "cats/1.jpg", "2.jpg")
    (tmp_path / "set/train/b").mkdir(parents=True)
    (tmp_path / "set/train/a").symlink_to(tmp_path / "elsewhere/cats")
    (tmp_path / "set/train/b/linked.jpg").symlink_to(tmp_path / "elsewhere/2.jpg")
    # These lead nowhere.
    (tmp_path / "set/train/b/broken.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "set/train/b/loop.jpg").symlink_to(tmp_path / "set/train/b/loop.jpg")
    (tmp_path / "set/val").symlink_to(tmp_path / "set/train")
    dataset = open_folder(tmp_path / "set")
    assert names(dataset.train) == ["a/1.jpg", "b/linked.jpg"]
    assert dataset.train[1]["image"] == b"2.jpg"


def test_any_name_that_a_file_can_have_is_kept(tmp_path):
    odd = ["klasse ü/日本 1.jpg", "klasse ü/a'b\".PNG", "klasse ü/.x.jpg", "klasse ü/\udcff.jpg"]
    for name in odd:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        try:
            path.write_bytes(b"x")
        except OSError:
            pytest.skip("the file system refuses such names")
    train, evaluation, _ = open_folder(tmp_path)
    assert sorted(names(train) + names(evaluation)) == sorted(set(odd) - {odd[2]})


def test_pictures_are_read_when_asked_for(split):
    train = open_folder(split).train
    (split / "train/a/x.png").write_bytes(b"changed")
    assert train[0]["image"] == b"changed"
    (split / "train/a/x.png").unlink()
    with pytest.raises(UserError) as error:
        train[0]
    assert_one_line(error, split / "train/a/x.png")


# Setting a part aside.


def test_a_tenth_of_each_class_is_set_aside(tmp_path):
    pictures(tmp_path, ["a"], 30)
    pictures(tmp_path, ["b"], 100)
    train, evaluation, class_names = open_folder(tmp_path)
    assert class_names == ("a", "b")
    assert np.bincount(train.labels).tolist() == [27, 90]
    assert np.bincount(evaluation.labels).tolist() == [3, 10]
    everything = [
        f"{name}/{number:03d}.jpg" for name, n in (("a", 30), ("b", 100)) for number in range(n)
    ]
    assert sorted(names(train) + names(evaluation)) == everything
    assert names(train) == sorted(names(train))
    assert names(evaluation) == sorted(names(evaluation))


@pytest.mark.parametrize(
    ("count", "fraction", "aside"), [(2, 0.1, 1), (2, 0.9, 1), (1, 0.5, 0), (8, 0.25, 2)]
)
def test_a_class_is_never_set_aside_whole(tmp_path, count, fraction, aside):
    pictures(tmp_path, ["a"], count)
    pictures(tmp_path, ["b"], 10)
    train, evaluation, _ = open_folder(tmp_path, eval_fraction=fraction)
    assert evaluation.labels.count(0) == aside
    assert train.labels.count(0) == count - aside


def test_what_is_set_aside_depends_on_the_seed_and_the_names_alone(tmp_path):
    pictures(tmp_path / "one", ["a", "b"], 50)
    pictures(tmp_path / "two", ["b", "a"], 50)
    for path in (tmp_path / "two").glob("*/*"):
        path.write_bytes(b"other bytes")
    first = names(open_folder(tmp_path / "one").evaluation)
    assert names(open_folder(tmp_path / "two").evaluation) == first
    other = names(open_folder(tmp_path / "one", seed=1).evaluation)
    assert len(other) == len(first)
    assert other != first
    # One class's share is not another's.
    assert [name[2:] for name in first[:5]] != [name[2:] for name in first[5:]]


def test_a_new_picture_moves_at_most_one_other(tmp_path):
    pictures(tmp_path, ["a"], 45)
    before = set(names(open_folder(tmp_path).evaluation))
    for number in range(100, 130):
        lay(tmp_path, f"a/{number}.jpg")
        after = set(names(open_folder(tmp_path).evaluation))
        assert len((before ^ after) - {f"a/{number}.jpg"}) <= 1
        before = after


def test_training_pictures_alone_are_split_too(tmp_path):
    pictures(tmp_path / "train", ["a", "b"], 10)
    train, evaluation, class_names = open_folder(tmp_path)
    assert class_names == ("a", "b")
    assert (len(train), len(evaluation)) == (18, 2)
    assert evaluation[0]["image"] == evaluation[0]["file_name"].encode()


def test_a_class_may_be_called_train(tmp_path):
    pictures(tmp_path, ["boat", "train", "test"], 10)
    assert open_folder(tmp_path).class_names == ("boat", "test", "train")


# What the user can mend.


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError) as error:
        open_folder(tmp_path / "nowhere")
    assert_one_line(error, tmp_path / "nowhere", "No such file")


def test_a_file_is_no_folder(tmp_path):
    lay(tmp_path, "flowers.zip")
    with pytest.raises(UserError) as error:
        open_folder(tmp_path / "flowers.zip")
    assert_one_line(error, tmp_path / "flowers.zip", "Not a directory")


def test_pictures_outside_of_class_folders_are_not_enough(tmp_path):
    lay(tmp_path, "1.jpg", "2.jpg")
    with pytest.raises(UserError) as error:
        open_folder(tmp_path)
    assert_one_line(error, tmp_path, "no class folders")


@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize("file", [None, "1.pdf", ".hidden.jpg", "deeper/.cache/1.jpg"])
def test_an_empty_class_folder_is_named(split, part, file):
    (split / part / "a2").mkdir()
    (split / "train/a2").mkdir(exist_ok=True)
    if file:
        lay(split / part / "a2", file)
    if part == "val":
        lay(split, "train/a2/1.jpg")
    with pytest.raises(UserError) as error:
        open_folder(split)
    assert_one_line(error, split / part / "a2", "without pictures")


def test_an_empty_class_folder_is_named_without_a_part_for_evaluation(tmp_path):
    pictures(tmp_path, ["a", "b"], 3)
    (tmp_path / "c").mkdir()
    with pytest.raises(UserError) as error:
        open_folder(tmp_path)
    assert_one_line(error, tmp_path / "c", "without pictures")


def test_a_class_that_training_lacks_is_named(split):
    lay(split, "val/unknown/1.jpg")
    with pytest.raises(UserError) as error:
        open_folder(split)
    assert_one_line(error, split / "val" / "unknown", "is not a class of", split / "train")


def test_an_empty_folder_for_evaluation_is_named(split):
    for path in sorted((split / "val").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(UserError) as error:
        open_folder(split)
    assert_one_line(error, split / "val", "no class folders")


@pytest.fixture
def without_permission(monkeypatch):
    """Return a function that takes away the permission to list a folder, from root too."""
    original = os.scandir

    def deny(folder):
        def scandir(path):
            if pathlib.Path(path) == folder:
                raise PermissionError(13, "Permission denied", os.fspath(path))
            return original(path)

        monkeypatch.setattr(os, "scandir", scandir)

    return deny


@pytest.mark.parametrize("name", ["train", "train/b", "val", "val/a"])
def test_a_folder_without_permission_is_named(without_permission, split, name):
    without_permission(split / name)
    with pytest.raises(UserError) as error:
        open_folder(split)
    assert_one_line(error, split / name, "Permission denied")


@pytest.mark.parametrize("name", ["", "b"])
def test_a_folder_to_split_without_permission_is_named(without_permission, tmp_path, name):
    pictures(tmp_path, ["a", "b"], 3)
    without_permission(tmp_path / name)
    with pytest.raises(UserError) as error:
        open_folder(tmp_path)
    assert_one_line(error, tmp_path / name, "Permission denied")


def test_too_few_pictures_to_set_any_aside_is_an_error(tmp_path):
    pictures(tmp_path, ["a", "b"], 1)
    with pytest.raises(UserError) as error:
        open_folder(tmp_path)
    assert_one_line(error, tmp_path, "two or more pictures")


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 2])
def test_a_part_has_to_be_a_part(tmp_path, fraction):
    pictures(tmp_path, ["a"], 10)
    with pytest.raises(UserError) as error:
        open_folder(tmp_path, eval_fraction=fraction)
    assert_one_line(error, "eval_fraction", fraction)


def test_a_name_both_for_training_and_evaluation_is_warned_of(split, caplog):
    lay(split, "train/a/y.jpg", "val/b/2.jpg", "val/b/10.jpeg", "val/a/2.jpg")
    with caplog.at_level(logging.WARNING, logger=folder.__name__):
        dataset = open_folder(split)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    # The same name in another class, or in other case, is another picture.
    assert "2 pictures" in record.getMessage()
    assert "a/y.jpg" in record.getMessage()
    assert len(dataset.train) == 4


def test_a_name_in_two_classes_is_nothing(tmp_path, caplog):
    pictures(tmp_path / "train", ["a", "b"], 2)
    lay(tmp_path, "val/a/9.jpg", "val/b/9.jpg")
    with caplog.at_level(logging.WARNING, logger=folder.__name__):
        open_folder(tmp_path)
    assert not caplog.records


# As a source of the pipeline.


@pytest.fixture(scope="module")
def imagenette(tmp_path_factory, shared_data):
    """Return a folder with 6 + 3 photographs of each of ten classes of ImageNet."""
    file = shared_data("imagenette224_sub.zip")
    root = tmp_path_factory.mktemp("imagenette")
    with zipfile.ZipFile(file) as archive:
        taken = {}
        for name in sorted(archive.namelist()):
            part, _, rest = name.partition("/")
            if name.lower().endswith((".jpeg", ".jpg")):
                of_class = taken.setdefault((part, rest.split("/")[0]), [])
                of_class.append(name)
        for (part, _), members in taken.items():
            for name in members[: 6 if part == "train" else 3]:
                archive.extract(name, root)
    return root


def test_photographs_in_folders_are_batched(imagenette):
    train, evaluation, class_names = open_folder(imagenette)
    assert (len(train), len(evaluation), len(class_names)) == (60, 30, 10)
    assert all(name.startswith("n0") for name in class_names)
    for record in train:
        # The class is the folder's, and the photograph is whole.
        assert record["file_name"].split("/")[0] == class_names[record["label"]]
        assert min(decode.decode(record["image"]).size) >= 200
    geometry = pipeline.Geometry(crop=64, scale=(64, 96))
    batches = pipeline.train_batches(train, geometry, batch_size=20, seed=0)
    seen = [batches[number] for number in range(3)]
    assert all(batch["device"]["image"].shape == (20, 64, 64, 3) for batch in seen)
    assert all(batch["host"]["readable"].all() for batch in seen)
    labels = np.concatenate([batch["device"]["target"]["label"] for batch in seen])
    assert np.bincount(labels).tolist() == [6] * 10
