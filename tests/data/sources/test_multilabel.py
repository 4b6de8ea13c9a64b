"""Pictures with several labels: what the table and VOC's annotations say, and what is refused."""

import pickle

import numpy as np
import pytest

from deepconv.data.sources import datasets, identity
from deepconv.data.sources.identity import LABELS
from deepconv.exceptions import UserError
from tests.data.sources.test_voc import annotate, devkit, list_split, thing  # noqa: F401


def lay(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def write(folder, *lines):
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


def opened(root, split=None):
    return datasets.open_split(f"folder:{root}", split, multilabel=True)


def both(root, **options):
    return datasets.open_dataset(f"folder:{root}", multilabel=True, **options)


@pytest.fixture
def scenes(tmp_path):
    """Return a folder of three pictures, one of them below another folder, and their table."""
    lay(tmp_path, ["1.jpg", "more/2.jpg", "3.jpg", "unlisted.jpg"])
    write(tmp_path, "file,sea,forest", "1.jpg,1,1", "more/2.jpg,-1,0", "./3.jpg, 0, 1")
    return tmp_path


def test_a_record_has_all_labels_and_the_first_present_class(scenes):
    split = opened(scenes)
    assert split.class_names == ("sea", "forest")  # in the order of the header
    assert split.part.split == "all"
    records = [split.source[number] for number in range(len(split.source))]
    assert [record["file_name"] for record in records] == ["1.jpg", "more/2.jpg", "3.jpg"]
    assert [record["label"] for record in records] == [0, -1, 1]
    assert [record["image"] for record in records] == [b"1.jpg", b"more/2.jpg", b"3.jpg"]
    labels = np.stack([record["labels"] for record in records])
    assert labels.dtype == np.int8
    np.testing.assert_array_equal(labels, [[1, 1], [-1, 0], [0, 1]])
    assert pickle.loads(pickle.dumps(split.source))[1]["label"] == -1


def test_splits_are_folders_of_one_table_or_have_one_each(tmp_path):
    lay(tmp_path, ["train/1.jpg", "train/2.jpg", "valid/1.jpg", "test/1.jpg"])
    write(tmp_path, "file,a,b", *("train/1.jpg,1,0", "train/2.jpg,0,1", "valid/1.jpg,1,1"))
    one = both(tmp_path)
    write(tmp_path / "train", "file,a,b", "1.jpg,1,0", "2.jpg,0,1")
    write(tmp_path / "valid", "file,a,b", "1.jpg,1,1")
    (tmp_path / "labels.csv").unlink()
    other = both(tmp_path)
    assert one.identity == other.identity
    assert (len(one.train), len(one.evaluation)) == (2, 1)
    assert one.train[1]["file_name"] == "train/2.jpg"
    assert opened(tmp_path, "val").part == one.identity.evaluation
    with pytest.raises(UserError, match="no split 'test'; its splits are train, validation$"):
        opened(tmp_path, "test")


def test_without_validation_pictures_a_tenth_is_held_out(tmp_path):
    names = [f"{number}.jpg" for number in range(40)]
    lay(tmp_path, names)
    write(tmp_path, "file,a", *(f"{name},{number % 2}" for number, name in enumerate(names)))
    dataset = both(tmp_path)
    assert (len(dataset.train), len(dataset.evaluation)) == (36, 4)
    assert not {*dataset.train.file_names} & {*dataset.evaluation.file_names}
    assert dataset.identity.evaluation.split == "validation (held out)"
    assert opened(tmp_path, "validation").part == dataset.identity.evaluation
    assert len(opened(tmp_path, "train").source) == 40
    assert both(tmp_path, eval_split="all").identity.train.split == "train"


def test_changed_labels_are_another_data_set(scenes):
    before = opened(scenes).part
    write(scenes, "file,sea,forest", "1.jpg,1,1", "more/2.jpg,1,0", "3.jpg,0,1")
    now = opened(scenes).part
    assert before.digest != now.digest
    assert {*before.contents} == {"pictures", LABELS}
    change = identity.difference(
        identity.Identity(("a",), before, before), identity.Identity(("a",), now, before)
    )
    assert change == "the labels of its training images have changed"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["file,a,b", "1.jpg,1,2"], "line 2: label '2' of b is not 1 .present., 0 .absent. or -1"),
        (["file,a,b", "1.jpg,1,"], "line 2: label '' of b is not 1"),
        (["file,a,b", "1.jpg,1"], "line 2: there are 1 labels for the 2 classes"),
        (["file,a", "9.jpg,1"], "line 2: there is no picture .*/9.jpg$"),
        (["file,a", "../x.jpg,1"], "line 2: there is no picture"),
        (["file,a", "1.jpg,1", "1.jpg,0"], "line 3: 1.jpg is listed twice"),
        (["file,a,a", "1.jpg,1,1"], "line 1: a is there twice"),
        (["1.jpg,1"], "has to begin with the line file,<class>,<class>,...$"),
        (["file"], "has to begin with the line"),
        (["file,a"], "lists no pictures"),
        ([], "has to begin with the line"),
    ],
)
def test_what_is_wrong_with_a_table_is_one_line(scenes, lines, words):
    write(scenes, *lines)
    with pytest.raises(UserError, match=words) as error:
        opened(scenes)
    assert "labels.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_tables_have_to_list_the_classes_in_one_order(tmp_path):
    lay(tmp_path, ["train/1.jpg", "val/1.jpg"])
    write(tmp_path / "train", "file,a,b", "1.jpg,1,0")
    for header, words in (("b,a", "the same classes in another order"), ("a,c", "other classes")):
        write(tmp_path / "val", f"file,{header}", "1.jpg,1,0")
        with pytest.raises(UserError, match=f"val/labels.csv has {words} than .*train/labels.csv"):
            both(tmp_path)


