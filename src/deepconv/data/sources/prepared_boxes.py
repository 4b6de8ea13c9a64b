"""The boxes of a prepared data set: in its records, or in a file beside them.

    boxes = of(builder.info, directory, "train[:90%]", source)

A record may have a feature `bbox`. Where it has none, `store` writes one file for each split,
`boxes_<split>.npz`, with the boxes in the order of the records.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from deepconv import atomic
from deepconv.data.pipeline import Source, record_name
from deepconv.data.sources import box_checks
from deepconv.data.sources.box_checks import BadBoxError, Refusals
from deepconv.data.sources.boxed import Boxes
from deepconv.exceptions import UserError

_FEATURE = "bbox"
# Fractions that exceed the picture by rounding.
_SLACK = 1e-5


def of(info: Any, directory: Path, split: str, source: Source) -> Boxes:
    """Return the boxes of a split's records. Those that cannot be used are logged.

    Args:
      info: of the prepared set, from tfds.
      directory: the folder of the prepared set.
      split: in tfds' notation.
      source: its records.

    Raises:
      UserError: if the set has no boxes, or those beside it belong to other records.
    """
    features = dict(info.features.items())
    one = features.get(_FEATURE)
    one = getattr(one, "feature", one)  # of a sequence
    if not isinstance(one, tfds.features.BBoxFeature):
        parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(info.splits)
        whole = {name: load(info, directory, name) for name in {part.splitname for part in parts}}
        return _joined([_part(whole[part.splitname], part.from_, part.to) for part in parts])
    # Sets that were prepared by older versions of tfds do not state the format.
    style = getattr(one.bbox_format, "value", one.bbox_format) or "REL_YXYX"
    if style != "REL_YXYX":
        raise UserError(
            f"{directory} has boxes in the format {style}; they have to be fractions of the picture"
        )
    return _from_records(info.full_name, source)


def path_of(directory: Path, split: str) -> Path:
    """Return the file with the boxes of a whole split."""
    return directory / f"boxes_{split}.npz"


def store(info: Any, directory: Path, split: str, boxes: Boxes) -> Path:
    """Write the boxes of a whole split beside its records, completely or not at all.

    Args:
      info: of the prepared set, from tfds.
      directory: the folder of the prepared set.
      split: name of the split.
      boxes: of its records, in their order.

    Returns:
      The file.

    Raises:
      ValueError: if the number of records is another.
    """
    if len(boxes.counts) != info.splits[split].num_examples:
        raise ValueError(f"boxes of {len(boxes.counts)} records are not those of {split}")
    path = path_of(directory, split)
    with atomic.replacing(path) as file:
        np.savez_compressed(
            file, starts=boxes.starts, corners=boxes.corners, records=_records(info, split)
        )
    return path


def load(info: Any, directory: Path, split: str) -> Boxes:
    """Return what `store` wrote.

    Raises:
      UserError: if there is none, it is damaged, or of other records.
    """
    path = path_of(directory, split)
    try:
        with np.load(path, allow_pickle=False) as file:
            boxes = Boxes(file["starts"], file["corners"])
            records = str(file["records"])
    except FileNotFoundError:
        raise UserError(
            f"{directory} has no boxes for {split}: there is no {path.name}; deepconv data "
            f"imagenet-boxes --name={info.name} makes it from the archives of ILSVRC's boxes"
        ) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}); make it again with deepconv data "
            "imagenet-boxes"
        ) from None
    if records != _records(info, split):
        raise UserError(
            f"{path} belongs to other records ({records}) than those beside it "
            f"({_records(info, split)}); make it again with deepconv data imagenet-boxes"
        )
    return boxes


def _records(info: Any, split: str) -> str:
    """Return what identifies the records of a split without reading them."""
    part = info.splits[split]
    return f"{info.full_name} {split}: {part.num_examples} images, {int(part.num_bytes)} bytes"


def _part(boxes: Boxes, start: int | None, end: int | None) -> Boxes:
    """Return the boxes of some consecutive records."""
    start, end, _ = slice(start, end).indices(len(boxes.counts))
    starts = boxes.starts[start : end + 1]
    return Boxes(starts - starts[0], boxes.corners[starts[0] : starts[-1]])


def _joined(parts: list[Boxes]) -> Boxes:
    counts = np.concatenate([part.counts for part in parts])
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Boxes(starts, np.concatenate([part.corners for part in parts]))


def _from_records(name: str, source: Source) -> Boxes:
    refusals = Refusals()
    found: list[list[np.ndarray]] = []
    for number in range(len(source)):
        record = source[number]
        found.append([])
        for ymin, xmin, ymax, xmax in np.reshape(record[_FEATURE], (-1, 4)):
            try:
                box = box_checks.fractions((xmin, ymin, xmax, ymax), 1, 1, slack=_SLACK)
            except BadBoxError as error:
                refusals.add(f"{name}, {record_name(record, number)}", error)
            else:
                found[-1].append(box)
    refusals.end()
    return Boxes.of(found)
