"""Where crops fall, and that the stream depends on (seed, position) alone."""

import itertools
import multiprocessing
import os
import signal

import numpy as np
import PIL.Image
import pytest

from deepconv.data import decode, pipeline
from deepconv.data.pipeline import Geometry
from deepconv.exceptions import UserError

SIZES = [(256, 256), (375, 500), (500, 375), (333, 500), (64, 1000), (30, 20)]
GEOMETRY = Geometry(crop=16, scale=(20, 28))


@pytest.fixture(scope="module")
def source(encode):
    """Return 11 records of noise, in several sizes; label k is record k's."""
    rng = np.random.default_rng(0)
    sizes = itertools.cycle([(24, 40), (33, 25), (30, 30)])
    return [
        {"image": encode(rng.integers(0, 256, (*next(sizes), 3), dtype=np.uint8)), "label": number}
        for number in range(11)
    ]


def gray(encode, number, unreadable=()):
    """Return records of one gray each, so that a crop shows which record it came from."""
    images = [encode(np.full((24, 30), 20 * k, np.uint8)) for k in range(number)]
    return [
        {"image": images[k][:100] if k in unreadable else images[k], "label": k}
        for k in range(number)
    ]


def train(source, batch_size=4, seed=0, **options):
    batches = pipeline.train_batches(source, GEOMETRY, batch_size=batch_size, seed=seed, **options)
    return batches.map(flat)


def flat(batch):
    """Lay the two parts of a batch, and its target, side by side."""
    device = {name: value for name, value in batch["device"].items() if name != "target"}
    return device | batch["device"]["target"] | batch["host"]


def column(batches, name, count):
    return np.concatenate([batches[number][name] for number in range(count)])


def assert_equal(batch, other):
    assert batch.keys() == other.keys()
    for name in batch:
        assert batch[name].dtype == other[name].dtype
        np.testing.assert_array_equal(batch[name], other[name])


# Where crops fall.


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_random_crops_stay_inside(height, width, square):
    geometry = Geometry(crop=224, scale=(224, 260), square=square)
    rng = np.random.default_rng(0)
    for _ in range(300):
        window = geometry.random(height, width, rng)
        shorter = min(window.height, window.width)
        assert (window.rows, window.columns) == (224, 224)
        assert 224 <= shorter <= 260
        assert window[:2] == decode.rescaled_size(height, width, shorter)
        first = np.zeros(2, int)
        last = np.array(window[:2])
        if square:
            first = (last - shorter) // 2
            last = first + shorter
        corner = np.array([window.top, window.left])
        assert np.all(corner >= first)
        assert np.all(corner + 224 <= last)


@pytest.mark.parametrize(
    ("geometry", "height", "width"),
    [
        (Geometry(crop=224, scale=(256, 256), square=True), 375, 500),
        (Geometry(crop=224, scale=(256, 256)), 300, 300),
    ],
)
def test_all_33_by_33_offsets_occur_equally_often(geometry, height, width):
    rng = np.random.default_rng(1)
    counts = np.zeros((33, 33), int)
    for _ in range(20 * 33 * 33):
        counts[geometry.offset(geometry.random(height, width, rng))] += 1
    assert counts.min() > 0
    # Chi-square with 1088 degrees of freedom: mean 1088, standard deviation 46.6.
    assert abs(np.sum((counts - 20) ** 2 / 20) - 1088) < 5 * 46.6


def test_the_whole_of_a_wide_image_is_cropped_unless_square():
    geometry = Geometry(crop=20, scale=(20, 20))
    rng = np.random.default_rng(2)
    lefts = {geometry.random(100, 130, rng).left for _ in range(400)}
    assert lefts == set(range(7))
    square = Geometry(crop=20, scale=(20, 20), square=True)
    assert {square.random(100, 130, rng).left for _ in range(50)} == {3}


