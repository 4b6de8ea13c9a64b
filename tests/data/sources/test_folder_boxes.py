"""The boxes of pictures in folders: from a table, and as Tiny-ImageNet has them."""

import logging
import zipfile

import numpy as np
import PIL.Image
import pytest

from deepconv.data.sources import datasets, folder
from deepconv.data.sources.identity import BOXES
from deepconv.exceptions import UserError

HEADER = "file,class,xmin,ymin,xmax,ymax"


def picture(path, size=(40, 50)):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", size).save(path)


@pytest.fixture
def pets(tmp_path):
    """Return a folder with two splits; the pictures are 40 wide and 50 high."""
    root = tmp_path / "pets"
    for name in ("train/cat/1", "train/cat/2", "train/dog/1", "val/cat/9", "val/dog/8"):
        picture(root / f"{name}.png")
    return root


def table(folder, *rows, header=HEADER):
    (folder / "boxes.csv").write_text("\n".join([header, *rows]) + "\n")


def opened(root, **options):
    return datasets.open_dataset(f"folder:{root}", boxes=True, **options)


def boxes_of(source):
    records = [source[number] for number in range(len(source))]
    return {record["file_name"]: record["boxes"].tolist() for record in records}


def refused(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


GOOD = (
    "train/cat/1.png,cat,10,20,30,50",
    "train/cat/1.png,cat,0,0,40,25",
    "train/dog/1.png,dog,0,0,40,50",
    "val/cat/9.png,cat,20,0,40,25",
    "val/dog/8.png,dog,20,25,40,50",
)


def test_a_table_beside_the_splits(pets, caplog):
    table(pets, *GOOD)
    with caplog.at_level(logging.INFO):
        dataset = opened(pets)
    expected = [[0.25, 0.4, 0.75, 1], [0, 0, 1, 0.5]]
    np.testing.assert_allclose(boxes_of(dataset.train)["cat/1.png"], expected, rtol=1e-6)
    assert boxes_of(dataset.train).keys() == {"cat/1.png", "dog/1.png"}
    assert boxes_of(dataset.evaluation) == {
        "cat/9.png": [[0.5, 0, 1, 0.5]],
        "dog/8.png": [[0.5, 0.5, 1, 1]],
    }
    assert dataset.train[0]["boxes"].dtype == np.float32
    assert "train: 1 of 3 images have no box and are left out" in caplog.messages
    assert not refused(caplog)


def test_labels_and_classes_are_those_without_boxes(pets):
    table(pets, "train/dog/1.png,dog,0,0,40,50", "val/dog/8.png,dog,0,0,40,50")
    dataset = opened(pets)
    assert dataset.class_names == ("cat", "dog")
    assert [record["label"] for record in dataset.train] == [1]
    plain = datasets.open_dataset(f"folder:{pets}")
    assert len(plain.train) == 3
    assert plain.identity.train.contents.keys() == {"cat", "dog"}


def test_a_table_in_a_split_comes_before_that_of_the_set(pets):
    table(pets, *GOOD)
    table(pets / "val", "cat/9.png,cat,0,0,40,50", "8.png,dog,0,0,20,50")
    assert boxes_of(opened(pets).evaluation) == {
        "cat/9.png": [[0, 0, 1, 1]],
        "dog/8.png": [[0, 0, 0.5, 1]],
    }


def test_a_plain_folder_whose_validation_pictures_are_held_out(tmp_path, caplog):
    for number in range(10):
        picture(tmp_path / f"cat/{number}.png")
    table(tmp_path, *(f"cat/{number}.png,cat,{number},0,40,50" for number in range(10)))
    dataset = opened(tmp_path)
    found = boxes_of(dataset.train) | boxes_of(dataset.evaluation)
    assert (len(dataset.train), len(dataset.evaluation)) == (9, 1)
    for number in range(10):
        np.testing.assert_allclose(found[f"cat/{number}.png"], [[number / 40, 0, 1, 1]])
    everything = datasets.open_split(f"folder:{tmp_path}", None, boxes=True)
    assert boxes_of(everything.source) == found
    assert not refused(caplog)


def test_spreadsheets_and_odd_names(tmp_path):
    for name in ("klasse ü/a,b.png", "klasse ü/ c.png"):
        picture(tmp_path / name)
    rows = [
        '"klasse ü/a,b.png", klasse ü, 0, 0, 40, 50',
        "",
        '"./klasse ü/ c.png",klasse ü,0,0,4e1,5',
    ]
    text = "\r\n".join(["file, class,xmin,ymin,xmax,ymax", *rows])
    (tmp_path / "boxes.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    split = datasets.open_split(f"folder:{tmp_path}", "all", boxes=True)
    assert len(split.source) == 2


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("cat/1.png,cat,30,20,10,50", "the box (30, 20, 10, 50) is turned around"),
        ("cat/1.png,cat,10,20,10,50", "the box (10, 20, 10, 50) is empty"),
        ("cat/1.png,cat,10,20,30,51", "is outside the picture, which is 40x50"),
        ("cat/1.png,cat,-1,20,30,50", "is outside the picture"),
        ("cat/1.png,cat,a,20,30,50", "the box (a, 20, 30, 50) is not four numbers"),
        ("cat/1.png,cat,nan,20,30,50", "is not four numbers"),
        ("cat/1.png,cat,10,20,30", "the box (10, 20, 30) is not four numbers"),
        ("cat/1.png,cat,10,20,30,50,1", "is not four numbers"),
        ("cat/1.png", "'' is not a class of the data set"),
        ("cat/1.png,bird,10,20,30,50", "'bird' is not a class of the data set"),
        ("cat/7.png,cat,10,20,30,50", "there is no such picture"),
        ("../pets/7.png,cat,10,20,30,50", "there is no such picture"),
        ("1.png,cat,10,20,30,50", "2 pictures have this name; write their paths"),
    ],
)
def test_a_bad_row_is_named_and_the_others_count(pets, caplog, row, why):
    table(pets / "train", row, "cat/2.png,cat,10,20,30,50", "dog/1.png,dog,10,20,30,50")
    table(pets / "val", "cat/9.png,cat,0,0,40,50")
    dataset = opened(pets)
    assert boxes_of(dataset.train).keys() == {"cat/2.png", "dog/1.png"}
    (line,) = refused(caplog)
    assert line.startswith(f"not used: {pets / 'train' / 'boxes.csv'}, line 2, {row.split(',')[0]}")
    assert why in line


