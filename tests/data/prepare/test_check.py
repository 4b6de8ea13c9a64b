"""Every fault that a prepared set can have is named, and a sound set has none."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from deepconv.commands import command_line
from deepconv.commands.data import check as command
from deepconv.data.prepare import check, imagenet, shards
from deepconv.exceptions import UserError
from tests.faults.processes import PATIENCE_SECONDS

SYNSETS = ("n01440764", "n02105855", "n13037406")
EDITION = imagenet.Edition(SYNSETS, 6, ("n13037406", "n01440764"))


@pytest.fixture(scope="module")
def picture(encode):
    return encode(np.zeros((8, 8, 3), np.uint8))


@pytest.fixture
def records(picture):
    """Return the records of a sound ImageNet of eight images; tests change them."""
    train = [
        {"file_name": f"{SYNSETS[i % 3]}_{i}.JPEG", "image": picture, "label": i % 3}
        for i in range(6)
    ]
    validation = [
        {"file_name": "ILSVRC2012_val_00000001.JPEG", "image": picture, "label": 2},
        {"file_name": "ILSVRC2012_val_00000002.JPEG", "image": picture, "label": 0},
    ]
    return {"train": train, "validation": validation}


def prepare(folder, records, synsets=SYNSETS, **features):
    features = tfds.features.FeaturesDict(
        {
            "file_name": tfds.features.Text(),
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=list(synsets)),
            **features,
        }
    )
    # A label that is out of range cannot be written under its true feature.
    unchecked = tfds.features.FeaturesDict({**features, "label": tfds.features.Scalar(np.int64)})

    def shard(part):
        return shards.Shard(
            len(part), lambda: (shards.serialize(unchecked, example) for example in part)
        )

    splits = {
        name: [shard(part[: len(part) // 2]), shard(part[len(part) // 2 :])]
        for name, part in records.items()
    }
    shards.write(shards.Plan("imagenet2012", features, splits, {}, "", ""), folder / "5.1.0")
    return folder / "5.1.0"


def faults(folder, edition=EDITION):
    return check.findings(folder, edition).faults


# A sound set.


def test_a_sound_set_has_no_faults(tmp_path, records):
    found = check.findings(prepare(tmp_path, records), EDITION)
    assert found.faults == []
    assert found.facts == [
        "3 classes",
        "train: 6 images in 2 shards, 2 to 2 per class",
        "validation: 2 images in 2 shards, 0 to 1 per class",
    ]


def test_a_set_that_is_not_imagenet_may_have_any_classes_and_names(tmp_path, records):
    for record in records["train"]:
        record["file_name"] = "the same.jpg"
    folder = prepare(tmp_path, records, synsets=("hen", "cat", "dog"))
    assert faults(folder, edition=None) == []


def test_a_test_split_has_no_labels(tmp_path, records, picture):
    unknown = {"image": picture, "label": -1}
    records["test"] = [{"file_name": f"ILSVRC2012_test_{i}.JPEG", **unknown} for i in range(4)]
    found = check.findings(prepare(tmp_path, records), EDITION)
    assert found.faults == []
    assert "test: 4 images in 2 shards, without labels" in found.facts


# Faults.


def one_fault(folder, *words, edition=EDITION):
    found = faults(folder, edition)
    assert len(found) == 1, found
    assert "\n" not in found[0]
    for word in words:
        assert word in found[0]


def test_classes_in_another_order(tmp_path, records):
    folder = prepare(tmp_path, records, synsets=SYNSETS[::-1])
    one_fault(folder, "not in the order of their synsets")


def test_other_classes(tmp_path, records):
    folder = prepare(tmp_path, records, synsets=("cat", "dog", "hen", "owl"))
    assert "the 4 classes are not the 3 synsets of ImageNet" in faults(folder)


def test_a_split_is_missing(tmp_path, records):
    del records["validation"]
    one_fault(prepare(tmp_path, records), "the split validation is missing")


def test_images_are_missing(tmp_path, records):
    del records["train"][0]
    one_fault(prepare(tmp_path, records), "train: 5 images, not 6")


def test_an_image_is_there_twice(tmp_path, records):
    records["train"][0] = records["train"][3]
    one_fault(prepare(tmp_path, records), "train: 1 images are duplicates")


def test_a_label_of_another_class(tmp_path, records):
    records["train"][5]["label"] = 0
    one_fault(
        prepare(tmp_path, records), "00001-of-00002: 1 labels", "n13037406_5.JPEG is labeled 0"
    )


def test_a_validation_label_of_another_image(tmp_path, records):
    records["validation"][1]["label"] = 2
    one_fault(prepare(tmp_path, records), "ILSVRC2012_val_00000002.JPEG is labeled 2")


def test_a_file_that_is_not_of_the_set(tmp_path, records):
    records["train"][0]["file_name"] = "cat.JPEG"
    one_fault(prepare(tmp_path, records), "cat.JPEG is labeled 0")


@pytest.mark.parametrize("label", [-1, 3, 999])
def test_a_label_out_of_range(tmp_path, records, label):
    records["train"][5]["label"] = label
    one_fault(
        prepare(tmp_path, records),
        f"train: 1 labels are not in 0 ... 2, for example {label}",
        edition=None,
    )


def test_an_empty_class(tmp_path, records):
    for record in records["train"]:
        record["label"] %= 2
    folder = prepare(tmp_path, records)
    one_fault(folder, "train: 1 classes have no images, for example n13037406", edition=None)


def test_an_image_that_cannot_be_decoded(tmp_path, records, truncated):
    records["train"][3]["image"] = truncated
    one_fault(prepare(tmp_path, records), "train.array_record-00001-of-00002", "cannot be decoded")


def test_a_shard_is_missing_or_cut_short_or_altered(tmp_path, records):
    folder = prepare(tmp_path, records)
    shard = folder / "imagenet2012-validation.array_record-00000-of-00002"
    data = shard.read_bytes()
    altered = bytearray(data)
    altered[altered.index(b"ILSVRC2012")] ^= 1
    for damaged in (data[:-1], data[:100], b"", bytes(altered)):
        shard.write_bytes(damaged)
        first, *rest = faults(folder)
        assert f"{shard} is damaged" in first
        assert rest == ["validation: 1 images, not 2"]
    shard.unlink()
    assert f"{shard} is damaged" in faults(folder)[0]


def test_a_shard_of_another_length(tmp_path, records):
    folder = prepare(tmp_path, records)
    info = json.loads((folder / "dataset_info.json").read_text())
    info["splits"][0]["shardLengths"] = ["3", "4"]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    one_fault(folder, "imagenet2012-train.array_record-00001-of-00002 has 3 records, not 4")


def test_a_set_that_cannot_be_checked(tmp_path, records):
    folder = prepare(tmp_path, records)
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    with pytest.raises(UserError, match="not in the format array_record"):
        check.findings(folder)


# The command.


def run(name, data_dir, *more):
    arguments = [f"--name={name}", f"--data_dir={data_dir}", *more]
    command.main(*command_line.parse(command, arguments))


@pytest.mark.slow
def test_the_command_prints_what_is_there_and_fails_on_faults(tmp_path, records):
    folder = prepare(tmp_path / "imagenet2012_s64", records)
    process = subprocess.run(
        [
            *(sys.executable, "-m", "deepconv", "data", "check"),
            *("--name=imagenet2012_s64", f"--data_dir={tmp_path}"),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert process.returncode == 2
    lines = process.stdout.splitlines()
    assert lines[0] == f"imagenet2012_s64 in {folder}"
    assert "wrong: train: 6 images, not 1,281,167" in lines
    wrong = sum(line.startswith("wrong: ") for line in lines)
    assert process.stderr.splitlines() == [f"deepconv: problems found in imagenet2012_s64: {wrong}"]


def test_a_sound_set_passes(tmp_path, records, capsys):
    folder = prepare(tmp_path / "pictures", records)
    run("pictures", tmp_path, f"--json={tmp_path}/found.json")
    assert capsys.readouterr().out.splitlines()[-1] == "no problems found"
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["name"], found["folder"], found["faults"]) == ("pictures", str(folder), [])
    assert found["facts"][0] == "3 classes"


def test_a_set_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=f"pictures is not prepared under {tmp_path}"):
        run("pictures", tmp_path)
