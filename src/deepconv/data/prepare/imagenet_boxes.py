"""ILSVRC's boxes, from their two archives without unpacking, beside a prepared data set.

    for line in add(Path("/archives"), Path("~/tensorflow_datasets/imagenet2012/5.1.0")):
        print(line)

An annotation is matched to a record by the name of its file. Its boxes of the record's class are
kept, as fractions of the picture; see `prepared_boxes.store`. Not all training images have boxes.
"""

import contextlib
import gzip
import json
import os
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2
from tqdm import tqdm

from deepconv.data import decode
from deepconv.data.prepare import shards
from deepconv.data.sources import annotations, box_checks, prepared_boxes
from deepconv.data.sources.annotations import Annotation, AnnotationError
from deepconv.data.sources.box_checks import BadBoxError, Refusals, Size
from deepconv.data.sources.boxed import Boxes
from deepconv.exceptions import UserError

ARCHIVES = {
    "train": "ILSVRC2012_bbox_train_v2.tar.gz",
    "validation": "ILSVRC2012_bbox_val_v3.tgz",
}

# Some annotations exceed their picture by a pixel.
_SLACK = 1.0
_SYNSET = re.compile(r"n\d{8}")


class _Record(NamedTuple):
    """What has to be known of a record: its name without extension, its class, its size."""

    name: str
    label: int
    size: Size | None


def add(archives: Path, directory: Path) -> Iterator[str]:
    """Write the boxes of a prepared data set beside it, a file for each split.

    What cannot be used is logged. A split whose archive is missing is left as it is.

    Args:
      archives: the folder of the archives.
      directory: the folder of the prepared set, ImageNet's or one derived from it.

    Yields:
      A line for each split, when it is done.

    Raises:
      UserError: if both archives are missing, one is damaged or has no boxes of these records, or
        the set is of another kind.
    """
    info = tfds.builder_from_directory(directory).info
    if info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise UserError(f"{directory} is not in the format array_record")
    if missing := {"image", "label", "file_name"} - set(info.features):
        raise UserError(f"{directory} has no feature {min(missing)!r}, by which boxes are matched")
    paths = {split: archives / name for split, name in ARCHIVES.items() if split in info.splits}
    if not any(path.is_file() for path in paths.values()):
        raise UserError(
            f"{archives} has neither {' nor '.join(ARCHIVES.values())}; they are at "
            "https://image-net.org/download-images"
        )
    for split, path in paths.items():
        if not path.is_file():
            yield f"{split}: nothing is done, there is no {path}"
            continue
        boxes = _boxes(path, info, split, _shorter_side(directory))
        file = prepared_boxes.store(info, directory, split, boxes)
        yield (
            f"{split}: {np.count_nonzero(boxes.counts):,} of {len(boxes.counts):,} images have "
            f"{len(boxes.corners):,} boxes, in {file}"
        )