def test_scales_are_uniform_with_both_ends():
    geometry = Geometry(crop=224, scale=(256, 265))
    rng = np.random.default_rng(3)
    drawn = [geometry.random(375, 500, rng).height for _ in range(5000)]
    counts = np.bincount(drawn)[256:]
    assert len(counts) == 10
    # 500 each, with a standard deviation of 21.2.
    assert np.abs(counts - 500).max() < 5 * 21.2


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (256, 256, (256, 256, 16, 16)),
        (375, 500, (256, 341, 16, 58)),  # 341 - 224 = 117
        (500, 375, (341, 256, 58, 16)),
    ],
)
def test_central_crop_is_of_the_lower_scale_with_offsets_rounded_down(height, width, expected):
    geometry = Geometry(crop=224, scale=(256, 512))
    assert geometry.central(height, width) == decode.Crop(*expected, 224, 224)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ((256, 256, 5, 7, 224), (5, 7)),
        ((256, 341, 5, 42, 224), (5, 0)),  # the square begins at column (341 - 256) // 2 = 42
        ((256, 341, 0, 74, 224), (0, 32)),
        ((341, 256, 58, 16, 224), (16, 16)),
        ((256, 341, 0, 0, 224), (0, -42)),  # a crop outside the square
    ],
)
def test_offset_is_within_the_central_square(window, expected):
    assert Geometry(crop=224, scale=(256, 256)).offset(decode.Crop(*window, 224)) == expected


# The order of training.


def test_every_epoch_is_a_permutation_and_batches_run_across_its_end(source):
    # 11 batches of 4 are exactly 4 epochs of 11.
    epochs = column(train(source), "record", 11).reshape(4, 11)
    for epoch in epochs:
        assert sorted(epoch) == list(range(11))
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert list(range(11)) not in epochs.tolist()


def test_a_target_of_ones_own_is_carried_through_as_it_is(source):
    boxes = np.arange(44, dtype=np.float32).reshape(11, 4)
    records = [
        {"image": record["image"], "target": {"box": box, "label": np.int32(3)}}
        for record, box in zip(source, boxes, strict=True)
    ]
    batches = train(records)
    np.testing.assert_array_equal(column(batches, "box", 6), boxes[column(batches, "record", 6)])
    (*_, last) = evaluation(records)
    assert last["box"].shape == (4, 4)
    assert last["mask"].tolist() == [True, True, True, False]


def test_labels_are_those_of_the_records(source):
    batches = train(source)
    np.testing.assert_array_equal(column(batches, "label", 6), column(batches, "record", 6))


def test_position_counts_the_stream(source):
    np.testing.assert_array_equal(column(train(source), "position", 6), range(24))


def test_a_batch_has_its_shapes_and_types(source):
    batch = train(source)[2]
    assert {name: (values.shape, values.dtype.name) for name, values in batch.items()} == {
        "image": ((4, 16, 16, 3), "uint8"),
        "label": ((4,), "int32"),
        "offset": ((4, 2), "int32"),
        "position": ((4,), "uint32"),
        "mask": ((4,), "bool"),
        "record": ((4,), "int64"),
        "readable": ((4,), "bool"),
    }
    assert batch["mask"].all()
    assert batch["readable"].all()


def test_images_are_crops_of_their_records(source):
    # With one scale and the image's own size, a crop is a slice at its offset.
    geometry = Geometry(crop=16, scale=(24, 24), square=True)
    batches = pipeline.train_batches(source, geometry, batch_size=4, seed=0).map(flat)
    found = 0
    for image, record, (top, left) in zip(
        *(column(batches, name, 6) for name in ("image", "record", "offset")), strict=True
    ):
        whole = np.asarray(decode.decode(source[record]["image"]))
        if whole.shape[0] == 24:
            left += (whole.shape[1] - 24) // 2
            np.testing.assert_array_equal(image, whole[top : top + 16, left : left + 16])
            found += 1
    assert found > 4


