"""Read a prepared data set from end to end and find what is wrong with it.

Every record is read, which verifies checksums and labels, and one image of each shard is decoded.
For ImageNet, the counts, the order of the classes, and the label of every file are compared with
the published ones. Each fault is one line, and any fault makes the exit status 2.
"""

import collections
import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2
from tqdm import tqdm

from deepconv.data import decode
from deepconv.data.labels import UNKNOWN
from deepconv.data.prepare import imagenet, shards
from deepconv.data.prepare.imagenet import Edition
from deepconv.exceptions import UserError


class Findings(NamedTuple):
    """What was found, one line each.

    Attributes:
      facts: the contents of the set.
      faults: what is wrong with it.
    """

    facts: list[str]
    faults: list[str]


class _Contents(NamedTuple):
    """The contents of some records.

    Attributes:
      labels: number of records with each label.
      file_names: file names of all records, if needed.
      faults: what is wrong with the records.
    """

    labels: collections.Counter[int]
    file_names: list[str]
    faults: list[str]


def findings(folder: Path, edition: Edition | None = None, threads: int | None = None) -> Findings:
    """Read a prepared data set from end to end.

    Args:
      folder: folder of the set.
      edition: ImageNet's known contents, if the set is ImageNet or derived from it.
      threads: number of shards read at once; by default the number of cores.

    Raises:
      UserError: if it is not a classification set in ArrayRecord.
    """
    info = tfds.builder_from_directory(folder).info
    if info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise UserError(f"{folder} is not in the format array_record")
    if not {"image", "label"} <= set(info.features):
        raise UserError(f"{folder} is not a classification set: it lacks an image or a label")
    class_names = tuple(info.features["label"].names)
    facts, faults = [f"{len(class_names):,} classes"], []
    if edition:
        faults += _compare_classes(class_names, edition.synsets)
        faults += [f"the split {name} is missing" for name in edition.counts.keys() - info.splits]
    for name, split in info.splits.items():
        contents = _read_split(name, split, edition, threads or os.cpu_count() or 1)
        facts.append(f"{name}: {_summary(contents.labels, class_names, split.num_shards)}")
        faults += [
            *contents.faults,
            *(f"{name}: {fault}" for fault in _label_faults(name, contents.labels, class_names)),
        ]
        if edition:
            faults += [f"{name}: {fault}" for fault in _file_faults(name, contents, edition)]
    return Findings(facts, faults)


def _compare_classes(names: Sequence[str], synsets: Sequence[str]) -> list[str]:
    if tuple(names) == tuple(synsets):
        return []
    if sorted(names) == sorted(synsets):
        return [
            "the classes are not in the order of their synsets, so labels mean different classes"
        ]
    return [f"the {len(names):,} classes are not the {len(synsets):,} synsets of ImageNet"]


def _read_split(name: str, split: Any, edition: Edition | None, threads: int) -> _Contents:
    """Read the shards of a split in parallel."""
    whole = _Contents(collections.Counter(), [], [])
    paths = [Path(path) for path in split.filepaths]
    editions = itertools.repeat(edition if name in imagenet.ARCHIVES else None)
    pool = ThreadPoolExecutor(threads)
    try:
        with tqdm(desc=name, total=split.num_examples, unit=" images", disable=None) as bar:
            for contents in pool.map(_read_shard, paths, split.shard_lengths, editions):
                whole.labels.update(contents.labels)
                whole.file_names.extend(contents.file_names)
                whole.faults.extend(contents.faults)
                bar.update(contents.labels.total())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # do not wait for the rest on an interrupt
    return whole


def _read_shard(path: Path, length: int, edition: Edition | None) -> _Contents:
    """Read all records of a shard and decode the first image.

    Args:
      path: path of the file.
      length: expected number of records.
      edition: ImageNet's known contents, to check the labels; None: no check.
    """
    contents = _Contents(collections.Counter(), [], [])
    mislabeled = []
    try:
        for record in shards.read(path):
            feature = tf_example_pb2.Example.FromString(record).features.feature
            label = feature["label"].int64_list.value[0]
            if not contents.labels:
                image = feature["image"].bytes_list.value[0]
                contents.faults.extend(_decoding_faults(path, image))
            contents.labels[label] += 1
            if edition:
                file_name = feature["file_name"].bytes_list.value[0].decode()
                contents.file_names.append(file_name)
                if edition.label(file_name) != label:
                    mislabeled.append(f"{file_name} is labeled {label}")
        if contents.labels.total() != length:
            contents.faults.append(
                f"{path} has {contents.labels.total():,} records, not {length:,}"
            )
    except UserError as error:  # a damaged file
        contents.faults.append(str(error))
    if mislabeled:
        contents.faults.append(f"{path}: {len(mislabeled):,} labels are wrong: {mislabeled[0]}")
    return contents


def _decoding_faults(path: Path, image: bytes) -> list[str]:
    try:
        decode.decode(image)
    except decode.UnreadableImageError as error:
        return [f"{path}: the first image cannot be decoded: {error}"]
    return []


def _summary(labels: collections.Counter[int], class_names: Sequence[str], shard_count: int) -> str:
    """Return one line with the number of images, in total and per class."""
    start = f"{_counted(labels.total(), 'image')} in {_counted(shard_count, 'shard')}"
    if labels.keys() <= {UNKNOWN}:
        return f"{start}, without labels"
    of_class = [labels[label] for label in range(len(class_names))]
    return f"{start}, {min(of_class):,} to {max(of_class):,} per class"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _label_faults(
    split: str, labels: collections.Counter[int], class_names: Sequence[str]
) -> list[str]:
    if labels.keys() <= {UNKNOWN}:
        return []
    faults = []
    out_of_range = sorted(label for label in labels if not 0 <= label < len(class_names))
    if out_of_range:
        count = sum(labels[label] for label in out_of_range)
        faults.append(
            f"{count:,} labels are not in 0 ... {len(class_names) - 1}, for example "
            f"{out_of_range[0]}"
        )
    empty = [name for label, name in enumerate(class_names) if not labels[label]]
    if empty and split == "train":
        faults.append(f"{len(empty):,} classes have no images, for example {empty[0]}")
    return faults


def _file_faults(split: str, contents: _Contents, edition: Edition) -> list[str]:
    """Compare a split with ImageNet's known contents."""
    expected = edition.counts.get(split)
    if expected is None:  # the test split, which tfds prepares if its archive is available
        return []
    faults = []
    count = contents.labels.total()
    if count != expected:
        faults.append(f"{count:,} images, not {expected:,}")
    distinct = len(set(contents.file_names))
    if distinct != count:
        faults.append(f"{count - distinct:,} images are duplicates")
    return faults