def read(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the XML files of an archive in its order: the name without extension, the contents.

    Folders do not matter; nothing is unpacked.

    Raises:
      UserError: if the archive is truncated or not a tar file.
    """
    with (
        _described(archive),
        _uncompressed(archive) as file,
        tarfile.open(fileobj=file, mode="r|") as members,
    ):
        for member in members:
            path = PurePosixPath(member.name)
            if member.isreg() and path.suffix == ".xml":
                content = members.extractfile(member)
                assert content is not None
                # One byte too many is enough to refuse it.
                yield path.stem, content.read(annotations.MAX_BYTES + 1)


def _boxes(archive: Path, info: Any, split: str, shorter: int | None) -> Boxes:
    """Return the boxes of a split's records.

    Args:
      archive: the annotations.
      info: of the prepared set.
      split: name of the split.
      shorter: to which shorter side the pictures were reduced, if they were.
    """
    refusals = Refusals()
    found: dict[str, Annotation] = {}
    for name, data in tqdm(read(archive), desc=archive.name, unit=" files", disable=None):
        try:
            found[name] = annotations.parse(data, name)
        except AnnotationError as error:
            refusals.add(f"{archive.name}, {name}.xml", error)
    class_names = tuple(info.features["label"].names)
    boxes: list[list[np.ndarray]] = []
    matched = set()
    for record in _records(info, split):
        boxes.append([])
        if record.name in found and 0 <= record.label < len(class_names):
            matched.add(record.name)
            where = f"{archive.name}, {record.name}.xml"
            annotation = _of_class(found[record.name], class_names[record.label], class_names)
            boxes[-1] = _usable(annotation, record.size, shorter, refusals, where)
    for name in sorted(found.keys() - matched):
        refusals.add(
            f"{archive.name}, {name}.xml", f"{info.full_name} has no such image in {split}"
        )
    refusals.end()
    if not any(boxes):
        raise UserError(f"{archive} has no boxes of the images of {info.full_name} in {split}")
    return Boxes.of(boxes)


def _of_class(annotation: Annotation, synset: str, class_names: Sequence[str]) -> Annotation:
    """Return an annotation with the objects of one class only.

    Many dogs are named in words, as Scottish_deerhound: what is neither a synset nor a class of the
    set is taken to be of the picture's own class.
    """
    objects = (
        thing
        for thing in annotation.objects
        if thing.class_name == synset
        or not (_SYNSET.fullmatch(thing.class_name) or thing.class_name in class_names)
    )
    return annotation._replace(objects=tuple(objects))


def _usable(
    annotation: Annotation, size: Size | None, shorter: int | None, refusals: Refusals, where: str
) -> list[np.ndarray]:
    """Return the boxes of a record's annotation that can be used, and refuse the others."""
    stated = Size(annotation.height, annotation.width)
    if size is None:
        refusals.add(where, "the picture cannot be read")
        return []
    if not stated.width:
        refusals.add(where, "it does not state the size of the picture")
        return []
    if size not in (stated, _reduced(stated, shorter)):
        refusals.add(
            where,
            f"the boxes are in pixels of another size, {stated.width}x{stated.height}; the picture "
            f"is {size.width}x{size.height}",
        )
        return []
    boxes = []
    for thing in annotation.objects:
        try:
            boxes.append(box_checks.fractions(thing.edges, *stated, slack=_SLACK))
        except BadBoxError as error:
            refusals.add(where, error)
    return boxes


def _shorter_side(directory: Path) -> int | None:
    """Return the shorter side to which a set's pictures were reduced, see `resize`."""
    with contextlib.suppress(FileNotFoundError):
        origin: Mapping[str, Any] = json.loads((directory / shards.ORIGIN).read_text())
        return origin.get("shorter")
    return None


def _reduced(size: Size, shorter: int | None) -> Size:
    """Return the size of a picture after `resize.shrink`."""
    if shorter is None or min(size) <= shorter:
        return size
    return Size(*decode.rescaled_size(*size, shorter))


def _records(info: Any, split: str) -> Iterator[_Record]:
    """Yield the records of a split in order; several shards are read at once."""
    part = info.splits[split]
    paths = [Path(path) for path in part.filepaths]
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        with tqdm(desc=split, total=part.num_examples, unit=" images", disable=None) as bar:
            for records in pool.map(_read_shard, paths):
                bar.update(len(records))
                yield from records
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # do not wait for the rest on an interrupt


def _read_shard(path: Path) -> list[_Record]:
    records = []
    for serialized in shards.read(path):
        feature = tf_example_pb2.Example.FromString(serialized).features.feature
        file_name = feature["file_name"].bytes_list.value[0].decode(errors="surrogateescape")
        try:
            size = Size(*decode.image_size(feature["image"].bytes_list.value[0]))
        except decode.UnreadableImageError:
            size = None
        label = feature["label"].int64_list.value[0]
        records.append(_Record(PurePosixPath(file_name).stem, label, size))
    return records


@contextlib.contextmanager
def _uncompressed(archive: Path) -> Iterator[BinaryIO]:
    """Open an archive that may be compressed, and read it to the end if all goes well.

    Only at the end is it certain that a compressed file is complete.
    """
    with contextlib.ExitStack() as stack:
        file: Any = stack.enter_context(archive.open("rb"))
        is_compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if is_compressed:
            file = stack.enter_context(gzip.GzipFile(fileobj=file))
        yield file
        while file.read(1 << 20):
            pass


@contextlib.contextmanager
def _described(archive: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{archive} is truncated or not a tar file: {error}") from None