def test_other_pictures_than_those_of_splits_are_noticed(tmp_path):
    lay(tmp_path, ["train/1.jpg", "2.jpg"])
    write(tmp_path, "file,a", "train/1.jpg,1", "2.jpg,1")
    with pytest.raises(UserError, match="others, such as 2.jpg, outside of them"):
        opened(tmp_path)
    with pytest.raises(UserError, match="no labels.csv, which says which classes"):
        opened(tmp_path / "train")
    with pytest.raises(UserError, match="shapes has one label a picture; several have folder:"):
        datasets.open_split("shapes", "train", multilabel=True)


def test_of_voc_only_difficult_objects_are_unknown(devkit):  # noqa: F811
    split = datasets.open_split(f"voc:{devkit}", "train", multilabel=True)
    found = {
        record["file_name"]: {
            name: int(value)
            for name, value in zip(split.class_names, record["labels"], strict=True)
            if value
        }
        for record in (split.source[number] for number in range(len(split.source)))
    }
    assert found == {
        "000001.jpg": {"dog": 1, "cat": 1},
        "000002.jpg": {"dog": 1, "cat": 1, "person": -1},
        "000003.jpg": {"person": -1},  # it has no label of its own
    }
    assert split.source[2]["label"] == -1
    assert split.part.records == 3


def test_a_split_of_voc_that_lists_a_missing_picture_stops(devkit):  # noqa: F811
    list_split(devkit, "test", "000004", "000009")
    with pytest.raises(UserError, match="test lists 000009, which cannot be used: .*no picture"):
        datasets.open_split(f"voc:{devkit}", "test", multilabel=True)
    assert len(datasets.open_split(f"voc:{devkit}", "test").source) == 1
    list_split(devkit, "test", "000004")
    annotate(devkit, "000003", thing("person", (1, 1, 40, 50)))
    (devkit / "Annotations" / "000004.xml").unlink()
    with pytest.raises(UserError, match="no annotated pictures in test"):
        datasets.open_split(f"voc:{devkit}", "test", multilabel=True)


def test_which_data_sets_have_several_labels(scenes, tmp_path):
    assert datasets.has_several_labels(f"folder:{scenes}")
    assert datasets.has_several_labels("voc:/anywhere")
    (tmp_path / "plain").mkdir()
    assert not datasets.has_several_labels(f"folder:{tmp_path}/plain")
    assert not datasets.has_several_labels("shapes")
