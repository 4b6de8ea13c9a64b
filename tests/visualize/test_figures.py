"""The figures show what the network has and says, checked against numpy."""

import errno
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import alexnet
from deepconv import models, parallel
from deepconv.commands import command_line
from deepconv.commands import figures as command
from deepconv.data.sources import datasets
from deepconv.exceptions import UserError
from deepconv.inference.model import Model, open_model
from deepconv.training import augment, loop
from deepconv.visualize import figures
from deepconv.visualize.figures import Pictures

ONE_DEVICE = parallel.replicated(parallel.data_mesh(jax.devices()[:1]))


@pytest.fixture(scope="module")
def run(tmp_path_factory, shapes_root):
    config = alexnet.get_config("tiny")
    config.update_from_flattened_dict(
        {
            "model.width": 1 / 16,
            "dataset.data_dir": str(shapes_root),
            "dataset.train_split": "train[:64]",
            "dataset.eval_split": "validation[:32]",
            "train.batch_size": 16,
            "train.epochs": 0.25,
            "evaluation.batch_size": 32,
        }
    )
    folder = tmp_path_factory.mktemp("runs") / "narrow"
    loop.train(config, folder)
    return folder


def untrained(name, **options):
    network = models.create(name, 12, **options)
    first = network.layers[0]
    shape = (first.kernel, first.kernel, 3, first.features)
    params = {first.name: {"kernel": np.random.default_rng(0).normal(size=shape)}}
    class_names = tuple(f"class {number}" for number in range(12))
    return Model("untrained", network, params, None, None, class_names, 0, "")


def test_a_kernel_of_zeros_is_gray_and_all_share_one_scale():
    kernel = np.random.default_rng(0).normal(size=(5, 5, 3, 4))
    kernel[..., 1] = 0.0
    kernel[..., 2] *= 0.1
    tiles = figures.kernel_tiles(kernel)
    assert tiles.shape == (4, 5, 5, 3)
    np.testing.assert_array_equal(tiles[1], 0.5)
    np.testing.assert_allclose(np.sign(tiles - 0.5), np.sign(np.moveaxis(kernel, -1, 0)))
    assert tiles.min() >= 0
    assert tiles.max() <= 1
    assert np.abs(tiles[2] - 0.5).max() < 0.5 * np.abs(tiles[0] - 0.5).max()
    assert (figures.kernel_tiles(np.zeros((3, 3, 3, 2))) == 0.5).all()


@pytest.mark.parametrize(
    ("name", "options", "towers", "tiles"),
    [
        ("alexnet", {"width": 0.5, "crop": 64}, 2, 48),
        ("alexnet", {"width": 0.25, "crop": 64, "towers": 1}, 1, 24),
        ("vgg_a", {"width": 1 / 8, "crop": 32}, 1, 8),
        ("cifar10_13pct", {}, 1, 64),
    ],
)
def test_kernels_are_drawn_by_tower(name, options, towers, tiles):
    figure = figures.kernels(untrained(name, **options))
    titles = [part.texts[0].get_text() for part in figure.subfigs]
    assert len(titles) == towers
    assert all("tower" in title for title in titles) == (towers == 2)
    drawn = [len([axes for axes in part.axes if axes.images]) for part in figure.subfigs]
    assert drawn == [tiles // towers] * towers
    first = figure.subfigs[-1].axes[0].images[0].get_array()
    assert first.shape == ({"alexnet": 11, "vgg_a": 3, "cifar10_13pct": 5}[name],) * 2 + (3,)


def test_the_nearest_by_euclidean_distance():
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(5, 40)), rng.normal(size=(60, 40))
    distances = ((queries[:, None] - gallery) ** 2).sum(-1)
    expected = np.argsort(distances, axis=1)[:, :6]
    np.testing.assert_array_equal(figures.nearest_images(queries, gallery), expected)
    assert figures.nearest_images(queries, gallery[:4]).shape == (5, 4)


@pytest.mark.parametrize(
    ("name", "layer"),
    [("alexnet", "relu7"), ("vgg_d", "relu7"), ("cifar10_11pct", "relu4")],
)
def test_the_last_hidden_layer(name, layer):
    assert figures.last_hidden_layer(models.create(name).layers) == layer


def test_the_true_label_has_the_red_bar():
    trained = untrained("cifar10_13pct")
    scores = np.zeros((2, 12), np.float32)
    scores[:, 3], scores[:, 7] = 5.0, 4.0
    pictures = Pictures(np.zeros((2, 8, 8, 3), np.uint8), np.array([7, 11]), scores)
    figure = figures.labels(trained, pictures)
    pairs = [axes for axes in figure.axes if axes.patches]
    assert [axes.texts[0].get_text() for axes in pairs] == ["class 3", "class 3"]
    colors = [[bar.get_facecolor() for bar in axes.patches] for axes in pairs]
    assert [len(set(bars)) for bars in colors] == [2, 1]  # no bar of class 11, beyond the best
    assert colors[0].count(colors[0][1]) == 1
    expected = np.exp(5) / (np.exp(5) + np.exp(4) + 10)
    assert pairs[0].patches[0].get_width() == pytest.approx(expected)