def test_an_image_is_cropped_anew_in_each_epoch(source):
    batches = train(source)
    records, offsets = column(batches, "record", 22), column(batches, "offset", 22)
    for record in range(11):
        assert len(np.unique(offsets[records == record], axis=0)) > 2


# (seed, position) and nothing else.


@pytest.mark.slow
@pytest.mark.parametrize(("threads", "workers"), [(1, 0), (3, 0), (1, 1), (2, 2)])
@pytest.mark.parametrize("step", [0, 5])
def test_iteration_from_any_step_is_random_access(source, threads, workers, step):
    batches = train(source)
    iterator = pipeline.iter_from(train(source), step, threads=threads, workers=workers)
    for number in range(step, step + 6):
        assert_equal(next(iterator), batches[number])


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_the_stream_goes_on(source):
    batches = train(source)
    iterator = pipeline.iter_from(batches, 0, threads=1, workers=1)
    assert_equal(next(iterator), batches[0])
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGTERM)  # as a scheduler does to all processes of a job,
    os.kill(worker.pid, signal.SIGINT)  # and a terminal, where Ctrl-C is pressed
    assert_equal(next(iterator), batches[1])
    assert worker.is_alive()
    worker.kill()
    for number in range(2, 8):
        assert_equal(next(iterator), batches[number])


class Deadly(list):
    """Records that kill the process that reads them."""

    def __getitem__(self, number):
        os.kill(os.getpid(), signal.SIGKILL)


def test_workers_that_are_killed_again_and_again_end_the_run(source, monkeypatch):
    monkeypatch.setattr(pipeline, "MAX_FRUITLESS_STARTS", 1)
    with pytest.raises(UserError, match=r"keep being killed .*exit code -9"):
        next(pipeline.iter_from(train(Deadly(source)), 0, threads=1, workers=1))


def test_the_seed_fixes_order_and_crops(source):
    once, again, other = train(source, seed=5), train(source, seed=5), train(source, seed=6)
    for number in (0, 7):
        assert_equal(once[number], again[number])
    assert (column(once, "record", 11) != column(other, "record", 11)).any()
    # One record, so that the order is the same and only the crops can differ.
    one = [train(source[:1], seed=seed) for seed in (5, 6)]
    assert (column(one[0], "offset", 3) != column(one[1], "offset", 3)).any()