def test_a_picture_that_cannot_be_read_has_no_boxes(pets, caplog):
    (pets / "train/cat/1.png").write_bytes(b"no picture")
    table(pets, *GOOD)
    assert boxes_of(opened(pets).train).keys() == {"dog/1.png"}
    assert len(refused(caplog)) == 2
    assert "the picture cannot be read" in refused(caplog)[0]


def test_other_objects_and_other_splits_are_nothing_to_speak_of(pets, caplog):
    table(pets, *GOOD, "train/cat/2.png,dog,0,0,1,1")
    split = datasets.open_split(f"folder:{pets}", "val", boxes=True)
    assert boxes_of(split.source).keys() == {"cat/9.png", "dog/8.png"}
    assert boxes_of(opened(pets).train).keys() == {"cat/1.png", "dog/1.png"}
    assert not refused(caplog)


def test_many_bad_rows_are_counted(pets, caplog):
    table(pets, *GOOD, *(f"train/cat/{number}.png,cat,0,0,1,1" for number in range(10, 60)))
    opened(pets)
    assert len(refused(caplog)) == 21
    assert refused(caplog)[-1] == "not used: and 30 more"


@pytest.mark.parametrize(
    "header",
    ["", "train/cat/1.png,cat,1,2,3,4", "file,class,xmin,xmax,ymin,ymax", f"{HEADER},score"],
)
def test_a_table_without_its_header_is_refused(pets, header):
    table(pets, *GOOD, header=header)
    with pytest.raises(UserError) as error:
        opened(pets)
    assert str(pets / "boxes.csv") in str(error.value)
    assert f"has to be the header {HEADER}" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_table_that_is_none_is_refused(pets):
    (pets / "boxes.csv").write_bytes(f"{HEADER}\n".encode() + b"x" * 200_000)
    with pytest.raises(UserError, match="is not a table"):
        opened(pets)


def test_a_set_without_boxes_says_how_to_bring_them(pets):
    with pytest.raises(UserError) as error:
        opened(pets)
    assert f"has no boxes: write them to {pets / 'boxes.csv'}, with the header" in str(error.value)
    table(pets, "train/cat/1.png,cat,0,0,1,1")  # none of the validation pictures
    with pytest.raises(UserError, match="has no box in validation that can be used"):
        opened(pets)


def test_other_boxes_are_another_set(pets):
    def digest():
        return opened(pets).identity.train.digest

    plain = datasets.open_dataset(f"folder:{pets}").identity.train
    table(pets, *GOOD)
    first = digest()
    assert digest() == first != plain.digest
    assert datasets.open_dataset(f"folder:{pets}").identity.train == plain
    assert BOXES not in plain.contents
    table(pets, *GOOD[1:])
    second = digest()
    table(pets, GOOD[0].replace("10", "11"), *GOOD[1:])
    assert len({first, second, digest()}) == 3


# Tiny-ImageNet.


@pytest.fixture
def tiny(tmp_path):
    """Return a small set in the layout as unpacked."""
    root = tmp_path / "tiny-imagenet-200"
    for synset in ("n01", "n02"):
        for number in range(2):
            picture(root / f"train/{synset}/images/{synset}_{number}.JPEG", (64, 64))
        lines = [f"{synset}_{number}.JPEG\t0\t8\t63\t31" for number in range(2)]
        (root / f"train/{synset}/{synset}_boxes.txt").write_text("\n".join(lines) + "\n")
    for number in range(3):
        picture(root / f"val/images/val_{number}.JPEG", (64, 64))
        picture(root / f"test/images/test_{number}.JPEG", (64, 64))
    lines = ["val_0.JPEG\tn02\t0\t0\t63\t63", "val_1.JPEG\tn01\t32\t32\t32\t63"]
    (root / "val/val_annotations.txt").write_text("\n".join(lines) + "\n")
    (root / "wnids.txt").write_text("n02\nn01\n")
    (root / "words.txt").write_text("n01\ta fish\n")
    return root


