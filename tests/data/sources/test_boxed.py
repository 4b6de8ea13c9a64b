"""Records with boxes, and what they are known by; of the embedded set, from its own records."""

import logging
import pickle

import numpy as np
import pytest
import tensorflow_datasets as tfds

from deepconv.data.sources import boxed, datasets, identity, prepared_boxes, shapes
from deepconv.data.sources.boxed import BoxedSource, Boxes
from deepconv.data.sources.identity import BOXES, Identity, Part
from deepconv.exceptions import UserError

WHOLE, HALF = np.float32([0, 0, 1, 1]), np.float32([0, 0, 0.5, 1])
RECORDS = [{"image": b"%d" % number, "label": number} for number in range(4)]
PART = Part("train", "", 4, {"a": "4 x"})


@pytest.fixture
def boxes():
    return Boxes.of([[], [HALF], [], [WHOLE, HALF]])


def test_boxes_are_those_of_their_records(boxes):
    assert boxes.counts.tolist() == [0, 1, 0, 2]
    assert boxes.corners.dtype == np.float32
    np.testing.assert_array_equal(boxes.of_record(3), [WHOLE, HALF])
    assert boxes.of_record(0).shape == (0, 4)
    assert Boxes.of([]).corners.shape == (0, 4)


def test_the_digest_depends_on_every_box_and_its_record(boxes):
    others = [
        Boxes.of([[HALF], [], [], [WHOLE, HALF]]),
        Boxes.of([[], [HALF], [], [HALF, WHOLE]]),
        Boxes.of([[], [HALF], [], [WHOLE]]),
        Boxes.of([[], [HALF + np.float32(1e-6)], [], [WHOLE, HALF]]),
    ]
    assert len({boxes.digest(), *(other.digest() for other in others)}) == 5
    assert Boxes.of([[], [HALF], [], [WHOLE, HALF]]).digest() == boxes.digest()


def test_records_without_boxes_are_left_out_and_counted(boxes, caplog):
    with caplog.at_level(logging.INFO):
        source, part = boxed.with_boxes(RECORDS, PART, boxes)
    assert [source[number]["label"] for number in range(len(source))] == [1, 3]
    assert "boxes" not in RECORDS[1]
    np.testing.assert_array_equal(source[1]["boxes"], [WHOLE, HALF])
    assert part.records == 2
    assert part.contents == {"a": "4 x", BOXES: f"3 {boxes.digest()}"}
    (line,) = caplog.messages
    assert line == "train: 2 of 4 images have no box and are left out"
    with pytest.raises(IndexError):
        source[2]


def test_nothing_is_said_where_all_have_boxes(caplog):
    with caplog.at_level(logging.INFO):
        boxed.with_boxes(RECORDS, PART, Boxes.of([[WHOLE]] * 4))
    assert not caplog.messages


def test_a_source_travels_to_other_processes(boxes):
    source = pickle.loads(pickle.dumps(BoxedSource(RECORDS, boxes)))
    np.testing.assert_array_equal(source[0]["boxes"], [HALF])


def test_other_boxes_are_said_to_be_the_difference(boxes):
    _, part = boxed.with_boxes(RECORDS, PART, boxes)
    _, fewer = boxed.with_boxes(RECORDS, PART, Boxes.of([[], [HALF], [], []]))
    before, now = (Identity(("a",), each, each) for each in (part, fewer))
    assert identity.difference(before, now) == "the boxes of its training images have changed"


# The embedded set.


def test_the_boxes_of_the_embedded_set_are_those_of_its_records(shapes_root):
    dataset = datasets.open_dataset("shapes", data_dir=str(shapes_root), boxes=True)
    plain = datasets.open_dataset("shapes", data_dir=str(shapes_root))
    assert (len(dataset.train), len(dataset.evaluation)) == (3600, 600)
    assert dataset.class_names == plain.class_names
    record = dataset.evaluation[31]
    expected = shapes.example("validation", 31)["bbox"]
    corners = [[expected.xmin, expected.ymin, expected.xmax, expected.ymax]]
    np.testing.assert_allclose(record["boxes"], corners, rtol=1e-6)
    assert record["boxes"].dtype == np.float32
    assert record["label"] == plain.evaluation[31]["label"]
    assert record["image"] == plain.evaluation[31]["image"]
    content = dataset.identity.train.contents
    assert content.keys() - plain.identity.train.contents.keys() == {BOXES}


def test_without_boxes_a_set_is_known_by_what_it_was_before(shapes_root):
    part = datasets.open_split("shapes", "validation", data_dir=str(shapes_root)).part
    assert [*part.contents] == ["validation"]
    assert part.records == 600


def test_boxes_of_a_part_of_the_embedded_set(shapes_root):
    split = datasets.open_split("shapes", "train[3500:]", data_dir=str(shapes_root), boxes=True)
    assert len(split.source) == split.part.records == 100
    expected = shapes.example("train", 3500)["bbox"]
    assert split.source[0]["boxes"][0, 0] == np.float32(expected.xmin)


class _Info:
    """What `prepared_boxes` needs of a prepared set with a feature `bbox`."""

    full_name = "cats/1.0.0"

    def __init__(self, feature):
        self.features = {"bbox": feature}


def test_a_record_may_have_several_boxes_and_bad_ones(tmp_path, caplog):
    feature = tfds.features.Sequence(tfds.features.BBoxFeature())
    records = [
        {"file_name": b"a.jpg", "bbox": np.float32([[0, 0.1, 1, 0.5], [0.2, 0.3, 0.4, 0.5]])},
        {"file_name": b"b.jpg", "bbox": np.float32([[0, 0, 0, 0]])},
        {"file_name": b"c.jpg", "bbox": np.zeros((0, 4), np.float32)},
    ]
    boxes = prepared_boxes.of(_Info(feature), tmp_path, "train", records)
    assert boxes.counts.tolist() == [2, 0, 0]
    expected = np.float32([[0.1, 0, 0.5, 1], [0.3, 0.2, 0.5, 0.4]])
    np.testing.assert_array_equal(boxes.of_record(0), expected)
    (line,) = caplog.messages
    assert line == "not used: cats/1.0.0, b.jpg: the box (0, 0, 0, 0) is empty"


def test_boxes_in_pixels_are_refused(tmp_path):
    feature = tfds.features.BBoxFeature(bbox_format="XYXY")
    with pytest.raises(UserError, match="the format XYXY; they have to be fractions"):
        prepared_boxes.of(_Info(feature), tmp_path, "train", [])