@pytest.mark.parametrize("count", [2, 4])
def test_processes_together_have_the_global_batch(source, count):
    whole = train(source, batch_size=8)
    parts = [
        train(source, batch_size=8, process_index=index, process_count=count)
        for index in range(count)
    ]
    for number in (0, 1, 6):
        batches = [part[number] for part in parts]
        assert {len(batch["position"]) for batch in batches} == {8 // count}
        together = {name: np.concatenate([batch[name] for batch in batches]) for name in whole[0]}
        order = np.argsort(together["position"])
        assert_equal({name: values[order] for name, values in together.items()}, whole[number])


# Files that cannot be read.


@pytest.mark.parametrize(
    ("unreadable", "stands_in"),
    [({2}, {2: 3}), ({2, 3}, {2: 4, 3: 4}), ({5}, {5: 0}), ({0, 5}, {0: 1, 5: 1})],
)
def test_an_unreadable_record_is_replaced_by_the_next(encode, unreadable, stands_in):
    batches = train(gray(encode, 6, unreadable))
    whole = train(gray(encode, 6))
    for number in range(3):
        batch = batches[number]
        # The place in the stream is kept, and all others are as they were.
        np.testing.assert_array_equal(batch["record"], whole[number]["record"])
        np.testing.assert_array_equal(batch["position"], whole[number]["position"])
        for index, record in enumerate(batch["record"].tolist()):
            used = stands_in.get(record, record)
            assert batch["readable"][index] == (record not in unreadable)
            assert batch["mask"][index]
            assert batch["label"][index] == used
            assert np.all(batch["image"][index] == 20 * used)
    assert set(column(batches, "record", 3).tolist()) == set(range(6))


def test_a_replacement_is_the_same_each_time(source, truncated):
    broken = [*source[:4], {"image": truncated, "label": 4}, *source[5:]]
    batches = train(broken)
    iterator = pipeline.iter_from(train(broken), 0, threads=3)
    for number in range(6):
        assert_equal(next(iterator), batches[number])
    assert not column(batches, "readable", 6).all()


def test_nothing_readable_is_said_in_one_line(encode):
    source = gray(encode, 3, unreadable={0, 1, 2})
    with pytest.raises(UserError) as error:
        next(pipeline.iter_from(train(source), 0, threads=2))
    assert "\n" not in str(error.value)


def test_the_search_for_a_readable_record_ends(monkeypatch, encode):
    monkeypatch.setattr(pipeline, "MAX_UNREADABLE_IN_A_ROW", 2)
    rng = np.random.default_rng(0)
    source = gray(encode, 6, unreadable={2, 3})
    with pytest.raises(UserError, match="from record 2 on"):
        pipeline.load_train(source, GEOMETRY, (0, 2), rng)
    assert flat(pipeline.load_train(source, GEOMETRY, (0, 3), rng))["label"] == 4


# Evaluation.


def evaluation(source, batch_size=4, **options):
    batches = pipeline.eval_batches(source, GEOMETRY, batch_size=batch_size, **options).map(flat)
    return list(pipeline.iter_from(batches, 0, threads=2))


def test_each_record_is_scored_once_and_the_last_batch_is_filled_up(source):
    batches = evaluation(source)
    assert [batch["image"].shape for batch in batches] == [(4, 16, 16, 3)] * 3
    together = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    np.testing.assert_array_equal(together["mask"], [True] * 11 + [False])
    np.testing.assert_array_equal(together["label"][:11], range(11))
    np.testing.assert_array_equal(together["record"][:11], range(11))
    # What fills up is not reported as a broken file.
    assert together["readable"].all()
    assert not together["image"][11].any()


def test_batches_that_fit_are_not_filled_up(source):
    batches = evaluation(source[:8])
    assert len(batches) == 2
    assert all(batch["mask"].all() for batch in batches)


def test_fewer_records_than_a_batch_are_filled_up(source):
    (batch,) = evaluation(source[:3], batch_size=8)
    assert batch["mask"].tolist() == [True] * 3 + [False] * 5


def test_the_central_crop_is_evaluated(source):
    (batch,) = evaluation(source[:4])
    for image, record in zip(batch["image"], source[:4], strict=True):
        whole = decode.decode(record["image"])
        height, width = decode.rescaled_size(whole.height, whole.width, 20)
        resized = np.asarray(whole.resize((width, height), PIL.Image.Resampling.BILINEAR))
        top, left = (height - 16) // 2, (width - 16) // 2
        expected = resized[top : top + 16, left : left + 16].astype(int)
        assert np.abs(image - expected).mean() < 1
    np.testing.assert_array_equal(batch["offset"], [[2, 2]] * 4)


def test_an_unreadable_record_is_masked(source, truncated):
    broken = [*source[:4], {"image": truncated, "label": 4}, *source[5:]]
    batches, whole = evaluation(broken), evaluation(source)
    assert batches[1]["mask"].tolist() == [False, True, True, True]
    assert batches[1]["readable"].tolist() == [False, True, True, True]
    assert batches[1]["record"].tolist() == [4, 5, 6, 7]
    for number in (0, 2):
        assert_equal(batches[number], whole[number])


@pytest.mark.parametrize("count", [2, 4])
def test_evaluating_processes_together_have_the_global_batch(source, count):
    whole = evaluation(source)
    parts = [evaluation(source, process_index=index, process_count=count) for index in range(count)]
    assert {len(part) for part in parts} == {3}
    for number, expected in enumerate(whole):
        together = {
            name: np.concatenate([part[number][name] for part in parts]) for name in expected
        }
        order = np.argsort(together["record"])
        assert_equal({name: values[order] for name, values in together.items()}, expected)
