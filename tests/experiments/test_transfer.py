"""Descriptors are compared as they are said to be: the layers, the first weights, the pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepconv import parallel
from deepconv.config.check import check_config
from deepconv.config.schema import create_model
from deepconv.data import color
from deepconv.data.sources import caltech
from deepconv.inference.activations import cut
from deepconv.inference.model import Model
from deepconv.training import build
from deepconv.transfer import aggregate
from deepconv.transfer.splits import CALTECH
from deepconv.transfer.task import open_task
from experiments import transfer
from experiments.transfer import LAYERS, Row
from tests.transfer.photographs import draw_classes

CLASSES = ("BACKGROUND_Google", "ant", "bee")


def model_of(seed):
    config = transfer.config_of("folder:photographs", 40.0)
    config.seed, config.model.width = seed, 1 / 32
    network = create_model(config, 10)
    nothing = Model("a", network, None, config, color.IMAGENET, ("a",) * 10, 0, f"digest {seed}")
    return transfer.with_first_weights(nothing)


@pytest.fixture(scope="module")
def models():
    """Return two networks that have not been trained."""
    return [model_of(0), model_of(1)]


@pytest.fixture
def task(tmp_path, monkeypatch):
    """Return a set of three classes in the layout of Caltech-101, split 3 to 2."""
    draw_classes(tmp_path / "caltech" / "101_ObjectCategories", CLASSES, 5)
    published = caltech._PUBLISHED["caltech101"]._replace(classes=3)
    monkeypatch.setitem(caltech._PUBLISHED, "caltech101", published)
    monkeypatch.setitem(CALTECH, "caltech101", CALTECH["caltech101"]._replace(train=3))
    return open_task(f"caltech101:{tmp_path / 'caltech'}", threads=1)


def test_the_configs_can_be_used_and_have_the_layers():
    conditions = transfer.conditions_of("photographs", "data", "VOC2007", 1000)
    assert tuple(condition.label for condition in conditions) == transfer.ON
    for _, config, _ in conditions:
        check_config(config)
        network = create_model(config, 10)
        names = [layer.name for layer in network.layers]
        assert {*LAYERS} <= {*names}
        assert aggregate.penultimate(network) == transfer.LAST
        assert config.input.scale == (transfer.SHORTEST, transfer.LONGEST)
    assert [each.label for each in transfer.conditions_of("a", "", "", 0)] == [
        transfer.ON_PHOTOGRAPHS
    ]


@pytest.mark.slow
def test_the_random_weights_are_those_that_training_starts_from(models):
    config = models[1].config
    mesh = parallel.data_mesh()
    functions = build.build(config, color.IMAGENET, num_classes=10, images=100, mesh=mesh)
    jax.tree.map(np.testing.assert_array_equal, functions.initial_state().params, models[1].params)


@pytest.mark.slow
def test_the_rows_are_those_of_each_layer_alone(models):
    mean = np.array([1, 2, 3], np.float32)
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 80, 3), np.uint8)
    extents = jnp.array([[96, 80], [70, 72]])
    found = transfer.of_every_layer(models[0].network, mean, models[0].params, images, extents)
    parts = np.split(found, np.cumsum(transfer.widths(models[0]))[:-1], axis=1)
    for layer, part in zip(LAYERS, parts, strict=True):
        network = cut(models[0].network, [layer])
        alone = aggregate.of_whole(network, models[0].params, images, extents, mean)
        # The same float32 operations, compiled in another program.
        np.testing.assert_allclose(part, alone, rtol=1e-4, atol=1e-4 * np.abs(alone).max())


def test_pixels_are_of_squares_of_about_as_many_numbers(encode):
    pixels = np.full((30, 40, 3), (10, 20, 30), np.uint8)
    source = [{"image": encode(pixels, "PNG")}] * 2
    found = transfer.pixels_of(source, 512, np.array([10, 10, 10], np.float32))
    assert found.shape == (2, 13 * 13 * 3)
    np.testing.assert_array_equal(found.reshape(2, 13, 13, 3)[1, 12, 0], [0, 10, 20])


@pytest.mark.slow
def test_every_row_is_measured_for_every_seed_and_split(models, task, tmp_path, capsys):
    of_sources = {transfer.ON_PHOTOGRAPHS: models, transfer.ON_VOC: models[::-1]}
    tables = transfer.tables_of(task, of_sources, tmp_path / "rows")
    numbers = {name: {table.shape for table in seeds} for name, seeds in tables.items()}
    last = transfer.widths(models[0])[-1]
    assert numbers[transfer.ON_PHOTOGRAPHS] == numbers[transfer.AVERAGED] == {(15, last)}
    assert numbers[transfer.STACKED] == {(15, 3 * last)}
    assert numbers[transfer.TWO] == {(15, 2 * last)}
    for seeds in tables.values():
        for table in seeds:
            np.testing.assert_allclose(np.linalg.norm(table, axis=1), 1, rtol=1e-6)
    for one, other in zip(
        tables[transfer.ON_VOC], tables[transfer.ON_PHOTOGRAPHS][::-1], strict=True
    ):
        np.testing.assert_array_equal(one, other)
    # These networks are random ones: with and without their training they are the same.
    for one, other in zip(tables[transfer.ON_PHOTOGRAPHS], tables[transfer.RANDOM], strict=True):
        np.testing.assert_array_equal(one, other)

    found = transfer.measure(task, tables)
    assert {len(row.seeds) for name, row in found.items() if name != transfer.PIXELS} == {2}
    assert len(found[transfer.PIXELS].seeds) == 1
    assert {len(splits) for row in found.values() for splits in row.seeds} == {3}
    assert found[transfer.PIXELS].seeds[0] == [100.0] * 3  # each class has a color of its own

    transfer.report(task, found, tmp_path)
    text = (tmp_path / "caltech101.txt").read_text()
    assert text in capsys.readouterr().out
    assert "photographs - random weights: +0.0 ± 0.0" in text
    assert "photographs, pool1 - random weights, pool1: +0.0 ± 0.0" in text
    assert "VOC - raw pixels: " in text
    assert "CIFAR-10" not in text
    assert (tmp_path / "caltech101.png").read_bytes()[1:4] == b"PNG"


def test_a_row_has_the_mean_over_splits_and_an_interval_over_seeds():
    (row,) = transfer.table_of({"trained": Row(512, 10.0, [[1.0, 3.0], [4.0, 4.0]])})
    # t of one degree of freedom is 12.706; the standard error of 2 and 4 is 1.
    assert row[:4] == ("trained", 512, "10", 3.0)
    assert row[4] == pytest.approx(12.706, abs=1e-3)
    assert row[5] == "2.0 4.0"
    (row,) = transfer.table_of({"raw pixels": Row(507, 1.0, [[1.0, 3.0]])})
    assert row[3:] == (2.0, None, "2.0")


def test_the_metric_of_several_labels_is_the_average_precision(task):
    several = task._replace(rule="all-point")
    scores = np.array([[0.9, 0.1], [0.5, 0.8], [0.1, 0.2]])
    targets = np.array([[1, 0], [0, 0], [1, 1]], np.int8)
    # Class 0: precisions 1 and 2/3 at its two images; class 1: 1/2 at its one.
    assert transfer.metric_of(several, scores, targets) == pytest.approx((5 / 6 + 1 / 2) / 2)
