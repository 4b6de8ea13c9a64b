"""What is said of scores: recalls, confusions, the worst images, and the paper's own figures."""

import json
from pathlib import Path

import numpy as np
import pytest

from deepconv.evaluation import several_labels
from deepconv.transfer import report, text
from deepconv.transfer.report import Scores

NAMES = ("cat", "dog", "sea", "none")
PAPER = json.loads((Path(__file__).parents[1] / "paper_tables.json").read_text())
SPLITS = [
    Scores(
        np.float32([[3, 1, 0, 0], [2, 1, 0, 0], [0, 0, 2, 1], [0, 5, 4, 1]]),
        np.array([0, 1, 2, 2]),
        ["cat/1", "dog/1", "sea/1", "sea/2"],
    ),
    Scores(
        np.float32([[3, 1, 0, 0], [1, 2, 0, 0], [9, 0, 2, 1]]),
        np.array([0, 1, 2]),
        ["cat/1", "dog/2", "sea/2"],
    ),
]


def test_the_figures_are_those_of_the_papers_tables():
    actions = PAPER["vgg"]["table12_action"]["rows"]
    assert [row[1] for row in report.PUBLISHED[report.ACTIONS]] == [row[1] for row in actions]
    table = PAPER["vgg"]["table11_transfer"]
    for data_set, rows in report.PUBLISHED.items():
        if data_set == report.ACTIONS:
            continue
        kind = "recall" if "caltech" in data_set else "map"
        value = table["columns"].index(f"{data_set}_{kind}")
        expected = [
            (row[value], row[value + 1] if kind == "recall" else None)
            for row in table["rows"]
            if row[value] is not None
        ]
        assert [tuple(row[1:]) for row in rows] == expected
        assert rows[-1][0] == "VGG Net-D & Net-E"


def test_recalls_of_two_splits():
    result = report.of_classes(SPLITS, NAMES)
    first, second = (1 + 0 + 0.5) / 3, (1 + 1 + 0) / 3
    assert result["mean"] == pytest.approx((first + second) / 2)
    assert result["deviation"] == pytest.approx(abs(first - second) / 2**0.5)
    assert [each["accuracy"] for each in result["of_splits"]] == [0.5, pytest.approx(2 / 3)]
    assert [(row["name"], row["images"], row["recall"]) for row in result["classes"]] == [
        ("sea", 3, pytest.approx(1 / 3)),
        ("dog", 2, 0.5),
        ("cat", 2, 1.0),
    ]
    assert result["left_out"] == 1
    assert {(row["true"], row["predicted"], row["images"]) for row in result["confusions"]} == {
        ("dog", "cat", 1),
        ("sea", "cat", 1),
        ("sea", "dog", 1),
    }


def test_an_image_of_several_splits_is_listed_once_where_it_was_worst():
    worst = report.of_classes(SPLITS, NAMES)["worst"]
    assert [(row["image"], row["margin"]) for row in worst] == [
        ("sea/2", -7.0),
        ("dog/1", -1.0),
        ("sea/1", 1.0),
        ("dog/2", 1.0),
        ("cat/1", 2.0),
    ]
    assert worst[0]["best"] == [["cat", 9.0], ["sea", 2.0], ["none", 1.0], ["dog", 0.0]]
    assert worst[0]["true"] == ["sea"]


def test_of_several_labels_the_worst_is_farthest_on_the_wrong_side():
    scores = np.float32([[1, -3, 0, 0], [2, -1, 9, 0], [-1, 0.5, 0, 0]])
    present = np.array([[1, 1, 0, 0], [1, 0, -1, 0], [0, 1, 0, 0]])
    result = several_labels.of_labels(scores, present, "11-point", NAMES, ["a", "b", "c"])
    assert [(row["image"], row["class"], row["margin"]) for row in result["worst"]] == [
        ("a", "dog", -3.0),
        ("b", "none", 0.0),  # of the unknown class nothing is wrong
        ("c", "sea", 0.0),
    ]
    assert result["worst"][0]["true"] == ["cat", "dog"]
    assert (result["left_out"], result["images"]) == (2, 3)
    assert [(row["name"], row["images"]) for row in result["classes"]] == [("dog", 2), ("cat", 2)]


def printed(**parts):
    return text.describe(
        {
            "title": "net, relu7, Q=32, somewhere",
            "networks": [{"name": "net"}],
            "numbers": 12288,
            "counted": "images",
            "train_images": 3060,
            "test_images": 4000,
            "paper": [],
            "splits": [{"C": 1.0}, {"C": 10.0}],
            "notes": ["C=10 is the largest"],
            **parts,
        }
    )


def test_the_text_has_the_papers_results_beside_ours():
    rows = [[*row] for row in report.PUBLISHED["caltech101"]]
    found = printed(**report.of_classes(SPLITS, NAMES), paper=rows)
    assert "3,060 images to train on, 4,000 to test with, 2 splits" in found
    assert "12,288 numbers each; C=1, 10, chosen on a fifth of the training images" in found
    assert "note: C=10 is the largest\nnote: 1 classes have no test image" in found
    assert "VGG Net-D & Net-E  92.7 ± 0.5" in found
    assert "here: net          58.3 ± 11.8" in found
    assert "true class  taken for  images" in found
    assert "sea/2         sea         cat 9.00" in found


def test_the_text_of_several_labels_has_every_class_by_both_rules():
    present = np.array([[1, 1], [1, 0], [0, 1]])
    scores = np.float32([[1, -3], [2, -1], [-1, 0.5]])
    result = several_labels.of_labels(scores, present, "all-point", NAMES[:2], ["a", "b", "c"])
    found = printed(**result)
    assert "class  images  AP %, 11-point  AP %, all-point" in found
    assert "mean        -" in found
    assert "taken for" not in found
    assert "a             cat, dog    cat 1.00" in found
