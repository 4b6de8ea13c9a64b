"""The images that a linear classifier is fitted on and tested with, opened and surveyed.

task = open_task("caltech101:/data/caltech", threads=8)
task.train.source, task.test  # all of the images, and None: the splits are drawn
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepconv.data.pipeline import Source
from deepconv.data.sources import datasets, voc_actions
from deepconv.data.sources.datasets import Split
from deepconv.data.sources.identity import Part
from deepconv.data.sources.voc_actions import Persons
from deepconv.evaluation.class_means import Rule
from deepconv.exceptions import UserError
from deepconv.inference import buckets
from deepconv.inference.buckets import Survey
from deepconv.inference.evaluate import checked_labels
from deepconv.transfer import report

_ACTIONS = "voc_action:"
# VOC's rule for average precision changed after this year.
_LAST_11_POINT = 2009


class Images(NamedTuple):
    """A set of images and what is in them.

    Attributes:
      source: their records.
      survey: of them.
      targets: int `[N]`, or int8 `[N, C]` of several labels: 1 present, 0 absent, -1 unknown.
      described: the data set and the split, for people.
      part: identifies the records.
      boxes: the box in each image that its label is of, as an image of its own, which is described
        too; None if labels are of whole images.
    """

    source: Source
    survey: Survey
    targets: np.ndarray
    described: str
    part: Part
    boxes: "Images | None" = None

    @property
    def views(self) -> "tuple[Images, ...]":
        """What is described of each image: all of it, and its box if there is one."""
        return (self,) if self.boxes is None else (self, self.boxes)


class Task(NamedTuple):
    """What is to be recognized, and in which images.

    Attributes:
      name: of the data set.
      class_names: names of the C classes.
      train: the images to train on.
      test: those to test with; None if splits of `train` are drawn.
      rule: of the average precision of several labels; None of one label an image.
      column: the data set in the paper's tables, a key of `report.PUBLISHED`, or "".
    """

    name: str
    class_names: tuple[str, ...]
    train: Images
    test: Images | None
    rule: Rule | None
    column: str

    @property
    def images(self) -> tuple[Images, ...]:
        """All sets of images."""
        return (self.train,) if self.test is None else (self.train, self.test)


def open_task(
    name: str,
    *,
    data_dir: str = "",
    train_split: str | None = None,
    test_split: str | None = None,
    threads: int,
) -> Task:
    """Open a data set, and read every image's size and label.

    Args:
      name: see `datasets.open_split`; of VOC, and of a folder with `labels.csv`, with several
        labels an image; or `voc_action:` and the folder of a year of VOC, see `voc_actions`.
      data_dir: the folder of prepared data sets.
      train_split: the split to train on; by default see `datasets.usual_splits`, and `train` and
        `val` of the action task, as VOC keeps the labels of its `test` to itself.
      test_split: the split to test with, likewise.
      threads: how many read.

    Raises:
      UserError: if it cannot be opened, an image cannot be read, a label is no class, or a split is
        named of a data set whose splits are drawn.
    """
    if datasets.is_caltech(name):
        if train_split or test_split:
            raise UserError(f"the splits of {name} are drawn; leave out --train_split and --split")
        split = datasets.open_split(name, None)
        column = name.partition(":")[0]
        return Task(name, split.class_names, _images(name, split, threads), None, None, column)
    if is_actions(name):
        return _actions(name, [train_split or "train", test_split or "val"], threads)
    usual = datasets.usual_splits(name)
    several = datasets.has_several_labels(name)
    opened = datasets.open_dataset(
        name,
        data_dir=data_dir,
        train_split=train_split or usual[0],
        eval_split=test_split or usual[1],
        multilabel=several,
    )
    identity = opened.identity
    train, test = (
        _images(name, Split(source, identity.class_names, part), threads)
        for source, part in (
            (opened.train, identity.train),
            (opened.evaluation, identity.evaluation),
        )
    )
    year = _year(name)
    rule: Rule | None = None
    if several:
        rule = "11-point" if year and year <= _LAST_11_POINT else "all-point"
    return Task(name, identity.class_names, train, test, rule, f"voc{year}" if year else "")


def is_actions(name: str) -> bool:
    """Return whether a data set's name is that of VOC's action task."""
    return name.startswith(_ACTIONS)


def _actions(name: str, splits: list[str], threads: int) -> Task:
    path = Path(name.removeprefix(_ACTIONS)).expanduser()
    train, test = voc_actions.open_splits(path, splits)
    return Task(
        name,
        train.class_names,
        _persons(name, train, threads),
        _persons(name, test, threads),
        "all-point",
        report.ACTIONS if path.resolve().name == "VOC2012" else "",
    )


def _persons(name: str, persons: Persons, threads: int) -> Images:
    part, described = persons.part(), f"{name}, {persons.pictures.split}"
    cut_out = persons.cut_out()
    boxes = Images(
        cut_out, buckets.survey(cut_out, threads), persons.labels, f"{described}, boxes", part
    )
    survey = buckets.survey(persons, threads)
    return Images(persons, survey, persons.labels, described, part, boxes)


def _year(name: str) -> int | None:
    """Return the year of a data set of VOC, by the name of its folder."""
    found = re.search(r"20\d\d", Path(name.partition(":")[2]).expanduser().resolve().name)
    return int(found[0]) if datasets.is_voc(name) and found else None


def _images(name: str, split: Split, threads: int) -> Images:
    described = f"{name}, {split.part.split}"
    survey = buckets.survey(split.source, threads)
    targets = checked_labels(split, survey, described)
    return Images(split.source, survey, targets, described, split.part)
