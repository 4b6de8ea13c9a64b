"""Smaller images, everything else as it was, and what that does to the pixels."""

import io
import json

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from deepconv.commands import command_line
from deepconv.commands.data import resize as command
from deepconv.data import decode
from deepconv.data.pipeline import Geometry
from deepconv.data.prepare import resize, shards
from deepconv.data.sources import datasets
from deepconv.exceptions import UserError

FEATURES = tfds.features.FeaturesDict(
    {
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
        "label": tfds.features.ClassLabel(names=["a", "b"]),
        "box": tfds.features.BBoxFeature(),
        "caption": tfds.features.Text(),
    }
)
SIZES = ((40, 60), (90, 61), (41, 200), (30, 30), (64, 64), (120, 41), (41, 40))


def smooth(height, width, seed=0):
    """Return pixels without the detail that JPEG loses."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = PIL.Image.fromarray(small).resize((width, height), PIL.Image.Resampling.BICUBIC)
    return np.asarray(image)


@pytest.fixture(scope="module")
def examples(encode, truncated):
    images = [encode(smooth(*size, seed), quality=95) for seed, size in enumerate(SIZES)]
    images += [encode(smooth(80, 50), "PNG"), truncated, b"no image"]
    return [
        {
            "image": image,
            "label": number % 2,
            "box": tfds.features.BBox(0.1, 0.0, 0.3, number / 10),
            "caption": f"picture {number}",
        }
        for number, image in enumerate(images)
    ]


def prepare(folder, examples, name="pictures", features=FEATURES):
    def shard(part):
        return shards.Shard(
            len(part), lambda: (shards.serialize(features, example) for example in part)
        )

    splits = {"train": [shard(examples[:4]), shard(examples[4:8])], "test": [shard(examples[8:])]}
    plan = shards.Plan(name, features, splits, {"made": "up"}, "", "")
    shards.write(plan, folder / name / "1.0.3")
    return folder / name / "1.0.3"


def run(data_dir, **flags):
    arguments = [f"--{name}={value}" for name, value in flags.items()]
    command.main(
        *command_line.parse(command, ["--name=pictures", f"--data_dir={data_dir}", *arguments])
    )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory, examples):
    data_dir = tmp_path_factory.mktemp("sets")
    prepare(data_dir, examples)
    run(data_dir, shorter=40, quality=95, measure=0)
    return data_dir


def opened(data_dir, name):
    dataset = datasets.open_dataset(name, data_dir=str(data_dir), eval_split="test")
    return [*dataset.train, *dataset.evaluation]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# One image.


@pytest.mark.parametrize("size", [(90, 61), (61, 90), (41, 200), (41, 41)])
def test_a_larger_image_becomes_a_jpeg_of_the_size_that_training_would_use(encode, size):
    smaller = PIL.Image.open(io.BytesIO(resize.shrink(encode(smooth(*size)), 40)))
    assert (smaller.height, smaller.width) == decode.rescaled_size(*size, 40)
    assert min(smaller.size) == 40
    assert (smaller.format, smaller.mode) == ("JPEG", "RGB")


@pytest.mark.parametrize("size", [(40, 90), (90, 40), (40, 40), (5, 300)])
def test_an_image_that_is_small_enough_is_not_touched(encode, size):
    data = encode(smooth(*size), quality=80)
    assert resize.shrink(data, 40) is data


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_kind_of_picture_is_shrunk(kind, channels):
    image = PIL.Image.fromarray(smooth(90, 61))
    mode = {1: "L", 3: "RGB", 4: "CMYK" if kind == "JPEG" else "RGBA"}[channels]
    file = io.BytesIO()
    image.convert(mode).save(file, kind)
    smaller = decode.decode(resize.shrink(file.getvalue(), 40))
    assert smaller.size == (40, 59)
    expected = decode.decode(file.getvalue()).resize((40, 59), PIL.Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(smaller, int) - np.asarray(expected, int)).mean() < 2


def test_what_cannot_be_read_is_not_touched(truncated):
    for data in (truncated, b"", b"no image"):
        assert resize.shrink(data, 4) is data


def test_the_pixels_are_those_of_training_but_for_jpeg(encode):
    data = encode(np.random.default_rng(0).integers(0, 256, (90, 61, 3), dtype=np.uint8), "PNG")
    crop = Geometry(crop=40, scale=(40, 40)).central(90, 61)
    expected = decode.resample(decode.decode(data), crop).astype(int)
    differences = [
        np.abs(
            decode.resample(decode.decode(resize.shrink(data, 40, quality)), crop) - expected
        ).mean()
        for quality in (50, 90, 100)
    ]
    assert differences[0] > differences[1] > differences[2]
    assert differences[2] < 1


# A set.


def test_the_smaller_set_opens_by_its_name_and_keeps_all_but_the_images(data_dir, examples):
    records = opened(data_dir, "pictures_s40")
    assert len(records) == len(examples)
    for record, example, before in zip(
        records, examples, opened(data_dir, "pictures"), strict=True
    ):
        assert record["image"] == resize.shrink(example["image"], 40)
        assert record["label"] == before["label"]
        assert record["caption"] == before["caption"]
        np.testing.assert_array_equal(record["box"], before["box"])


def test_images_that_are_small_or_unreadable_are_the_same_bytes(data_dir, examples):
    same = [
        record["image"] == example["image"]
        for record, example in zip(opened(data_dir, "pictures_s40"), examples, strict=True)
    ]
    assert same == [True, False, False, True, False, False, True, False, True, True]


def test_splits_shards_classes_and_version_stay(data_dir):
    folder = data_dir / "pictures_s40" / "1.0.3"
    info = tfds.builder_from_directory(folder).info
    before = tfds.builder_from_directory(data_dir / "pictures" / "1.0.3").info
    assert {name: split.shard_lengths for name, split in info.splits.items()} == {
        name: split.shard_lengths for name, split in before.splits.items()
    }
    assert info.features["label"].names == before.features["label"].names
    assert "at most 40" in info.description


def test_interrupted_is_uninterrupted(data_dir, examples, tmp_path, monkeypatch):
    source = prepare(tmp_path, examples)
    shrink, calls = resize.shrink, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) > 6:
            raise KeyboardInterrupt
        return shrink(*arguments)

    target = tmp_path / "pictures_s40" / "1.0.3"
    monkeypatch.setattr(resize, "shrink", interrupted)
    with pytest.raises(KeyboardInterrupt):
        resize.write_resized(source, target, shorter=40)
    assert datasets.prepared_directory("pictures_s40", str(tmp_path)) is None
    monkeypatch.setattr(resize, "shrink", shrink)
    resize.write_resized(source, target, shorter=40)
    assert contents(target) == contents(data_dir / "pictures_s40" / "1.0.3")


def test_a_set_of_another_quality_is_not_taken_for_this_one(data_dir):
    run(data_dir, shorter=40, quality=95, measure=0)
    with pytest.raises(UserError, match="pictures_s40.*quality=95, not 90"):
        run(data_dir, shorter=40, quality=90, measure=0)


def test_images_of_one_size_may_become_smaller(tmp_path, encode):
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(50, 50, 3)),
            "label": tfds.features.ClassLabel(num_classes=2),
        }
    )
    examples = [{"image": encode(smooth(50, 50, i), "PNG"), "label": 1} for i in range(9)]
    prepare(tmp_path, examples, features=features)
    run(tmp_path, shorter=40, quality=95, measure=0)
    source = tfds.builder_from_directory(tmp_path / "pictures_s40" / "1.0.3").as_data_source(
        "train"
    )
    assert source[0]["image"].shape == (40, 40, 3)


# What is wrong.


def test_a_set_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=f"pictures is not prepared under {tmp_path}"):
        run(tmp_path, shorter=40, quality=95, measure=0)


def test_a_damaged_shard_is_named(tmp_path, examples):
    source = prepare(tmp_path, examples)
    path = source / "pictures-train.array_record-00001-of-00002"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match=f"{path} is damaged"):
        resize.write_resized(source, tmp_path / "pictures_s40" / "1.0.3", shorter=40)
    assert datasets.prepared_directory("pictures_s40", str(tmp_path)) is None


def test_a_set_without_images(tmp_path):
    features = tfds.features.FeaturesDict({"caption": tfds.features.Text()})
    source = prepare(tmp_path, [{"caption": "x"}] * 9, features=features)
    with pytest.raises(UserError, match="no feature 'image'"):
        resize.write_resized(source, tmp_path / "pictures_s40" / "1.0.3", shorter=40)


# Measuring.


def test_images_that_stay_differ_by_nothing(encode, truncated):
    images = [encode(smooth(300, 400)), truncated, encode(smooth(260, 260))]
    result = resize.measure(images, (256, 512), shorter=300)
    assert (result.images, result.shrunk) == (2, 0)
    assert (result.difference, result.difference_of_shrunk, result.worst) == (0, 0, 0)
    assert result.bytes_before == result.bytes_after


def test_the_difference_is_that_of_the_crops(encode):
    rng = np.random.default_rng(0)
    large, small = (
        encode(rng.integers(0, 256, (side, side + 20, 3), dtype=np.uint8)) for side in (300, 250)
    )
    result = resize.measure([small, large], (256, 256), shorter=256, quality=60)
    crop = Geometry(crop=224, scale=(256, 256)).random(300, 320, np.random.default_rng(1))
    smaller = resize.shrink(large, 256, 60)
    before, after = (
        decode.resample(decode.decode(data), crop).astype(float) for data in (large, smaller)
    )
    expected = np.abs(before - after).mean()
    assert (result.images, result.shrunk) == (2, 1)
    assert result.difference_of_shrunk == result.worst == pytest.approx(expected)
    assert result.difference == pytest.approx(expected / 2)
    assert result.bytes_after == (len(small) + len(smaller)) / 2


def test_measuring_writes_nothing(data_dir, capsys):
    before = set(data_dir.rglob("*"))
    run(data_dir, shorter=41, quality=95, measure=5)
    assert set(data_dir.rglob("*")) == before
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("S in [256, 512]: crops differ by ")
    assert "on average over 5 images" in lines[0]


def test_what_is_measured_is_also_json(data_dir, tmp_path, capsys):
    file = tmp_path / "crops.json"
    run(data_dir, shorter=41, quality=95, measure=5, json=file)
    written = json.loads(file.read_text())
    assert (written["name"], written["shorter"], written["quality"]) == ("pictures", 41, 95)
    found = [resize.Distortion(**{**each, "scale": (*each["scale"],)}) for each in written["crops"]]
    assert [*map(str, found)] == capsys.readouterr().out.splitlines()
    with pytest.raises(UserError, match="needs --measure=N"):
        run(data_dir, shorter=41, json=file)


def test_nothing_to_measure():
    with pytest.raises(UserError, match="none of the images"):
        resize.measure([b"no image"], (256, 256), shorter=256)
