"""Boxes from small archives of the true layout, beside a small prepared set."""

import gzip
import io
import logging
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds

from deepconv.data.prepare import imagenet_boxes, resize, shards
from deepconv.data.sources import datasets, prepared_boxes
from deepconv.data.sources.boxed import Boxes
from deepconv.exceptions import UserError
from tests.faults.processes import PATIENCE_SECONDS

FISH, DOG = "n01440764", "n02105855"
FEATURES = tfds.features.FeaturesDict(
    {
        "file_name": tfds.features.Text(),
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=[FISH, DOG]),
    }
)
# Names and labels of the records in order, in three shards and one.
TRAIN = [(f"{(FISH, DOG)[number % 2]}_{number}", number % 2) for number in range(10)]
VALIDATION = [(f"ILSVRC2012_val_{number:08d}", number % 2) for number in range(1, 5)]
SIZE = (50, 40)  # height and width


def xml(name, *objects, size=SIZE):
    things = "".join(
        f"<object><name>{synset}</name><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
        f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for synset, box in objects
    )
    return (
        f"<annotation><filename>{name}</filename><size><width>{size[1]}</width>"
        f"<height>{size[0]}</height></size>{things}</annotation>"
    ).encode()


def archive(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def box_of(number):
    return (number, 0, 40, 25)


@pytest.fixture
def prepared(tmp_path, encode):
    """Return the folder of a small prepared set."""
    image = encode(np.zeros((*SIZE, 3), np.uint8))

    def shard(pairs):
        def records():
            for name, label in pairs:
                example = {"file_name": f"{name}.JPEG", "image": image, "label": label}
                yield shards.serialize(FEATURES, example)

        return shards.Shard(len(pairs), records)

    splits = {
        "train": [shard(TRAIN[:4]), shard(TRAIN[4:7]), shard(TRAIN[7:])],
        "validation": [shard(VALIDATION)],
    }
    plan = shards.Plan("imagenet2012", FEATURES, splits, {}, "", "")
    folder = tmp_path / "sets" / "imagenet2012" / "5.1.0"
    shards.write(plan, folder, threads=1)
    return folder


@pytest.fixture
def archives(tmp_path):
    """Return a folder of archives in which every image but one has one box."""
    folder = tmp_path / "archives"
    folder.mkdir()
    train = {
        f"{name[:9]}/{name}.xml": xml(name, (name[:9], box_of(number)))
        for number, (name, _) in enumerate(TRAIN)
        if number != 3
    }
    archive(folder / imagenet_boxes.ARCHIVES["train"], train)
    validation = {
        f"val/{name}.xml": xml(name, ((FISH, DOG)[label], box_of(number)))
        for number, (name, label) in enumerate(VALIDATION)
    }
    archive(folder / imagenet_boxes.ARCHIVES["validation"], validation)
    return folder


def rewrite(archives, split, files):
    archive(archives / imagenet_boxes.ARCHIVES[split], files)


def add(archives, prepared):
    return list(imagenet_boxes.add(archives, prepared))


def opened(prepared, **options):
    return datasets.open_dataset(
        prepared.parent.name, data_dir=str(prepared.parents[1]), boxes=True, **options
    )


def starts(source):
    """Return where the boxes of each record begin, in pixels; they differ by record."""
    return [
        [round(float(box[0] * SIZE[1])) for box in source[number]["boxes"]]
        for number in range(len(source))
    ]


def refused(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_boxes_are_matched_to_the_records_by_name(prepared, archives, caplog):
    lines = add(archives, prepared)
    assert lines == [
        f"train: 9 of 10 images have 9 boxes, in {prepared}/boxes_train.npz",
        f"validation: 4 of 4 images have 4 boxes, in {prepared}/boxes_validation.npz",
    ]
    dataset = opened(prepared)
    assert starts(dataset.train) == [[number] for number in range(10) if number != 3]
    assert starts(dataset.evaluation) == [[0], [1], [2], [3]]
    record = dataset.train[1]
    np.testing.assert_array_equal(record["boxes"], np.float32([[1 / 40, 0, 1, 0.5]]))
    assert record["boxes"].dtype == np.float32
    assert (record["label"], record["file_name"]) == (1, f"{TRAIN[1][0]}.JPEG".encode())
    assert dataset.class_names == (FISH, DOG)
    assert not refused(caplog)


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train[:50%]", [0, 1, 2, 4]),
        ("train[50%:]", [5, 6, 7, 8, 9]),
        ("train[3:8]", [4, 5, 6, 7]),
        ("train[-2:]+train[:2]", [8, 9, 0, 1]),
        ("validation[1:]+train[:1]", [1, 2, 3, 0]),
    ],
)
def test_a_part_of_a_split_has_its_own_boxes(prepared, archives, split, expected):
    add(archives, prepared)
    dataset = opened(prepared, train_split=split)
    assert starts(dataset.train) == [[start] for start in expected]
    assert dataset.identity.train.records == len(expected)