def test_tiny_imagenet_opens_as_unpacked(tiny, caplog):
    dataset = datasets.open_dataset(f"folder:{tiny}")
    assert dataset.class_names == ("n01", "n02")
    assert [record["label"] for record in dataset.train] == [0, 0, 1, 1]
    found = {record["file_name"]: record["label"] for record in dataset.evaluation}
    assert found == {"images/val_1.JPEG": 0, "images/val_0.JPEG": 1}
    assert "1 of 3 pictures have no line in val_annotations.txt" in refused(caplog)[0]
    assert dataset.evaluation[0]["image"] == (tiny / "val/images/val_1.JPEG").read_bytes()
    assert dataset.identity.evaluation.split == "validation"


def test_its_test_pictures_have_no_classes(tiny):
    with pytest.raises(UserError, match="no split 'test'; its splits are train, validation"):
        datasets.open_split(f"folder:{tiny}", "test")
    picture(tiny / "extra/a/1.png")
    with pytest.raises(UserError, match="extra is next to"):
        datasets.open_split(f"folder:{tiny}", "val")


def test_its_boxes_count_the_last_pixel(tiny):
    dataset = opened(tiny)
    assert boxes_of(dataset.train)["n01/images/n01_0.JPEG"] == [[0, 0.125, 1, 0.5]]
    assert boxes_of(dataset.evaluation) == {
        "images/val_0.JPEG": [[0, 0, 1, 1]],
        "images/val_1.JPEG": [[0.5, 0.5, 33 / 64, 1]],
    }


def test_its_validation_pictures_may_be_sorted_into_classes(tiny, caplog):
    for number, synset in ((0, "n02"), (1, "n01")):
        (tiny / f"val/{synset}").mkdir()
        name = f"val_{number}.JPEG"
        (tiny / f"val/images/{name}").rename(tiny / f"val/{synset}/{name}")
    (tiny / "val/images/val_2.JPEG").unlink()
    (tiny / "val/images").rmdir()
    for path in sorted((tiny / "test").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (tiny / "test").rmdir()
    assert boxes_of(opened(tiny).evaluation).keys() == {"n02/val_0.JPEG", "n01/val_1.JPEG"}
    assert not refused(caplog)


def test_its_bad_boxes_are_named(tiny, caplog):
    file = tiny / "train/n01/n01_boxes.txt"
    file.write_text("n01_0.JPEG\t5\t5\t3\t9\nn01_1.JPEG\t5\t5\nn01_9.JPEG\t1\t1\t2\t2\n")
    with (tiny / "val/val_annotations.txt").open("a") as lines:
        lines.write("val_2.JPEG\tn02\t0\t0\t64\t63\n")
    dataset = opened(tiny)
    assert boxes_of(dataset.train).keys() == {"n02/images/n02_0.JPEG", "n02/images/n02_1.JPEG"}
    assert len(dataset.evaluation) == 2
    assert {line.removeprefix(f"not used: {tiny}/") for line in refused(caplog)} == {
        "train/n01/n01_boxes.txt, line 1, n01_0.JPEG: the box (5, 5, 3, 9) is turned around",
        "train/n01/n01_boxes.txt, line 2, n01_1.JPEG: the box (5, 5) is not four numbers",
        "train/n01/n01_boxes.txt, line 3, n01_9.JPEG: there is no such picture",
        "val/val_annotations.txt, line 3, val_2.JPEG: the box (0, 0, 64, 63) is outside the "
        "picture, which is 64x64",
    }


def test_annotations_of_other_pictures_are_refused(tiny):
    (tiny / "val/val_annotations.txt").write_text("other.JPEG\tn01\t0\t0\t1\t1\n")
    with pytest.raises(UserError, match="has the class of no picture"):
        folder.open_split(tiny, "val")


def test_the_real_tiny_imagenet(tmp_path, shared_data, caplog):
    with zipfile.ZipFile(shared_data("tiny_imagenet_10cls_boxes.zip")) as archive:
        archive.extractall(tmp_path)
    dataset = opened(tmp_path)
    assert (len(dataset.train), len(dataset.evaluation)) == (2000, 500)
    assert len(dataset.class_names) == 10
    labels = np.bincount([record["label"] for record in dataset.evaluation])
    assert labels.tolist() == [50] * 10
    assert boxes_of(dataset.train)["n01983481/images/n01983481_1.JPEG"] == [
        [21 / 64, 29 / 64, 1, 1]
    ]
    assert not refused(caplog)
