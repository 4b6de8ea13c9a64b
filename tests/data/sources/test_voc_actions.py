"""A small devkit with the action task: who does what, where they are, and what is refused."""

import io

import numpy as np
import PIL.Image
import pytest

from deepconv.data.sources import identity, voc_actions
from deepconv.exceptions import UserError
from tests.data.sources.test_voc import annotate, thing

WIDTH, HEIGHT = 40, 50


def list_actions(root, split, **labels):
    for name, lines in labels.items():
        file = root / "ImageSets" / "Action" / f"{name}_{split}.txt"
        file.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def devkit(tmp_path):
    """Return the folder of a year: four persons in two pictures to train on, one to test with."""
    root = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Action"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for picture in ("2010_1", "2010_2", "2011_3"):
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(root / "JPEGImages" / f"{picture}.png")
    annotate(
        root,
        "2010_1",
        thing("horse", (1, 1, 9, 9)),
        thing("person", (3, 5, 12, 40)),
        thing("person", (1, 1, 41, 50)),  # one pixel beyond the edge, as in real files
    )
    annotate(root, "2010_2", thing("person", (1, 1, 5, 5)), thing("person", (40, 50, 40, 50)))
    annotate(root, "2011_3", thing("person", (11, 21, 30, 40)))
    list_actions(
        root,
        "train",
        running=["2010_1  2  1", "2010_1  3 -1", "2010_2  1 -1", "2010_2  2  0"],
        jumping=["2010_2  1  1", "2010_2  2 -1", "2010_1  2  1", "2010_1  3 -1"],
        other=["2010_1  3  1"],
    )
    list_actions(root, "val", running=["2011_3 1 1"], jumping=["2011_3 1 -1"])
    return root


def pixels_of(data):
    return np.asarray(PIL.Image.open(io.BytesIO(data)))


def test_a_record_is_a_person_with_all_labels(devkit):
    train, val = voc_actions.open_splits(devkit, ["train", "val"])
    assert train.class_names == val.class_names == ("jumping", "running")
    np.testing.assert_array_equal(train.labels, [[1, 0], [0, -1], [1, 1], [0, 0]])
    assert [train[record]["file_name"] for record in range(4)] == [
        "2010_2.png, object 1",
        "2010_2.png, object 2",
        "2010_1.png, object 2",
        "2010_1.png, object 3",
    ]
    assert [train[record]["label"] for record in range(4)] == [0, -1, 0, -1]
    assert (len(val), val.labels.tolist()) == (1, [[0, 1]])


def test_the_box_is_cut_out_to_the_pixel(devkit):
    train, _ = voc_actions.open_splits(devkit, ["train", "val"])
    whole = pixels_of(train[2]["image"])
    assert whole.shape == (HEIGHT, WIDTH, 3)
    cut = train.cut_out()
    # VOC counts pixels from 1, and the last one is inside.
    np.testing.assert_array_equal(pixels_of(cut[2]["image"]), whole[4:40, 2:12])
    np.testing.assert_array_equal(pixels_of(cut[3]["image"]), whole)
    assert pixels_of(cut[1]["image"]).shape == (1, 1, 3)
    assert cut[2]["file_name"] == train[2]["file_name"]


def test_boxes_and_labels_are_part_of_the_identity(devkit):
    (before,) = voc_actions.open_splits(devkit, ["train"])
    annotate(devkit, "2010_2", thing("person", (1, 1, 5, 6)), thing("person", (1, 1, 9, 9)))
    (boxes,) = voc_actions.open_splits(devkit, ["train"])
    list_actions(devkit, "train", running=["2010_1 2 1", "2010_1 3 1", "2010_2 1 1", "2010_2 2 0"])
    (labels,) = voc_actions.open_splits(devkit, ["train"])
    for one, other, changed in (
        (before, boxes, identity.BOXES),
        (boxes, labels, identity.LABELS),
    ):
        first, second = one.part().contents, other.part().contents
        assert {name for name in first if first[name] != second[name]} == {changed}


def rewrite(lines):
    return lambda root: list_actions(root, "train", running=lines)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (rewrite(["2010_1 2 2"]), "running_train.txt, line 1: label '2' is not 1, -1 or 0"),
        (rewrite(["2010_1 2"]), "line 1 has no label; VOC keeps those of its test set"),
        (rewrite(["2010_1"]), "line 1 is not a picture, the number of an object and a label"),
        (rewrite(["2010_1 2 1", "2010_1 2 1"]), "line 2: object 2 of 2010_1 is listed twice"),
        (rewrite([]), "running_train.txt lists no persons"),
        (rewrite(["2010_1 2 1"]), "list different persons; object 3 of 2010_1 is in one of them"),
        (lambda root: annotate(root, "2010_2"), "2010_2.xml has 0 objects, but ImageSets/Action"),
        (
            lambda root: annotate(root, "2010_2", thing("dog", (1, 1, 2, 2))),
            "2010_2.xml: object 1 is 'dog', not 'person'",
        ),
        (
            lambda root: annotate(root, "2010_2", thing("person", (5, 1, 2, 2))),
            "2010_2.xml, object 1: the box .* is turned around",
        ),
        (
            lambda root: annotate(root, "2010_2", thing("person", (1, 1, 2, 2)), size=(80, 100)),
            "in pixels of another size, 80x100; the picture is 40x50",
        ),
        (lambda root: (root / "Annotations/2010_2.xml").unlink(), "2010_2.xml cannot be read"),
        (
            lambda root: (root / "Annotations/2010_2.xml").write_text("<annotation>"),
            "2010_2.xml: is cut short or not XML",
        ),
        (
            lambda root: (root / "JPEGImages/2010_2.png").unlink(),
            "train lists 2010_2, but there is no such picture in JPEGImages",
        ),
        (
            lambda root: (root / "JPEGImages/2010_2.png").write_bytes(b"no picture"),
            "the picture of .*2010_2.xml cannot be read",
        ),
        (
            lambda root: (root / "ImageSets/Action/running_val.txt").unlink(),
            "has no list of running for both train and val",
        ),
        (
            lambda root: (root / "ImageSets/Action").rename(root / "ImageSets/Main"),
            "has no ImageSets/Action; voc_action: takes the folder of a year",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line(devkit, change, says):
    change(devkit)
    with pytest.raises(UserError, match=says) as error:
        voc_actions.open_splits(devkit, ["train", "val"])
    assert "\n" not in str(error.value)


def test_an_unknown_split_names_the_others(devkit):
    with pytest.raises(UserError, match="has no split 'test'; its splits are train, val"):
        voc_actions.open_splits(devkit, ["train", "test"])