@pytest.mark.slow
def test_the_outputs_are_those_of_the_network_on_central_crops(run):
    trained = open_model(run, ONE_DEVICE)
    source = datasets.open_dataset(**trained.config.dataset).evaluation
    records = figures.drawn(source, 10, seed=3)
    pictures = figures.look_at(trained, records, "relu7")
    assert [int(label) for label in pictures.labels] == [records[n]["label"] for n in range(10)]
    batch = {
        "image": jnp.asarray(pictures.images),
        "offset": jnp.full((10, 2), 4),  # of a 64-pixel crop in 72
    }
    crops = augment.for_evaluation(batch, jnp.asarray(trained.colors.mean_image))
    outputs = trained.network.apply({"params": trained.params}, crops, method="activations")
    np.testing.assert_allclose(
        pictures.outputs, outputs["relu7"].reshape(10, -1), rtol=1e-4, atol=1e-4
    )
    figure = figures.neighbors(trained, pictures, pictures)
    images = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert len(images) == 10 * 7
    np.testing.assert_array_equal(images[1], images[0])  # nobody is nearer than oneself


@pytest.mark.slow
def test_records_that_cannot_be_read_are_left_out(run):
    trained = open_model(run, ONE_DEVICE)
    source = datasets.open_dataset(**trained.config.dataset).evaluation
    broken = [{**source[0], "image": b"?"}, source[1]]
    assert list(figures.look_at(trained, broken, "fc8").labels) == [source[1]["label"]]
    with pytest.raises(UserError, match="none of 1 records can be read"):
        figures.look_at(trained, broken[:1], "fc8")


@pytest.mark.parametrize("label", [-1, 12])
def test_a_label_that_no_class_has_is_named(run, label):
    trained = open_model(run, ONE_DEVICE)
    source = datasets.open_dataset(**trained.config.dataset).evaluation
    records = [source[0], {**source[1], "label": label}]
    with pytest.raises(UserError, match=rf"^shapes: validation_00001\.jpg has label {label}, "):
        figures.look_at(trained, records, "fc8")


def test_bars_are_in_the_order_of_the_scores_where_posteriors_vanish():
    scores = np.array([[-300.0, -200, 500, -400, -100, 0, -150, 0, 0, 0, 0, 0]], np.float32)
    scores[:, 7:] = -900
    pictures = Pictures(np.zeros((1, 8, 8, 3), np.uint8), np.array([0]), scores)
    figure = figures.labels(untrained("cifar10_13pct"), pictures)
    (bars,) = [axes for axes in figure.axes if axes.patches]
    texts = [text.get_text() for text in bars.texts]
    assert texts[::2] == [f"class {n}" for n in (2, 5, 4, 6, 1)]
    assert texts[1::2] == ["1.00", *["0.00"] * 4]


def test_images_are_drawn_once_each_and_by_the_seed():
    source = [{"label": number} for number in range(20)]
    first = [record["label"] for record in figures.drawn(source, 8, seed=0)]
    assert first == [record["label"] for record in figures.drawn(source, 8, seed=0)]
    assert first != [record["label"] for record in figures.drawn(source, 8, seed=1)]
    assert len({*first}) == 8
    assert len(figures.drawn(source, 50, seed=0)) == 20


def test_the_command(run, run_main, tmp_path):
    for name in ("kernels", "neighbors"):
        process = run_main("figures", name, f"--weights={run}", f"--out={tmp_path}/{name}.png")
        assert process.returncode == 0, process.stderr
        assert process.stdout == f"{tmp_path}/{name}.png\n"
        assert (tmp_path / f"{name}.png").read_bytes()[1:4] == b"PNG"


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_drawn(run, monkeypatch):
    options, arguments = command_line.parse(command, ["kernels", f"--weights={run}"])

    def read_only(dir):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    with pytest.raises(UserError, match=rf"cannot write to {run} \(Read-only.*; --out=FILE\.png"):
        command.main(options, arguments)
    assert not (run / "kernels.png").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["kernel"], "unknown figure 'kernel'; choose from kernels, labels, neighbors"),
        ([], "unknown figure ''; choose from kernels, labels, neighbors"),
        (["kernels", "labels"], "unexpected argument 'labels'; flags begin with --"),
        (["kernels", "--out=kernels.jpg"], "--out=kernels.jpg must be a .png file"),
        (["labels"], "is not a run's folder: "),
    ],
)
def test_bad_input_is_one_line(arguments, line, tmp_path, run_main):
    process = run_main("figures", *arguments, f"--weights={tmp_path}")
    assert (process.returncode, process.stdout) == (2, "")
    assert line in process.stderr
    assert process.stderr.count("\n") == 1
