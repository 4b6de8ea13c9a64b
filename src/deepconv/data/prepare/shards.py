"""Write data sets as ArrayRecord, shard by shard; an interrupted preparation can be resumed.

    plan = Plan(name, features, {"train": shards}, origin={}, description="", homepage="")
    write(plan, data_dir / name / "1.0.0")

A shard is written under a temporary name and renamed when it is complete. Until the last shard is
written, all are in `<version>.incomplete`, which is never mistaken for a data set; writing the same
plan again resumes there. Serialization is deterministic, so interruptions make no difference.
"""

import contextlib
import dataclasses
import fcntl
import functools
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_pb2
from tqdm import tqdm

from deepconv.exceptions import UserError

_LOG = logging.getLogger(__name__)

# JPEGs do not compress further; trying costs time in writing and reading. Checksums remain.
_WRITING = "group_size:1,uncompressed"
_READING = "readahead_buffer_size:0,max_parallelism:0"
ORIGIN = "origin.json"
_TEMPORARY = ".part"


class Shard(NamedTuple):
    """A part of a split: one file.

    Attributes:
      length: number of records.
      records: returns the serialized records; called again for every attempt at the shard.
    """

    length: int
    records: Callable[[], Iterator[bytes]]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a data set consists of.

    Attributes:
      name: name of the set.
      features: the features of a record.
      splits: the shards of each split, in order.
      origin: what the records are made from, and how; plain JSON. Shards of different origins are
        never mixed.
      description: one sentence.
      homepage: a URL, or empty.
    """

    name: str
    features: tfds.features.FeaturesDict
    splits: Mapping[str, Sequence[Shard]]
    origin: Mapping[str, str | int]
    description: str
    homepage: str


def serialize(features: tfds.features.FeaturesDict, example: dict[str, Any]) -> bytes:
    """Serialize an example deterministically."""
    return canonical(tf_example_pb2.Example.FromString(features.serialize_example(example)))


def canonical(example: tf_example_pb2.Example) -> bytes:
    """Serialize with the features in a fixed order; by default the order varies by process."""
    serialized: bytes = example.SerializeToString(deterministic=True)
    return serialized


def read(path: Path) -> Iterator[bytes]:
    """Yield the serialized records of a shard.

    Raises:
      UserError: if the file is damaged.
    """
    try:
        reader = ArrayRecordReader(str(path), _READING)
        if not reader.ok():
            raise UserError(f"{path} is damaged: the end of the file is missing")
        for number in range(reader.num_records()):
            yield reader.read([number])[0]
    except RuntimeError as error:
        raise UserError(f"{path} is damaged: {_first_clause(error)}") from None


def count(path: Path) -> int | None:
    """Return the number of records of a shard, or None if there is no complete file."""
    if not path.exists():
        return None
    try:
        reader = ArrayRecordReader(str(path), _READING)
        return reader.num_records() if reader.ok() else None
    except RuntimeError:
        return None


def is_prepared(folder: Path, origin: Mapping[str, str | int]) -> bool:
    """Return whether the data set has been prepared, by us or by tfds.

    Raises:
      UserError: if it has other settings or a format without random access.
    """
    if not (folder / "dataset_info.json").exists():
        return False
    file_format = tfds.builder_from_directory(folder).info.file_format
    if file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise UserError(
            f"{folder} already exists in the format {file_format.value}, which does not support "
            "random access; move it elsewhere"
        )
    if (folder / ORIGIN).exists():
        _require_same_origin((folder / ORIGIN).read_text(), origin, folder)
    return True


def require_space(folder: Path, needed: int) -> None:
    """Check that the disk has room for the missing part of a data set.

    Args:
      folder: folder of the data set.
      needed: size of the whole set in bytes.

    Raises:
      UserError: if there is not enough room.
    """
    written = sum(path.stat().st_size for path in _incomplete(folder).glob("*.array_record-*"))
    existing = next(parent for parent in folder.parents if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed - written:
        raise UserError(
            f"{existing} has {_gigabytes(free)} free, but up to {_gigabytes(needed - written)} may "
            "be needed; choose another folder with --data_dir"
        )


def write(plan: Plan, folder: Path, threads: int | None = None) -> None:
    """Write a data set, or the part that an interrupted process did not write.

    Args:
      plan: what to write.
      folder: `<data_dir>/<name>/<version>`; it appears when the set is complete.
      threads: number of shards written at once; by default the number of cores.

    Raises:
      UserError: if it cannot be written, another process is writing it, or the existing part has a
        different origin.
    """
    partial = _incomplete(folder)
    with _claimed(partial, plan.origin):
        for path in partial.glob(f"*{_TEMPORARY}"):
            path.unlink()
        planned = {
            partial / f"{plan.name}-{split}.array_record-{index:05d}-of-{len(shards):05d}": shard
            for split, shards in plan.splits.items()
            for index, shard in enumerate(shards)
        }
        missing = {path: shard for path, shard in planned.items() if count(path) != shard.length}
        if len(missing) < len(planned):
            _LOG.info("%d of %d shards already exist", len(planned) - len(missing), len(planned))
        total, left = (sum(shard.length for shard in of.values()) for of in (planned, missing))
        with tqdm(
            desc=plan.name, total=total, initial=total - left, unit=" images", disable=None
        ) as bar:
            _write_all(missing, bar, threads or os.cpu_count() or 1)
        _write_metadata(plan, partial, folder.name)
        partial.rename(folder)


def _incomplete(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.incomplete")


@contextlib.contextmanager
def _claimed(partial: Path, origin: Mapping[str, str | int]) -> Iterator[None]:
    """Lock the folder of an unfinished data set against other processes and other origins."""
    partial.mkdir(parents=True, exist_ok=True)
    with (partial / ORIGIN).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is writing {partial}") from None
        file.seek(0)
        text = file.read()
        if text:
            _require_same_origin(text, origin, partial)
        else:
            file.write(json.dumps(origin, indent=2) + "\n")
            file.flush()
        yield


def _require_same_origin(text: str, origin: Mapping[str, str | int], folder: Path) -> None:
    found = json.loads(text)
    for key in origin:
        if found.get(key) != origin[key]:
            raise UserError(
                f"{folder} already exists with {key}={found.get(key)}, not {origin[key]}; delete "
                "or move it to prepare the data set again"
            )


def _write_all(missing: Mapping[Path, Shard], bar: tqdm, threads: int) -> None:
    stop, lock = threading.Event(), threading.Lock()

    def advance() -> bool:
        with lock:
            bar.update()
        return not stop.is_set()

    pool = ThreadPoolExecutor(threads)
    try:
        for done in as_completed(
            [pool.submit(_write_shard, path, shard, advance) for path, shard in missing.items()]
        ):
            done.result()
    finally:
        stop.set()  # after an error or an interrupt the other threads stop at the next record
        pool.shutdown(cancel_futures=True)


def _write_shard(path: Path, shard: Shard, advance: Callable[[], bool]) -> None:
    """Write a shard under a temporary name, then rename it; stop when `advance` returns False."""
    temporary = path.with_name(path.name + _TEMPORARY)
    writing = functools.partial(_describing, path)
    with writing():
        writer = ArrayRecordWriter(str(temporary), _WRITING)
    for record in shard.records():
        with writing():
            writer.write(record)
        if not advance():
            return
    with writing():
        writer.close()
    if count(temporary) != shard.length:
        raise RuntimeError(f"{temporary} has {count(temporary)} records, not {shard.length}")
    # Otherwise a power failure could leave the final name on incomplete contents.
    descriptor = os.open(temporary, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    temporary.rename(path)


@contextlib.contextmanager
def _describing(path: Path) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # any system error, such as a full disk
        raise UserError(f"cannot write {path}: {_first_clause(error)}") from None


def _first_clause(error: RuntimeError) -> str:
    return str(error).partition(";")[0]


def _write_metadata(plan: Plan, partial: Path, version: str) -> None:
    sizes = {
        split: [path.stat().st_size for path in partial.glob(f"{plan.name}-{split}.array_record-*")]
        for split in plan.splits
    }
    tfds.folder_dataset.write_metadata(
        data_dir=partial,
        features=plan.features,
        split_infos=[
            tfds.core.SplitInfo(split, [shard.length for shard in shards], sum(sizes[split]))
            for split, shards in plan.splits.items()
        ],
        version=version,
        check_data=False,  # that would need TensorFlow
        description=plan.description,
        homepage=plan.homepage,
        supervised_keys=("image", "label") if {"image", "label"} <= set(plan.features) else None,
    )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
