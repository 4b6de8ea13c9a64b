"""The set of 2012 from small archives of the true layout, against tfds' own order and labels."""

import contextlib
import io
import subprocess
import sys
import tarfile
import types

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from deepconv.data.prepare import imagenet, shards
from deepconv.data.sources import datasets
from deepconv.exceptions import UserError
from tests.faults.processes import PATIENCE_SECONDS

SYNSETS = ("n01440764", "n02105855", "n13037406")
VALIDATION = ("n13037406", "n01440764", "n01440764", "n02105855", "n13037406")
EDITION = imagenet.Edition(SYNSETS, 11, VALIDATION)
SHARDS = {"train": 3, "validation": 2}
CMYK, PNG, GRAY = "n13037406_4650.JPEG", "n02105855_2933.JPEG", "n01440764_3.JPEG"


@pytest.fixture(scope="module")
def files(encode):
    """Return the bytes of each training and validation image by file name."""
    rng = np.random.default_rng(0)

    def picture(kind="JPEG", channels=3):
        pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        if channels == 4:
            return cmyk(PIL.Image.fromarray(pixels))
        return encode(pixels if channels == 3 else pixels[:, :, 0], kind)

    def cmyk(image):
        file = io.BytesIO()
        image.convert("CMYK").save(file, "JPEG")
        return file.getvalue()

    train = {f"{synset}_{i}.JPEG": picture() for synset in SYNSETS for i in range(3)}
    train |= {CMYK: picture(channels=4), PNG: picture("PNG"), GRAY: picture(channels=1)}
    del train["n13037406_0.JPEG"]
    validation = {f"ILSVRC2012_val_{i + 1:08d}.JPEG": picture() for i in range(5)}
    return {"train": train, "validation": validation}


def add(archive, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def tar(files):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in files.items():
            add(archive, name, data)
    return file.getvalue()


def lay_out(folder, train, validation, synsets=SYNSETS):
    """Write the two archives in their true layout."""
    folder.mkdir(exist_ok=True)
    classes = {
        f"{synset}.tar": tar({n: data for n, data in train.items() if n.startswith(synset)})
        for synset in synsets
    }
    (folder / "ILSVRC2012_img_train.tar").write_bytes(tar(classes))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tar(validation))
    return folder


@pytest.fixture(scope="module")
def tars(tmp_path_factory, files):
    return lay_out(tmp_path_factory.mktemp("archives"), **files)


def prepare(tars, data_dir, **options):
    return imagenet.prepare(
        tars, data_dir, **({"edition": EDITION, "shard_counts": SHARDS} | options)
    )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory, tars):
    data_dir = tmp_path_factory.mktemp("sets")
    prepare(tars, data_dir)
    return data_dir


@pytest.fixture(scope="module")
def dataset(data_dir):
    return datasets.open_dataset("imagenet2012", data_dir=str(data_dir))


def by_name(source):
    return {record["file_name"].decode(): record for record in source}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# What comes out.


def test_it_opens_under_its_name_with_its_splits(dataset, data_dir):
    assert dataset.directory == data_dir / "imagenet2012" / "5.1.0"
    assert dataset.class_names == SYNSETS
    assert (len(dataset.train), len(dataset.evaluation)) == (11, 5)
    assert tfds.builder_from_directory(dataset.directory).info.splits["train"].num_shards == 3


def test_jpegs_are_copied_byte_for_byte(dataset, files):
    records = by_name(dataset.train) | by_name(dataset.evaluation)
    originals = files["train"] | files["validation"]
    assert records.keys() == originals.keys()
    for name in originals.keys() - {CMYK, PNG}:
        assert records[name]["image"] == originals[name]


@pytest.mark.parametrize("name", [CMYK, PNG])
def test_what_is_not_rgb_or_gray_jpeg_becomes_rgb_jpeg(dataset, files, name):
    image = PIL.Image.open(io.BytesIO(by_name(dataset.train)[name]["image"]))
    assert (image.format, image.mode) == ("JPEG", "RGB")
    original = PIL.Image.open(io.BytesIO(files["train"][name])).convert("RGB")
    difference = np.abs(np.asarray(image, int) - np.asarray(original, int))
    assert difference.mean() < 1


def test_training_labels_follow_the_sorted_synsets(dataset):
    for name, record in by_name(dataset.train).items():
        assert record["label"] == SYNSETS.index(name[:9])


def test_validation_labels_follow_the_numbers_of_the_files(dataset):
    for name, record in by_name(dataset.evaluation).items():
        assert SYNSETS[record["label"]] == VALIDATION[int(name[15:23]) - 1]