def test_other_boxes_are_another_set(prepared, archives):
    add(archives, prepared)
    plain = datasets.open_dataset("imagenet2012", data_dir=str(prepared.parents[1])).identity
    first = opened(prepared).identity
    assert [*plain.train.contents] == ["train"]
    name = TRAIN[0][0]
    rewrite(archives, "train", {f"{name}.xml": xml(name, (FISH, (0, 0, 9, 9)))})
    add(archives, prepared)
    second = opened(prepared).identity
    assert first.train.digest != second.train.digest
    assert first.evaluation == second.evaluation


def test_only_objects_of_the_own_class_count(prepared, archives, caplog):
    name = TRAIN[0][0]
    things = (
        (DOG, (1, 1, 9, 9)),
        ("n99999999", (1, 1, 9, 9)),
        (FISH, (2, 2, 9, 9)),
        ("Scottish_deerhound", (3, 3, 9, 9)),
    )
    rewrite(archives, "train", {f"a/b/c/{name}.xml": xml("%s", *things), "README": b"x"})
    add(archives, prepared)
    assert starts(opened(prepared).train) == [[2, 3]]
    assert not refused(caplog)


def test_a_box_that_exceeds_its_picture_by_a_pixel_is_clipped(prepared, archives, caplog):
    name = TRAIN[0][0]
    rewrite(archives, "train", {f"{name}.xml": xml(name, (FISH, (-1, 0, 41, 51)))})
    add(archives, prepared)
    np.testing.assert_array_equal(opened(prepared).train[0]["boxes"], [[0, 0, 1, 1]])
    assert not refused(caplog)


BAD = [
    (xml(TRAIN[0][0], (FISH, (0, 0, 42, 50))), "is outside the picture, which is 40x50"),
    (xml(TRAIN[0][0], (FISH, (9, 0, 3, 50))), "the box (9, 0, 3, 50) is turned around"),
    (xml(TRAIN[0][0], (FISH, (9, 0, 9, 50))), "is empty"),
    (xml(TRAIN[0][0], (FISH, ("", 0, 9, 50))), "is not four numbers"),
    (
        xml(TRAIN[0][0], (FISH, (0, 0, 9, 9)), size=(100, 80)),
        "the boxes are in pixels of another size, 80x100; the picture is 40x50",
    ),
    (xml(TRAIN[0][0], (FISH, (0, 0, 9, 9)), size=(0, 0)), "does not state the size"),
    (xml(TRAIN[0][0], (FISH, (0, 0, 9, 9)))[:100], "is cut short or not XML"),
    (xml(TRAIN[1][0], (FISH, (0, 0, 9, 9))), f"is of another picture, {TRAIN[1][0]}"),
    (b"<!DOCTYPE a [<!ENTITY b 'c'>]><annotation/>", "defines a document type or entities"),
]


@pytest.mark.parametrize(("data", "why"), BAD)
def test_what_cannot_be_used_is_a_line_and_the_rest_counts(prepared, archives, caplog, data, why):
    name, other = TRAIN[0][0], TRAIN[2][0]
    good = xml(other, (FISH, (5, 0, 9, 9)))
    rewrite(archives, "train", {f"{name}.xml": data, f"{other}.xml": good})
    add(archives, prepared)
    assert starts(opened(prepared).train) == [[5]]
    (line,) = refused(caplog)
    assert line.startswith(f"not used: ILSVRC2012_bbox_train_v2.tar.gz, {name}.xml: ")
    assert why in line


def test_annotations_of_other_images_are_named_and_counted(prepared, archives, caplog):
    files = {f"{FISH}_{number}.xml": xml("%s") for number in range(100, 130)}
    name = TRAIN[0][0]
    rewrite(archives, "train", files | {f"{name}.xml": xml(name, (FISH, (5, 0, 9, 9)))})
    add(archives, prepared)
    lines = refused(caplog)
    assert len(lines) == 21
    assert f"{FISH}_100.xml: imagenet2012/5.1.0 has no such image in train" in lines[0]
    assert lines[-1] == "not used: and 10 more"


