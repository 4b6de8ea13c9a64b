"""The published binary layout, and what is said about files that are not the published ones."""

import hashlib
import io

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from deepconv.data.sources import cifar10
from deepconv.exceptions import UserError


def published(images, labels):
    """Lay out a file as its page describes it, byte by byte."""
    data = bytearray()
    for image, label in zip(images, labels, strict=True):
        data.append(label)
        for channel in range(3):
            for row in range(32):
                for column in range(32):
                    data.append(image[row, column, channel])
    return bytes(data)


@pytest.fixture(scope="module")
def parts():
    """Return per file: images and labels."""
    rng = np.random.default_rng(0)
    parts = {}
    for name, labels in (("one.bin", [3, 9, 0]), ("two.bin", [7, 7]), ("test_batch.bin", [5, 1])):
        parts[name] = rng.integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8), labels
    return parts


@pytest.fixture
def files(monkeypatch, tmp_path, parts):
    """Put the files where the builder looks for them, and declare them the published ones."""
    folder = tmp_path / "downloads" / "manual" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    digests = {}
    for name, (images, labels) in parts.items():
        data = published(images, labels)
        (folder / name).write_bytes(data)
        digests[name] = hashlib.md5(data).hexdigest()
    train = {name: digests[name] for name in ("one.bin", "two.bin")}
    test = {"test_batch.bin": digests["test_batch.bin"]}
    monkeypatch.setattr(cifar10, "FILES", {"train": train, "test": test})
    return folder


def prepare(data_dir):
    builder = cifar10.Cifar10(data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare()
    return builder


def test_a_record_is_a_label_and_three_planes(parts):
    images, labels = parts["one.bin"]
    read_images, read_labels = cifar10.read_batch(published(images, labels))
    np.testing.assert_array_equal(read_images, images)
    assert read_images.dtype == np.uint8
    assert read_labels.tolist() == labels


@pytest.mark.parametrize("length", [1, 3072, 3074, 2 * 3073 - 1])
def test_part_of_a_record_is_an_error(length):
    with pytest.raises(ValueError, match=f"{length} bytes .* record size, 3073"):
        cifar10.read_batch(bytes(length))


def test_the_built_set_gives_the_images_back(tmp_path, files, parts):
    builder = prepare(tmp_path)
    decoders = {"image": tfds.decode.SkipDecoding()}
    for split, names in (("train", ["one.bin", "two.bin"]), ("test", ["test_batch.bin"])):
        images = np.concatenate([parts[name][0] for name in names])
        labels = [label for name in names for label in parts[name][1]]
        source = builder.as_data_source(split, decoders=decoders)
        records = {record["id"].decode(): record for record in source}
        # tfds shuffles what it writes; the number counts through all files of a split.
        assert sorted(records) == [f"{split}_{number:05d}" for number in range(len(labels))]
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            record = records[f"{split}_{number:05d}"]
            read = np.asarray(PIL.Image.open(io.BytesIO(record["image"])))
            np.testing.assert_array_equal(read, image)
            assert record["label"] == label


def test_classes_stand_in_the_published_order(tmp_path, files):
    # As batches.meta.txt lists them.
    names = prepare(tmp_path).info.features["label"].names
    assert " ".join(names) == "airplane automobile bird cat deer dog frog horse ship truck"


def test_the_published_files_hold_sixty_thousand_images():
    assert [len(files) for files in cifar10.FILES.values()] == [5, 1]
    digests = [digest for files in cifar10.FILES.values() for digest in files.values()]
    assert len(set(digests)) == 6
    assert all(len(bytes.fromhex(digest)) == 16 for digest in digests)


def assert_one_line(error, *parts):
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_missing_file_is_named_with_what_to_do(tmp_path, files):
    (files / "two.bin").unlink()
    with pytest.raises(UserError) as error:
        prepare(tmp_path)
    assert_one_line(
        error, str(files / "two.bin"), "unpack cifar-10-binary.tar.gz", f"into {files.parent}"
    )


def test_no_files_at_all_is_said_the_same_way(tmp_path):
    with pytest.raises(UserError) as error:
        prepare(tmp_path)
    folder = tmp_path / "downloads" / "manual" / "cifar-10-batches-bin"
    assert_one_line(error, str(folder), "unpack cifar-10-binary.tar.gz")


def test_a_changed_file_is_refused(tmp_path, files):
    data = bytearray((files / "one.bin").read_bytes())
    data[100] ^= 1
    (files / "one.bin").write_bytes(data)
    with pytest.raises(UserError) as error:
        prepare(tmp_path)
    assert_one_line(error, str(files / "one.bin"), "md5")


def test_a_refused_set_is_not_taken_for_a_prepared_one(tmp_path, files):
    data = (files / "test_batch.bin").read_bytes()
    (files / "test_batch.bin").write_bytes(b"x" + data[1:])
    with pytest.raises(UserError):
        prepare(tmp_path)
    (files / "test_batch.bin").write_bytes(data)
    assert prepare(tmp_path).info.splits["test"].num_examples == 2
