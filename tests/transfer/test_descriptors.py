"""Descriptors of whole sets: how they are joined, kept and continued, and which nets give none."""

import jax
import numpy as np
import pytest

from deepconv import parallel
from deepconv.data.sources import pictures
from deepconv.exceptions import UserError
from deepconv.inference import buckets, model, rows
from deepconv.inference.rows import Memory, Store
from deepconv.transfer import aggregate, descriptors
from deepconv.transfer.descriptors import How

MESH = parallel.data_mesh(jax.devices()[:1])


@pytest.fixture(scope="module")
def net(narrow_file):
    return model.open_model(narrow_file, parallel.replicated(MESH))


@pytest.fixture(autouse=True)
def few_programs(monkeypatch):
    monkeypatch.setattr(rows, "MOST_BUCKETS", 1)


@pytest.fixture
def source(photos):
    return pictures.open_pictures([photos])


def describe(nets, how, source, into, **options):
    layers = descriptors.require(nets, how)
    survey = buckets.survey(source, 1)
    return descriptors.describe(
        nets, layers, how, source, survey, into=into, mesh=MESH, threads=1, **options
    )


def test_scales_and_networks_are_joined_as_aggregate_does(net, source, monkeypatch):
    monkeypatch.setattr(descriptors, "_AT_ONCE", 2)  # so that there are two blocks
    kept = {}

    def into(number, scale, shape):
        return kept.setdefault((number, scale), Memory(shape))

    other = net._replace(params=jax.tree.map(lambda x: 0.9 * x, net.params))
    stacked = How((32, 40), "stack")
    found = describe([net, other], stacked, source, into)
    every = [kept[number, scale].rows for number in (0, 1) for scale in (32, 40)]
    np.testing.assert_allclose(found, aggregate.stack(every), rtol=1e-6)
    assert found.dtype == np.float32
    assert found.shape[1] == descriptors.width([net, other], ["relu7"] * 2, stacked)
    # The rows of each scale are used again.
    averaged = describe([net, other], stacked._replace(combine="average"), source, kept_only(kept))
    halves = [aggregate.average(every[:2]), aggregate.average(every[2:])]
    np.testing.assert_allclose(averaged, aggregate.stack(halves), rtol=1e-6)
    one = descriptors.width([net], ["relu7"], stacked._replace(combine="average"))
    assert averaged.shape[1] == 2 * one


def kept_only(kept):
    """Return where rows are that nothing may be computed for."""
    assert all(memory.done.all() for memory in kept.values())
    return lambda number, scale, shape: kept[number, scale]


def test_another_layer_is_described_without_those_after_it(net, source):
    how = How((32,), layer="relu3_1")
    found = describe([net], how, source, lambda _, __, shape: Memory(shape))
    channels = net.params["conv3_1"]["bias"].shape[0]
    assert found.shape == (3, channels) == (3, descriptors.width([net], ["relu3_1"], how))


def test_a_killed_extraction_continues_and_a_complete_one_is_used_again(
    net, source, tmp_path, monkeypatch
):
    how = How((32,))
    origin = {"step": 0}
    asked = []

    def into(number, scale, shape):
        return Store(tmp_path / f"{number}_{scale}", origin, shape)

    def die(into, computed):
        if computed is not None and into.done.any():
            raise KeyboardInterrupt
        return write(into, computed)

    write = rows._write
    monkeypatch.setattr(rows, "_batch_size", lambda *_: 1)
    monkeypatch.setattr(rows, "_write", die)
    with pytest.raises(KeyboardInterrupt):
        describe([net], how, source, into)
    assert into(0, 32, (3, 1)).done.sum() == 1
    monkeypatch.setattr(rows, "_write", write)

    load = buckets.load_bucket

    def counted(source, scale, height, width, records, **options):
        asked.extend(records)
        return load(source, scale, height, width, records, **options)

    monkeypatch.setattr(buckets, "load_bucket", counted)
    found = describe([net], how, source, into)
    assert len(asked) == 2
    again = describe([net], how, source, into)
    assert len(asked) == 2
    np.testing.assert_array_equal(found, again)
    monkeypatch.setitem(origin, "step", 1)  # other parameters
    describe([net], how, source, into)
    assert len(asked) == 5
    whole = describe([net], how, source, lambda _, __, shape: Memory(shape))
    np.testing.assert_allclose(found, whole, atol=1e-6)


def test_a_picture_that_cannot_be_read_has_no_descriptor(net, photos):
    data = (photos / "a.jpg").read_bytes()
    (photos / "a.jpg").write_bytes(data[: len(data) // 2])
    source = pictures.open_pictures([photos])
    into = lambda _, __, shape: Memory(shape)  # noqa: E731
    found = describe([net], How((32,)), source, into, strict=False)
    assert np.isnan(found).all(axis=1).tolist() == [True, False, False]
    with pytest.raises(UserError, match="a.jpg"):
        describe([net], How((32,)), source, into)


def test_what_cannot_describe_is_refused_in_one_line(net):
    boxes = net._replace(config=net.config.copy_and_resolve_references().unlock())
    boxes.config.model.boxes = "per_class"
    for nets, how, words in (
        ([boxes], How((32,)), "narrow predicts boxes, not classes; describe images with a classif"),
        ([net], How((32,), layer="relu9"), "narrow: there is no layer 'relu9'; the layers are con"),
        ([net], How((16,)), "narrow: Q=16 is too small: a map of 1x1 is too small for layer pool5"),
        ([net], How((32, 40, 32)), "a scale is given twice: 32, 40, 32"),
    ):
        with pytest.raises(UserError, match=f"^{words}") as error:
            descriptors.require(nets, how)
        assert "\n" not in str(error.value)
    assert descriptors.require([net], How((32,))) == ["relu7"]
