"""Which images are trained on and tested with, and by which rule."""

import numpy as np
import pytest

from deepconv.data.sources import caltech
from deepconv.exceptions import UserError
from deepconv.transfer.task import open_task
from tests.data.sources.test_voc import annotate, devkit, list_split, thing  # noqa: F401
from tests.data.sources.test_voc_actions import devkit as actions  # noqa: F401
from tests.transfer.photographs import draw_classes


def test_caltech_is_one_set_of_which_splits_are_drawn(tmp_path, monkeypatch):
    draw_classes(tmp_path / "101_ObjectCategories", ("BACKGROUND_Google", "ant"), 2)
    small = caltech._PUBLISHED["caltech101"]._replace(classes=2)
    monkeypatch.setitem(caltech._PUBLISHED, "caltech101", small)
    task = open_task(f"caltech101:{tmp_path}", threads=1)
    assert (task.test, task.rule, task.column) == (None, None, "caltech101")
    assert task.images == (task.train,)
    assert task.train.targets.tolist() == [0, 0, 1, 1]
    with pytest.raises(UserError, match="are drawn; leave out --train_split and --split"):
        open_task(f"caltech101:{tmp_path}", test_split="test", threads=1)


def test_voc_is_trained_on_trainval_and_tested_with_test_if_it_has_both(devkit):  # noqa: F811
    list_split(devkit, "val", "000002")
    task = open_task(f"voc:{devkit}", threads=1)
    assert [each.part.split for each in task.images] == ["train", "val"]
    list_split(devkit, "trainval", "000001", "000002", "000003")
    task = open_task(f"voc:{devkit}", threads=1)
    assert [each.part.split for each in task.images] == ["trainval", "test"]
    assert (task.rule, task.column) == ("11-point", "voc2007")
    assert task.train.targets.shape == (3, 20)
    assert task.train.targets[2].min() == -1  # only difficult objects
    task = open_task(f"voc:{devkit}", train_split="train", test_split="val", threads=1)
    assert [each.part.split for each in task.images] == ["train", "val"]
    later = devkit.rename(devkit.parent / "VOC2012")
    task = open_task(f"voc:{later}", threads=1)
    assert (task.rule, task.column) == ("all-point", "voc2012")


def test_actions_are_of_persons_whose_boxes_are_images_too(actions):  # noqa: F811
    task = open_task(f"voc_action:{actions}", threads=1)
    assert [each.part.split for each in task.images] == ["train", "val"]
    assert (task.rule, task.column) == ("all-point", "voc2012_action")
    assert task.class_names == ("jumping", "running")
    whole, boxes = task.train.views
    assert whole.survey.sizes.tolist() == [[50, 40]] * 4
    assert boxes.survey.sizes.tolist() == [[5, 5], [1, 1], [36, 10], [50, 40]]
    assert boxes.survey.image_ids == whole.survey.image_ids
    assert whole.described != boxes.described
    later = actions.rename(actions.parent / "mine")
    assert open_task(f"voc_action:{later}", test_split="train", threads=1).column == ""


def test_a_folder_of_classes_has_its_own_splits(tmp_path):
    draw_classes(tmp_path / "train", ("a", "b"), 3)
    draw_classes(tmp_path / "val", ("a", "b"), 2)
    task = open_task(f"folder:{tmp_path}", threads=1)
    assert (len(task.train.source), len(task.test.source)) == (6, 4)
    assert (task.rule, task.column, task.class_names) == (None, "", ("a", "b"))
    assert task.test.targets.tolist() == [0, 0, 1, 1]


def test_a_folder_with_a_table_has_several_labels(tmp_path):
    draw_classes(tmp_path, ("train", "val"), 2)
    lines = [f"{part}/{n}.png,{n},-1" for part in ("train", "val") for n in (0, 1)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,a,b", *lines]))
    task = open_task(f"folder:{tmp_path}", threads=1)
    assert task.rule == "all-point"
    np.testing.assert_array_equal(task.test.targets, [[0, -1], [1, -1]])
    assert task.test.part.split == "validation"