def test_a_set_with_smaller_images_keeps_its_boxes(prepared, archives, caplog):
    small = prepared.parents[1] / "imagenet2012_s20" / "5.1.0"
    resize.write_resized(prepared, small, shorter=20)
    add(archives, small)
    assert starts(opened(small).train) == [[number] for number in range(10) if number != 3]
    assert not refused(caplog)


# What the user can mend.


def fails(archives, prepared, *words):
    with pytest.raises(UserError) as error:
        add(archives, prepared)
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    assert not list(prepared.glob("boxes_*"))
    assert not list(prepared.glob(".*"))


def test_an_archive_may_be_missing_but_not_both(prepared, archives):
    (archives / imagenet_boxes.ARCHIVES["train"]).unlink()
    first, second = add(archives, prepared)
    assert first.startswith(f"train: nothing is done, there is no {archives}/ILSVRC2012_bbox_train")
    assert second.startswith("validation: 4 of 4 images")
    with pytest.raises(UserError) as error:
        opened(prepared)
    assert "has no boxes for train: there is no boxes_train.npz; deepconv data" in str(error.value)
    (archives / imagenet_boxes.ARCHIVES["validation"]).unlink()
    prepared_boxes.path_of(prepared, "validation").unlink()
    fails(archives, prepared, str(archives), *imagenet_boxes.ARCHIVES.values())


@pytest.mark.parametrize("part", [0, 0.3, 0.6, 0.99])
def test_an_archive_that_is_cut_short_is_refused(prepared, archives, part):
    path = archives / imagenet_boxes.ARCHIVES["train"]
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    fails(archives, prepared, str(path), "truncated or not a tar file")


def test_an_archive_that_is_damaged_is_refused(prepared, archives):
    path = archives / imagenet_boxes.ARCHIVES["train"]
    data = bytearray(path.read_bytes())
    data[-6] ^= 1  # the checksum
    path.write_bytes(data)
    fails(archives, prepared, "truncated or not a tar file")
    path.write_bytes(gzip.compress(b"no archive" * 100))
    fails(archives, prepared, "truncated or not a tar file")


def test_an_archive_need_not_be_compressed(prepared, archives):
    path = archives / imagenet_boxes.ARCHIVES["train"]
    path.write_bytes(gzip.decompress(path.read_bytes()))
    add(archives, prepared)
    assert len(opened(prepared).train) == 9


def test_archives_of_other_images_are_refused(prepared, archives):
    rewrite(archives, "train", {f"{FISH}_99.xml": xml(f"{FISH}_99")})
    fails(archives, prepared, "has no boxes of the images of imagenet2012/5.1.0 in train")


def test_a_set_without_names_is_refused(archives, tmp_path, encode):
    features = tfds.features.FeaturesDict({name: FEATURES[name] for name in ("image", "label")})
    folder = tmp_path / "sets" / "cats" / "1.0.0"
    plan = shards.Plan("cats", features, {"train": [shards.Shard(0, lambda: iter(()))]}, {}, "", "")
    shards.write(plan, folder, threads=1)
    fails(archives, folder, "has no feature 'file_name'")


def test_boxes_of_other_records_are_refused(prepared, archives, tmp_path):
    add(archives, prepared)
    info = tfds.builder_from_directory(prepared).info
    file = prepared_boxes.path_of(prepared, "train")
    with np.load(file) as content:
        stored = dict(content)
    stored["records"] = np.array("imagenet2012/5.1.0 train: 9 images, 1 bytes")
    np.savez(file, **stored)
    with pytest.raises(UserError, match="belongs to other records"):
        opened(prepared)
    for damage in (b"", b"no file of arrays", file.read_bytes()[:300]):
        file.write_bytes(damage)
        with pytest.raises(UserError, match=r"boxes_train\.npz is damaged .*; make it again"):
            opened(prepared)
    with pytest.raises(ValueError, match="boxes of 1 records"):
        prepared_boxes.store(info, prepared, "train", Boxes.of([[]]))


@pytest.mark.slow
def test_the_command(prepared, archives):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "deepconv", "data", "imagenet-boxes", *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    where = f"--data_dir={prepared.parents[1]}"
    process = run(f"--boxes={archives}", where)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[0].startswith("train: 9 of 10 images have 9 boxes")
    assert len(opened(prepared).train) == 9
    process = run(f"--boxes={archives}/nowhere", where)
    assert process.returncode == 2
    assert process.stderr.strip().splitlines()[-1].startswith("deepconv: ")
    assert "Traceback" not in process.stderr
