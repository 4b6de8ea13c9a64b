"""The embedded data set: balanced, varied, and telling nothing by color or area."""

import collections
import io

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from deepconv.data.sources import shapes
from deepconv.data.sources.shapes import CLASSES


def decoded(data):
    return np.asarray(PIL.Image.open(io.BytesIO(data)))


@pytest.fixture(scope="module")
def sources(shapes_root):
    builder = shapes.Shapes(data_dir=shapes_root, file_format="array_record")
    decoders = {"image": tfds.decode.SkipDecoding()}
    return {split: builder.as_data_source(split, decoders=decoders) for split in shapes.SPLITS}


@pytest.fixture(scope="module")
def table(sources):
    """Return per split and example: label, size, box, mean and covariance of RGB."""
    columns = {}
    for split, source in sources.items():
        rows = collections.defaultdict(list)
        for record in source:
            pixels = decoded(record["image"])
            rows["label"].append(record["label"])
            rows["size"].append(pixels.shape[:2])
            rows["box"].append(record["bbox"])
            flat = pixels.reshape(-1, 3).astype(np.float64)
            covariance = np.cov(flat, rowvar=False)[np.triu_indices(3)]
            rows["colors"].append([*flat.mean(axis=0), *covariance])
        columns[split] = {name: np.array(values) for name, values in rows.items()}
    return columns


# The data set as tfds builds it.


def test_the_built_set_has_exactly_the_declared_counts(sources):
    assert {split: len(source) for split, source in sources.items()} == {
        "train": 3600,
        "validation": 600,
    }


def test_records_are_the_examples_byte_for_byte_and_in_order(sources):
    # The fixture drew them in one run from the first on; here each is drawn alone.
    for split, index in [("train", 0), ("train", 3599), ("validation", 0), ("validation", 17)]:
        record, expected = sources[split][index], shapes.example(split, index)
        assert isinstance(record["image"], bytes)
        assert record["image"] == expected["image"]
        assert record["label"] == expected["label"]
        assert record["file_name"] == expected["file_name"].encode()
        np.testing.assert_allclose(record["bbox"], expected["bbox"], atol=1e-6)


def test_no_image_occurs_twice(sources):
    images = {record["image"] for source in sources.values() for record in source}
    assert len(images) == 4200


def test_examples_do_not_depend_on_the_global_generator():
    np.random.seed(1)  # noqa: NPY002
    first = shapes.example("train", 7)
    np.random.seed(2)  # noqa: NPY002
    assert shapes.example("train", 7) == first


# What the images are like.


def test_classes_are_balanced(table):
    for split, each in (("train", 300), ("validation", 50)):
        assert np.bincount(table[split]["label"]).tolist() == [each] * 12


def test_sizes_and_aspects_vary(table):
    size = np.concatenate([table[split]["size"] for split in table])
    shorter, longer = size.min(axis=1), size.max(axis=1)
    assert set(shorter) == set(range(72, 113))
    ratio = longer / shorter
    assert ratio.max() <= 2 + 0.5 / 72
    # 4 percent of 4200 are 168, with a standard deviation of 12.7.
    assert 168 - 64 < np.sum(ratio > 4 / 3 + 0.5 / 72) <= np.sum(ratio > 4 / 3) + 1 < 168 + 64
    portrait = np.mean(size[:, 0] > size[:, 1])
    assert 0.45 < portrait < 0.55


def test_figures_lie_inside_the_central_square(table):
    for columns in table.values():
        size, box = columns["size"], columns["box"]
        margin = (size - size.min(axis=1, keepdims=True)) / 2
        # A pixel that the figure only touches counts as a whole.
        assert np.all(box[:, :2] * size >= margin - 1)
        assert np.all(box[:, 2:] * size <= size - margin + 1)


@pytest.mark.parametrize("label", range(12), ids=CLASSES)
def test_area_has_one_distribution_whatever_the_class(label):
    areas = []
    for seed in range(150):
        rng = np.random.default_rng((label, seed))
        size = shapes.draw_size(rng)
        areas.append(shapes.draw_mask(label, size, rng).sum() / min(size) ** 2)
    # Uniform in [0.12, 0.22]: mean 0.17, standard deviation 0.0289; up to the raster's grain.
    assert min(areas) > 0.118
    assert max(areas) < 0.224
    assert np.mean(areas) == pytest.approx(0.17, abs=4 * 0.0289 / np.sqrt(150))
    assert np.std(areas) == pytest.approx(0.0289, rel=0.15)


def accuracy_of_linear_probe(train, validation):
    """Fit ridge least squares on one-hot labels, and return the accuracy on validation."""
    mean, std = train["colors"].mean(axis=0), train["colors"].std(axis=0)

    def standardized(columns):
        features = (columns["colors"] - mean) / std
        return np.concatenate([features, np.ones((len(features), 1))], axis=1)

    x = standardized(train)
    weights = np.linalg.solve(x.T @ x + np.eye(10), x.T @ np.eye(12)[train["label"]])
    predicted = (standardized(validation) @ weights).argmax(axis=1)
    return np.mean(predicted == validation["label"])


def test_colors_do_not_tell_the_class(table):
    assert accuracy_of_linear_probe(table["train"], table["validation"]) < 1 / 12 + 0.05


def test_the_probe_would_see_a_hint_in_the_colors(table):
    # Mean reds 20 grey levels apart from class to class, against a spread of 49 within each.
    planted = {}
    for split, columns in table.items():
        colors = columns["colors"].copy()
        colors[:, 0] += 20 * columns["label"]
        planted[split] = columns | {"colors": colors}
    assert accuracy_of_linear_probe(planted["train"], planted["validation"]) > 1 / 12 + 0.05


# The boxes.


@pytest.mark.parametrize("index", range(24))
def test_box_is_the_tight_one_of_the_mask(index):
    rng = np.random.default_rng((shapes.SEED, 0, index))
    size = shapes.draw_size(rng)
    covered = np.argwhere(shapes.draw_mask(index % 12, size, rng) > 0)
    expected = [*(covered.min(axis=0) / size), *((covered.max(axis=0) + 1) / size)]
    np.testing.assert_allclose(shapes.example("train", index)["bbox"], expected)


def test_box_of_a_mask_worked_by_hand():
    mask = np.zeros((10, 20), np.float32)
    mask[3, 5] = mask[6, 11] = 0.1
    assert shapes.bounding_box(mask) == (0.3, 0.25, 0.7, 0.6)


@pytest.mark.parametrize("index", range(24))
def test_pixels_outside_the_box_are_background_and_its_edges_are_not(index):
    # From the JPEG alone: the background is a plane plus noise of at most 6 grey levels.
    example = shapes.example("validation", index)
    pixels = decoded(example["image"]).astype(np.float64)
    height, width = pixels.shape[:2]
    top, left, bottom, right = np.rint(np.multiply(example["bbox"], [height, width] * 2)).astype(
        int
    )
    y, x = np.indices((height, width))
    outside = (y < top - 1) | (y > bottom) | (x < left - 1) | (x > right)
    plane = np.stack([y, x, np.ones_like(x)], axis=-1).astype(np.float64)
    weights, *_ = np.linalg.lstsq(plane[outside], pixels[outside], rcond=None)
    residual = pixels - plane @ weights
    assert np.sqrt(np.mean(residual[outside] ** 2)) < 8
    contrast = np.linalg.norm(residual, axis=-1)[top:bottom, left:right]
    edges = contrast[:3], contrast[-3:], contrast[:, :3], contrast[:, -3:]
    assert min(edge.max() for edge in edges) > 60
