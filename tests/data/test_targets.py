"""The target of a crop against the mask of the object, cut and mirrored like the image."""

import numpy as np
import pytest

from deepconv import boxes
from deepconv.data import pipeline, targets
from deepconv.data.decode import Crop
from deepconv.data.pipeline import Geometry

SIZE = (60, 90)  # of every image here


@pytest.fixture(scope="module")
def source(encode):
    """Return images of noise, each with one box, which is a small one in a corner."""
    rng = np.random.default_rng(0)
    corners = [(0.0, 0.0), (0.75, 0.0), (0.0, 0.75), (0.75, 0.75)]
    return [
        {
            "image": encode(rng.integers(0, 256, (*SIZE, 3), np.uint8)),
            "label": index % 3,
            "boxes": np.array([[x, y, x + 0.25, y + 0.25]], np.float32),
        }
        for index, (x, y) in enumerate(corners * 4)
    ]


def record(*found, label=1):
    return {"label": label, "boxes": np.array(found, np.float32)}


def test_the_box_is_that_of_the_object_in_the_crop():
    # The object is 40 x 20 pixels at (30, 10) of 120 x 100; the crop begins at (20, 0).
    window = Crop(height=100, width=120, top=0, left=20, rows=50, columns=50)
    target = targets.BOX.of(record((30 / 120, 10 / 100, 70 / 120, 30 / 100)), window)
    expected = [30 / 50, 20 / 50, 40 / 50, 20 / 50]
    # The record's four fractions and the target's four are rounded to float32 once each.
    np.testing.assert_allclose(target["box"], expected, rtol=0, atol=8 * 2.0**-24)
    assert target["box"].dtype == np.float32
    assert target["label"] == 1
    assert target["label"].dtype == np.int32


def test_a_box_that_the_crop_cuts_keeps_its_size():
    window = Crop(height=100, width=100, top=0, left=50, rows=50, columns=50)
    target = targets.BOX.of(record((0.4, 0.0, 0.8, 0.5)), window)
    np.testing.assert_allclose(target["box"], [0.2, 0.5, 0.8, 1.0], atol=8 * 2.0**-24)
    assert targets.BOX.shown(record((0.4, 0.0, 0.8, 0.5)), window) == pytest.approx(0.75)


def test_of_several_objects_the_one_shown_most_is_meant():
    window = Crop(height=100, width=100, top=0, left=0, rows=50, columns=50)
    several = record((0.6, 0.6, 1.0, 1.0), (0.1, 0.1, 0.2, 0.2), (0.3, 0.0, 0.7, 0.5))
    target = targets.BOX.of(several, window)
    np.testing.assert_allclose(boxes.decode(target["box"]), [0.6, 0.0, 1.4, 1.0], atol=8 * 2.0**-24)
    assert (target["boxes"].any(axis=1)).sum() == 3
    assert targets.BOX.shown(several, window) == pytest.approx(0.5, abs=1e-6)


def test_of_more_boxes_than_fit_those_shown_most_are_kept():
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 0.5, (targets.MOST_BOXES + 9, 2))
    many = record(*np.concatenate([low, low + rng.uniform(0.1, 0.5, low.shape)], axis=1))
    window = Crop(height=100, width=100, top=0, left=0, rows=100, columns=100)
    kept = targets.BOX.of(many, window)["boxes"]
    assert kept.shape == (targets.MOST_BOXES, 4)
    areas = sorted(boxes.area(many["boxes"]), reverse=True)[: targets.MOST_BOXES]
    np.testing.assert_allclose(boxes.area(kept), areas, atol=1e-6)


def batches_of(source, geometry, target, **options):
    stream = pipeline.train_batches(
        source, geometry, batch_size=8, seed=0, target=target, **options
    )
    return [stream[number] for number in range(6)]


def test_crops_that_show_too_little_are_drawn_again(source):
    geometry = Geometry(crop=32, scale=(36, 44))
    free = [
        targets.BOX.shown(source[record], geometry.random(*SIZE, np.random.default_rng(record)))
        for record in range(16)
    ]
    assert np.mean(np.array(free) < pipeline.MIN_SHOWN) > 0.3  # many crops miss a corner
    for batch in batches_of(source, geometry, targets.BOX):
        inside = boxes.decode(batch["device"]["target"]["box"].astype(np.float64))
        shown = boxes.intersection(inside, np.array([0.0, 0, 1, 1])) / boxes.area(inside)
        assert shown.min() >= pipeline.MIN_SHOWN - 1e-5


def test_the_best_draw_is_taken_where_no_crop_shows_enough():
    # Half of a box as large as the image is never in a crop of a quarter of it.
    geometry = Geometry(crop=20, scale=(40, 40))
    whole = record((0.0, 0.0, 1.0, 0.9))

    def shown(window):
        return targets.BOX.shown(whole, window)

    rng = np.random.default_rng(0)
    window = geometry.random(40, 40, rng, shown)
    rng = np.random.default_rng(0)
    draws = [geometry.random(40, 40, rng) for _ in range(pipeline.MAX_DRAWS)]
    assert window == max(draws, key=shown)  # max returns the first of equal ones
    assert min(map(shown, draws)) < shown(window) < pipeline.MIN_SHOWN


def test_a_target_depends_on_seed_and_position_alone(source):
    geometry = Geometry(crop=24, scale=(40, 60))
    whole = batches_of(source, geometry, targets.BOX)
    halves = [
        batches_of(source, geometry, targets.BOX, process_index=index, process_count=2)
        for index in range(2)
    ]
    for number, batch in enumerate(whole):
        for index in range(2):
            part = halves[index][number]["device"]
            np.testing.assert_array_equal(part["position"], batch["device"]["position"][index::2])
            for name, values in batch["device"]["target"].items():
                np.testing.assert_array_equal(part["target"][name], values[index::2])


def test_classes_are_cropped_as_ever(source):
    geometry = Geometry(crop=24, scale=(40, 60))
    for seed in range(20):
        window = geometry.random(*SIZE, np.random.default_rng(seed), lambda _: 1.0)
        rng = np.random.default_rng(seed)
        assert window == geometry.random(*SIZE, rng)
        assert rng.integers(2**31) != np.random.default_rng(seed).integers(2**31)
    batch = batches_of(source, geometry, targets.CLASS)[0]["device"]
    assert batch["target"].keys() == {"label"}


def test_evaluation_has_the_target_of_the_central_crop(source):
    geometry = Geometry(crop=40, scale=(60, 60))
    batch = pipeline.eval_batches(source, geometry, batch_size=32, target=targets.BOX)[0]
    window = geometry.central(*SIZE)
    for row, one in enumerate(source):
        expected = targets.BOX.of(one, window)
        for name, value in expected.items():
            np.testing.assert_array_equal(batch["device"]["target"][name][row], value)
    assert not batch["device"]["mask"][len(source) :].any()