def test_records_stand_in_the_order_that_tfds_gives_them(dataset, tmp_path, files):
    names = tfds.features.FeaturesDict({"file_name": tfds.features.Text()})

    with tfds.core.registered.skip_registration():

        class Builder(tfds.core.GeneratorBasedBuilder):
            name = "imagenet2012"
            VERSION = tfds.core.Version("5.1.0")

            def _info(self):
                return tfds.core.DatasetInfo(builder=self, features=names)

            def _split_generators(self, _):
                return {
                    split: ((name, {"file_name": name}) for name in files[split]) for split in files
                }

            def _generate_examples(self):
                raise NotImplementedError

    builder = Builder(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    for split, source in (("train", dataset.train), ("validation", dataset.evaluation)):
        of_tfds = [record["file_name"] for record in builder.as_data_source(split)]
        assert [record["file_name"] for record in source] == of_tfds


def test_features_are_those_of_tfds(dataset):
    features = tfds.builder_from_directory(dataset.directory).info.features
    assert set(features) == {"file_name", "image", "label"}
    assert features["image"].encoding_format == "jpeg"
    assert features["image"].shape == (None, None, 3)


def test_the_published_set_is_the_one_of_the_challenge():
    edition = imagenet.published()
    assert len(edition.synsets) == 1000
    assert list(edition.synsets) == sorted(edition.synsets)
    assert edition.counts == {"train": 1_281_167, "validation": 50_000}
    assert edition.label("n01440764_10026.JPEG") == 0
    assert edition.label("n15075141_54.JPEG") == 999
    # A sea snake, an alp, a Shetland sheepdog: the ground truth as many have printed it.
    first = [edition.label(f"ILSVRC2012_val_{number:08d}.JPEG") for number in (1, 2, 3, 4, 5)]
    assert first == [65, 970, 230, 809, 516]
    assert edition.label("n99999999_1.JPEG") is None
    assert set(edition.validation_labels) == set(edition.synsets)


def test_all_shards_stay_below_the_files_that_a_process_may_open():
    assert sum(imagenet.SHARDS.values()) < 512


# Interruption.


@pytest.mark.parametrize("after", [0, 7, 15])
def test_interrupted_is_uninterrupted(tmp_path, monkeypatch, tars, data_dir, after):
    serialize, calls = shards.serialize, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) > after:
            raise KeyboardInterrupt
        return serialize(*arguments)

    monkeypatch.setattr(shards, "serialize", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(tars, tmp_path)
    assert datasets.prepared_directory("imagenet2012", str(tmp_path)) is None
    monkeypatch.setattr(shards, "serialize", serialize)
    folder = prepare(tars, tmp_path)
    assert contents(folder) == contents(data_dir / "imagenet2012" / "5.1.0")


def test_other_archives_are_not_mixed_in(tmp_path, monkeypatch, tars, files):
    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(shards, "serialize", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        prepare(tars, tmp_path / "sets")
    others = dict(files["validation"])
    others["ILSVRC2012_val_00000001.JPEG"] += bytes(20_000)
    other = lay_out(tmp_path / "tars", files["train"], others)
    with pytest.raises(UserError, match="ILSVRC2012_img_val.tar="):
        prepare(other, tmp_path / "sets")


def test_a_prepared_set_is_left_alone_and_needs_no_archives(tmp_path, data_dir):
    before = contents(data_dir / "imagenet2012" / "5.1.0")
    assert prepare(tmp_path / "nowhere", data_dir) == data_dir / "imagenet2012" / "5.1.0"
    assert contents(data_dir / "imagenet2012" / "5.1.0") == before


# What is wrong with archives. Each is one line, and nothing is written.


def refused(tars, tmp_path, *words):
    with pytest.raises(UserError) as error:
        prepare(tars, tmp_path / "sets")
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    assert not list((tmp_path / "sets").rglob("*.array_record*"))


@pytest.mark.parametrize("missing", ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"])
def test_one_archive_is_missing(tmp_path, files, missing):
    tars = lay_out(tmp_path / "tars", **files)
    (tars / missing).unlink()
    refused(tars, tmp_path, f"{tars} does not contain {missing}; both", "image-net.org")


def test_both_archives_are_missing(tmp_path):
    refused(tmp_path, tmp_path, "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar")


@pytest.mark.parametrize("name", ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"])
def test_an_archive_is_cut_short(tmp_path, files, name):
    tars = lay_out(tmp_path / "tars", **files)
    whole = (tars / name).read_bytes()
    # The end of a tar is padding.
    for length in (0, 100, 600, 3000, len(whole) // 2, len(whole) - 10_240):
        (tars / name).write_bytes(whole[:length])
        refused(tars, tmp_path, str(tars / name))


def test_the_archive_of_a_class_is_cut_short(tmp_path, files):
    tars = lay_out(tmp_path / "tars", **files)
    classes = {
        f"{synset}.tar": tar({n: d for n, d in files["train"].items() if n.startswith(synset)})
        for synset in SYNSETS
    }
    damaged = f"{SYNSETS[0]}.tar"
    whole = classes[damaged]
    for length in (0, 600, 1500):
        classes[damaged] = whole[:length]
        (tars / "ILSVRC2012_img_train.tar").write_bytes(tar(classes))
        refused(tars, tmp_path, "ILSVRC2012_img_train.tar", damaged, "truncated")


def test_a_class_is_missing(tmp_path, files):
    tars = lay_out(tmp_path / "tars", **files, synsets=SYNSETS[:2])
    refused(tars, tmp_path, "is incomplete: 1 of 3 classes are missing, for example n13037406")


def test_a_class_is_not_of_the_set(tmp_path, files):
    tars = lay_out(tmp_path / "tars", **files, synsets=(*SYNSETS, "n99999999"))
    refused(tars, tmp_path, "not the published archive", "n99999999")


def test_an_image_is_missing(tmp_path, files):
    train = {name: data for name, data in files["train"].items() if name != CMYK}
    tars = lay_out(tmp_path / "tars", train, files["validation"])
    refused(tars, tmp_path, "ILSVRC2012_img_train.tar has 10 images", "not 11")


def test_a_validation_image_is_missing(tmp_path, files):
    validation = dict(list(files["validation"].items())[:-1])
    tars = lay_out(tmp_path / "tars", files["train"], validation)
    refused(
        tars,
        tmp_path,
        "is incomplete: 1 of 5 images are missing, for example ILSVRC2012_val_00000005.JPEG",
    )


def test_an_image_is_there_twice(tmp_path, files):
    tars = lay_out(tmp_path / "tars", **files)
    for name in ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"):
        (tars / name).unlink()
    lay_out(tars, **files)
    with tarfile.open(tars / "ILSVRC2012_img_val.tar", "a") as archive:
        add(archive, "ILSVRC2012_val_00000005.JPEG", b"again")
    refused(tars, tmp_path, "ILSVRC2012_img_val.tar has 6 images, not 5")


def test_an_image_lies_in_the_archive_of_another_class(tmp_path, files):
    tars = lay_out(tmp_path / "tars", **files)
    classes = {f"{synset}.tar": tar({f"{SYNSETS[0]}_0.JPEG": b""}) for synset in SYNSETS}
    (tars / "ILSVRC2012_img_train.tar").write_bytes(tar(classes))
    refused(tars, tmp_path, f"{SYNSETS[0]}_0.JPEG is in {SYNSETS[1]}.tar")


def test_names_and_links_that_point_outside_write_nothing_there(tmp_path, files):
    tars = lay_out(tmp_path / "tars", **files)
    renamed = {f"../../{name}": data for name, data in files["validation"].items()}
    (tars / "ILSVRC2012_img_val.tar").write_bytes(tar(renamed))
    with tarfile.open(tars / "ILSVRC2012_img_train.tar", "a") as archive:
        link = tarfile.TarInfo("n00000001.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    folder = prepare(tars, tmp_path / "sets")
    assert {path.name for path in tmp_path.iterdir()} == {"tars", "sets"}
    dataset = datasets.open_dataset("imagenet2012", data_dir=str(tmp_path / "sets"))
    assert by_name(dataset.evaluation).keys() == files["validation"].keys()
    assert folder == dataset.directory


def test_a_disk_too_small_is_said_before_the_archives_are_read(tmp_path, tars, monkeypatch):
    monkeypatch.setattr(shards.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=0))
    monkeypatch.setattr(imagenet, "train_pictures", None)
    refused(tars, tmp_path, "0.0 GB free", "--data_dir")


# One image.


@pytest.mark.parametrize("data", [b"", b"no image", b"\xff\xd8\xff\xe0 half"])
def test_what_cannot_be_read_is_copied(data):
    assert imagenet.rgb_or_gray_jpeg(data) is data


def test_a_jpeg_with_a_preview_is_a_jpeg(encode):
    pixels = np.zeros((8, 8, 3), np.uint8)
    file = io.BytesIO()
    image = PIL.Image.fromarray(pixels)
    image.save(file, "MPO", save_all=True, append_images=[image])
    assert imagenet.rgb_or_gray_jpeg(file.getvalue()) == file.getvalue()


# The command.


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "deepconv", "data", "imagenet", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@pytest.mark.slow
def test_the_command_says_in_one_line_what_is_wrong(tmp_path, tars):
    process = run(f"--tars={tars}", f"--data_dir={tmp_path}/sets")
    assert process.returncode == 2
    assert process.stderr.strip().splitlines() == [
        f"deepconv: {tars}/ILSVRC2012_img_train.tar is incomplete: 997 of 1,000 classes are "
        "missing, for example n01443537"
    ]
