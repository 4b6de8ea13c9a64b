"""A small devkit: its splits, labels and boxes, and what of it cannot be used."""

import logging
import zipfile

import numpy as np
import PIL.Image
import pytest

from deepconv.data.sources import datasets, voc
from deepconv.exceptions import UserError

SIZE = (40, 50)  # width and height


def thing(name, box, difficult=0):
    edges = "".join(
        f"<{edge}>{value}</{edge}>"
        for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        f"<bndbox>{edges}</bndbox></object>"
    )


def annotate(root, picture, *things, size=SIZE, file_name=None):
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    text = f"<filename>{file_name or picture + '.jpg'}</filename>{stated}{''.join(things)}"
    (root / "Annotations" / f"{picture}.xml").write_text(f"<annotation>{text}</annotation>")


def list_split(root, name, *lines):
    (root / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def devkit(tmp_path):
    """Return the folder of a year with four pictures, three to train on and one to test with."""
    root = tmp_path / "VOC2007"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for number in range(1, 5):
        PIL.Image.new("RGB", SIZE).save(root / "JPEGImages" / f"00000{number}.jpg")
    annotate(root, "000001", thing("dog", (1, 1, 10, 10)), thing("cat", (1, 1, 40, 25)))
    annotate(
        root,
        "000002",
        thing("person", (1, 1, 40, 50), difficult=1),
        thing("dog", (21, 26, 40, 50)),
        thing("cat", (1, 1, 5, 5)),
        thing("dog", (1, 1, 20, 10)),
        thing("dog", (1, 1, 40, 10), difficult=1),
    )
    annotate(root, "000003", thing("person", (1, 1, 40, 50), difficult=1))
    annotate(root, "000004", thing("train", (1, 1, 40, 50)))
    list_split(root, "train", "000001", "000002", "000003")
    list_split(root, "test", "000004")
    return root


def opened(root, **options):
    return datasets.open_dataset(f"voc:{root}", **options)


def labels(dataset, source):
    return {record["file_name"]: dataset.class_names[record["label"]] for record in source}


def refused(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_the_label_is_the_class_of_the_largest_object_that_is_not_difficult(devkit, caplog):
    with caplog.at_level(logging.INFO):
        dataset = opened(devkit)
    assert dataset.class_names == voc.CLASSES
    assert len(voc.CLASSES) == 20
    assert [*voc.CLASSES] == sorted(voc.CLASSES)
    assert labels(dataset, dataset.train) == {"000001.jpg": "cat", "000002.jpg": "dog"}
    assert labels(dataset, dataset.evaluation) == {"000004.jpg": "train"}
    assert dataset.train[0]["image"] == (devkit / "JPEGImages/000001.jpg").read_bytes()
    assert "boxes" not in dataset.train[0]
    assert any("1 of 3 images have no usable object" in line for line in caplog.messages)
    assert not refused(caplog)


def test_boxes_are_those_of_the_label_and_count_pixels_from_one(devkit):
    dataset = opened(devkit, boxes=True)
    assert labels(dataset, dataset.train) == {"000001.jpg": "cat", "000002.jpg": "dog"}
    np.testing.assert_allclose(dataset.train[0]["boxes"], [[0, 0, 1, 0.5]])
    np.testing.assert_allclose(
        dataset.train[1]["boxes"], [[0.5, 0.5, 1, 1], [0, 0, 0.5, 0.2]], rtol=1e-6
    )
    assert dataset.train[1]["boxes"].dtype == np.float32


def test_all_objects_stay_at_hand(devkit):
    (split,) = voc.open_splits(devkit, ["train"])
    assert [*split.annotations] == ["000001.jpg", "000002.jpg", "000003.jpg"]
    second = split.annotations["000002.jpg"].objects
    assert [(each.class_name, each.difficult) for each in second] == [
        ("person", True),
        ("dog", False),
        ("cat", False),
        ("dog", False),
        ("dog", True),
    ]
    assert second[1].edges == (21, 26, 40, 50)


def test_validation_is_val_or_else_test(devkit):
    assert opened(devkit).identity.evaluation.split == "test"
    list_split(devkit, "val", "000002")
    dataset = opened(devkit)
    assert dataset.identity.evaluation.split == "val"
    assert labels(dataset, dataset.evaluation) == {"000002.jpg": "dog"}
    assert datasets.open_split(f"voc:{devkit}", None).part.split == "val"
    assert datasets.open_split(f"voc:{devkit}", "test", boxes=True).part.records == 1


def test_lists_of_the_classes_replace_a_missing_list(devkit):
    list_split(devkit, "dog_trainval", "000001  1", "000002 -1")
    list_split(devkit, "train_trainval", "000001 -1", "000004  0")
    list_split(devkit, "odd_trainval", "000003 1")  # there is no such class
    dataset = opened(devkit, train_split="trainval")
    assert labels(dataset, dataset.train).keys() == {f"00000{number}.jpg" for number in (1, 2, 4)}


def test_other_classes_are_those_of_all_annotations(devkit):
    annotate(devkit, "000004", thing("helmet", (1, 1, 40, 50)))
    expected = ("cat", "dog", "helmet", "person")
    assert opened(devkit).class_names == expected
    assert datasets.open_split(f"voc:{devkit}", "train").class_names == expected


@pytest.mark.parametrize(
    ("box", "why"),
    [
        ((30, 5, 10, 9), "the box (30, 5, 10, 9) is turned around"),
        ((1, 1, 400, 50), "the box (1, 1, 400, 50) is outside the picture, which is 40x50"),
        ((1, "x", 40, 50), "the box (1, nan, 40, 50) is not four numbers"),
        ((11, 5, 10, 9), "the box (11, 5, 10, 9) is empty"),
    ],
)
def test_a_bad_box_is_as_if_it_were_not_there(devkit, caplog, box, why):
    annotate(devkit, "000001", thing("cat", box), thing("dog", (1, 1, 10, 10)))
    for boxes in (False, True):
        caplog.clear()
        dataset = opened(devkit, boxes=boxes)
        assert labels(dataset, dataset.train)["000001.jpg"] == "dog"
        (line,) = refused(caplog)
        assert line == f"not used: {devkit / 'Annotations' / '000001.xml'}, cat: {why}"


def test_a_bad_box_of_a_difficult_object_does_not_matter(devkit, caplog):
    annotate(devkit, "000001", thing("cat", (9, 9, 1, 1), 1), thing("dog", (0, 0, 40, 50)))
    np.testing.assert_array_equal(opened(devkit, boxes=True).train[0]["boxes"], [[0, 0, 1, 1]])
    assert not refused(caplog)


def test_boxes_in_pixels_of_another_size_are_refused(devkit, caplog):
    annotate(devkit, "000001", thing("cat", (1, 1, 80, 50)), size=(80, 100))
    dataset = opened(devkit, boxes=True)
    assert labels(dataset, dataset.train) == {"000002.jpg": "dog"}
    (line,) = refused(caplog)
    assert "000001.xml: the boxes are in pixels of another size, 80x100; the picture is" in line
    plain = opened(devkit)
    assert labels(plain, plain.train) == {"000001.jpg": "cat", "000002.jpg": "dog"}


def test_a_size_that_is_not_stated_is_that_of_the_picture(devkit, caplog):
    annotate(devkit, "000001", thing("cat", (1, 1, 20, 50)), size=None)
    np.testing.assert_array_equal(opened(devkit, boxes=True).train[0]["boxes"], [[0, 0, 0.5, 1]])
    assert not refused(caplog)


def test_annotations_that_cannot_be_used_are_a_line_each(devkit, caplog):
    file = devkit / "Annotations" / "000001.xml"
    whole = file.read_text()
    list_split(devkit, "train", "000001", "000002", "../../000004")

    def line(text, boxes):
        caplog.clear()
        file.write_text(text) if text else file.unlink()
        dataset = opened(devkit, boxes=boxes)
        assert labels(dataset, dataset.train) == {"000002.jpg": "dog"}
        first, second = refused(caplog)
        assert "there is no picture ../../000004 in JPEGImages" in second
        return first.removeprefix(f"not used: {file}: ")

    for boxes in (False, True):
        assert "is cut short or not XML" in line(whole[:90], boxes)
        bomb = "<!DOCTYPE a [<!ENTITY b 'cat'>]>" + whole.replace("cat", "&b;")
        assert "defines a document type or entities" in line(bomb, boxes)
        other = whole.replace("000001.jpg", "000009.jpg")
        assert line(other, boxes) == "is of another picture, 000009.jpg"
    assert line("", True) == "there is no such file"


def test_other_boxes_are_another_set(devkit):
    plain, before = (opened(devkit, boxes=boxes).identity.train for boxes in (False, True))
    annotate(devkit, "000001", thing("dog", (1, 1, 10, 10)), thing("cat", (1, 1, 40, 26)))
    assert opened(devkit).identity.train == plain
    assert opened(devkit, boxes=True).identity.train.digest != before.digest
    annotate(devkit, "000001", thing("dog", (1, 1, 10, 10)))
    assert opened(devkit).identity.train.digest != plain.digest


def test_nothing_is_written_beside_the_pictures(devkit, tmp_path):
    before = sorted(devkit.rglob("*"))
    dataset = opened(devkit, data_dir=str(tmp_path / "data"))
    dataset.color_statistics(8)
    assert sorted(devkit.rglob("*")) == before
    assert dataset.directory.parent == tmp_path / "data" / "voc"


@pytest.mark.parametrize("split", ["dev", "train[:10%]", "val", ""])
def test_an_unknown_split_is_named_with_those_that_are_there(devkit, split):
    with pytest.raises(UserError) as error:
        opened(devkit, train_split=split)
    assert f"{devkit} has no split {split!r}; its splits are train, test" in str(error.value)


def test_another_folder_gets_a_hint(devkit, tmp_path):
    with pytest.raises(UserError, match=f"did you mean {devkit}\\?"):
        opened(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="such as VOCdevkit/VOC2007"):
        opened(tmp_path / "empty")
    with pytest.raises(UserError, match="nothing cannot be listed"):
        opened(tmp_path / "nothing")


def test_a_split_of_other_pictures_is_refused(devkit):
    list_split(devkit, "train", "000100", "000101")
    with pytest.raises(UserError, match="has no annotated pictures in train"):
        opened(devkit)


# Real photographs.


def test_the_test_pictures_of_voc(tmp_path, shared_data, caplog):
    with zipfile.ZipFile(shared_data("voc2007_test60_xml.zip")) as archive:
        archive.extractall(tmp_path)
    root = tmp_path / "VOC2007"
    split = datasets.open_split(f"voc:{root}", "test", boxes=True)
    assert len(split.source) == 60
    record = next(each for each in split.source if each["file_name"] == "000217.jpg")
    assert split.class_names[record["label"]] == "diningtable"
    np.testing.assert_allclose(record["boxes"], [[132 / 500, 183 / 333, 409 / 500, 1]])
    assert not refused(caplog)


def test_two_thousand_pictures_of_voc(tmp_path, shared_data, caplog):
    with zipfile.ZipFile(shared_data("voc2007_2000_s144.zip")) as archive:
        archive.extractall(tmp_path)
    root = tmp_path / "VOCdevkit" / "VOC2007"
    dataset = opened(root, train_split="trainval", boxes=True)
    assert (len(dataset.train), len(dataset.evaluation)) == (1000, 1000)
    (root / "ImageSets/Main/trainval.txt").unlink()
    again = opened(root, train_split="trainval", boxes=True)
    assert again.identity == dataset.identity
    assert not refused(caplog)
