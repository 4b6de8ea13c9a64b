"""Sets written by hand are what tfds reads, and an interruption leaves no trace."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
import tensorflow_datasets as tfds

from deepconv.data.prepare import shards
from deepconv.exceptions import UserError

FEATURES = tfds.features.FeaturesDict(
    {
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=["no", "yes"]),
        "file_name": tfds.features.Text(),
    }
)


def example(number):
    return {"image": b"\xff\xd8 no picture", "label": number % 2, "file_name": f"{number}.jpg"}


def shard(numbers, fail_at=None):
    def records():
        for number in numbers:
            if number == fail_at:
                raise OSError("the cable was pulled")
            yield shards.serialize(FEATURES, example(number))

    return shards.Shard(len(numbers), records)


def plan(*, fail_at=None, **origin):
    return shards.Plan(
        name="tiny",
        features=FEATURES,
        splits={
            "train": [shard(range(i, i + 3), fail_at) for i in (0, 3, 6)],
            "validation": [shard([9, 10], fail_at)],
        },
        origin=origin,
        description="Ten records.",
        homepage="https://example.org/",
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_tfds_reads_what_was_written(tmp_path):
    folder = tmp_path / "tiny" / "1.2.0"
    shards.write(plan(), folder)
    builder = tfds.builder_from_directory(folder)
    assert builder.info.full_name == "tiny/1.2.0"
    assert builder.info.features["label"].names == ["no", "yes"]
    assert builder.info.splits["train"].shard_lengths == [3, 3, 3]
    assert builder.info.splits["train"].num_bytes == sum(
        path.stat().st_size for path in folder.glob("tiny-train*")
    )
    for split, numbers in (("train", range(9)), ("validation", [9, 10])):
        source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
        read = [(r["image"], r["label"], r["file_name"].decode()) for r in source]
        assert read == [tuple(example(number).values()) for number in numbers]


def test_nothing_passing_remains(tmp_path):
    shards.write(plan(), tmp_path / "tiny" / "1.2.0")
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == ["1.2.0"]
    assert not list((tmp_path / "tiny" / "1.2.0").glob("*.part"))


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("fail_at", [0, 4, 8, 10])
def test_interrupted_is_uninterrupted(tmp_path, fail_at, threads):
    shards.write(plan(), tmp_path / "whole" / "1.0.0")
    folder = tmp_path / "tiny" / "1.0.0"
    with pytest.raises(OSError, match="cable"):
        shards.write(plan(fail_at=fail_at), folder, threads)
    assert not folder.exists()
    shards.write(plan(), folder, threads)
    assert contents(folder) == contents(tmp_path / "whole" / "1.0.0")


def test_going_on_leaves_whole_shards_alone(tmp_path):
    folder = tmp_path / "tiny" / "1.0.0"
    with pytest.raises(OSError):
        shards.write(plan(fail_at=7), folder, threads=1)
    unfinished = tmp_path / "tiny" / "1.0.0.incomplete"
    done = {path.name: path.stat().st_mtime_ns for path in unfinished.glob("*of-00003")}
    assert len(done) == 2
    shards.write(plan(), folder)
    assert done == {name: (folder / name).stat().st_mtime_ns for name in done}


@pytest.mark.parametrize("length", [0, 10, 70_000])
def test_a_shard_cut_short_by_a_crash_is_written_anew(tmp_path, length):
    shards.write(plan(), tmp_path / "whole" / "1.0.0")
    folder = tmp_path / "tiny" / "1.0.0"
    with pytest.raises(OSError):
        shards.write(plan(fail_at=10), folder, threads=1)
    damaged = tmp_path / "tiny" / "1.0.0.incomplete" / "tiny-train.array_record-00001-of-00003"
    data = damaged.read_bytes()
    assert length < len(data)
    damaged.write_bytes(data[:length])
    shards.write(plan(), folder)
    assert contents(folder) == contents(tmp_path / "whole" / "1.0.0")


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_process(tmp_path):
    shards.write(plan(), tmp_path / "here" / "1.0.0")
    script = f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(__file__).rpartition("/")[0]!r})
        import test_shards
        test_shards.shards.write(test_shards.plan(), Path({str(tmp_path)!r}) / "there" / "1.0.0")
    """
    for seed in ("1", "2"):  # the order of a message's fields is drawn when a process starts
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            env={
                "PYTHONHASHSEED": seed,
                "PATH": "",
                "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            },
            check=True,
        )
        there = tmp_path / "there"
        assert contents(there / "1.0.0") == contents(tmp_path / "here" / "1.0.0")
        there.rename(tmp_path / f"there_{seed}")


def test_two_processes_do_not_write_one_set(tmp_path):
    folder = tmp_path / "tiny" / "1.0.0"
    other = plan()

    def records():
        with pytest.raises(UserError, match=r"another process is writing .*1\.0\.0\.incomplete"):
            shards.write(plan(), folder)
        yield shards.serialize(FEATURES, example(0))

    other.splits["validation"][:] = [shards.Shard(1, records)]
    shards.write(other, folder, threads=1)
    assert folder.exists()


def test_shards_of_another_origin_are_not_mixed_in(tmp_path):
    folder = tmp_path / "tiny" / "1.0.0"
    with pytest.raises(OSError):
        shards.write(plan(fail_at=4, quality=90), folder)
    with pytest.raises(UserError, match=r"1\.0\.0\.incomplete .* quality=90, not 95"):
        shards.write(plan(quality=95), folder)
    shards.write(plan(quality=90), folder)
    assert json.loads((folder / "origin.json").read_text()) == {"quality": 90}
    assert shards.is_prepared(folder, {"quality": 90})
    with pytest.raises(UserError, match="quality=90, not 95"):
        shards.is_prepared(folder, {"quality": 95})


def test_a_set_in_another_format_is_in_the_way(tmp_path):
    folder = tmp_path / "tiny" / "1.0.0"
    assert not shards.is_prepared(folder, {})
    shards.write(plan(), folder)
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    with pytest.raises(UserError, match="tfrecord"):
        shards.is_prepared(folder, {})


def test_a_disk_that_is_too_small_is_said_before_anything_is_written(tmp_path, monkeypatch):
    folder = tmp_path / "sets" / "tiny" / "1.0.0"
    monkeypatch.setattr(
        shards.shutil, "disk_usage", lambda _: shards.shutil._ntuple_diskusage(9e9, 8e9, 1e9)
    )
    shards.require_space(folder, 1000)
    with pytest.raises(UserError, match=rf"{tmp_path} has 1.0 GB free, but up to 2.0 GB"):
        shards.require_space(folder, 2 * 10**9)
    assert not (tmp_path / "sets").exists()


def test_shards_that_are_there_need_no_more_space(tmp_path, monkeypatch):
    folder = tmp_path / "tiny" / "1.0.0"
    with pytest.raises(OSError):
        shards.write(plan(fail_at=10), folder, threads=1)
    written = sum(
        path.stat().st_size for path in (tmp_path / "tiny" / "1.0.0.incomplete").glob("*-of-00003")
    )
    monkeypatch.setattr(
        shards.shutil, "disk_usage", lambda _: shards.shutil._ntuple_diskusage(2, 1, 1)
    )
    shards.require_space(folder, written + 1)
    with pytest.raises(UserError):
        shards.require_space(folder, written + 2)


@pytest.mark.slow
def test_a_full_disk_is_one_line(tmp_path):
    script = f"""
        import resource, signal, sys
        from pathlib import Path
        sys.path.insert(0, {str(__file__).rpartition("/")[0]!r})
        import test_shards
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            test_shards.shards.write(test_shards.plan(), Path({str(tmp_path)!r}) / "tiny" / "1.0.0")
        except test_shards.UserError as error:
            sys.exit(str(error))
    """
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert process.returncode == 1
    assert "cannot write" in process.stderr
    assert "File too large" in process.stderr
    assert not (tmp_path / "tiny" / "1.0.0").exists()


def test_a_flipped_bit_is_named(tmp_path):
    folder = tmp_path / "tiny" / "1.0.0"
    shards.write(plan(), folder)
    path = folder / "tiny-train.array_record-00000-of-00003"
    data = bytearray(path.read_bytes())
    data[data.index(b"no picture")] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="00000-of-00003 is damaged: .*hash mismatch"):
        list(shards.read(path))
