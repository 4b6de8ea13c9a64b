"""Posteriors of a set: once for each image, in few programs, over any interruption."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import cifar10
from deepconv import parallel
from deepconv.config.schema import create_model
from deepconv.data import decode
from deepconv.data.sources import datasets
from deepconv.evaluation import protocols
from deepconv.evaluation.ensemble import ScoredImages
from deepconv.exceptions import UserError
from deepconv.inference import buckets, rows, scoring
from deepconv.inference.model import open_model


@pytest.fixture(scope="module")
def trained(narrow_run):
    return open_model(narrow_run, parallel.replicated(parallel.data_mesh()))


@pytest.fixture(scope="module")
def source(shapes_root):
    evaluation = datasets.open_dataset("shapes", data_dir=str(shapes_root)).evaluation
    return [evaluation[record] for record in range(150)]


@pytest.fixture(scope="module")
def survey(source):
    return buckets.survey(source, threads=2)


@pytest.fixture
def score(trained, source, survey, tmp_path):
    def score(path=tmp_path / "dense.npz", devices=8, **changes):
        mesh = parallel.data_mesh(jax.devices()[:devices])
        arguments = {
            "trained": trained,
            "view": "dense",
            "scale": 40,
            "source": source,
            "contents": "0123",
            **changes,
        }
        net = arguments.pop("trained")
        net = net._replace(params=jax.device_put(net.params, parallel.replicated(mesh)))
        return scoring.score(
            net, survey=survey, dataset="shapes", path=path, mesh=mesh, threads=2, **arguments
        )

    return score


@pytest.fixture(autouse=True)
def few_programs(monkeypatch):
    monkeypatch.setattr(rows, "MOST_BUCKETS", 2)


@pytest.fixture
def traces(monkeypatch):
    """Count how often the dense view is traced: once for each program that is compiled."""
    found = []

    def counted(*arguments, view=protocols.VIEWS["dense"], **options):
        found.append(arguments[2].shape)
        return view(*arguments, **options)

    monkeypatch.setitem(protocols.VIEWS, "dense", counted)
    return found


def test_every_image_is_scored_once_in_at_most_eight_programs(
    score, traces, source, trained, monkeypatch
):
    monkeypatch.setattr(rows, "MOST_BUCKETS", 8)
    scored = score()
    assert scored.log_posteriors.shape == (150, 12)
    assert scored.log_posteriors.dtype == np.float32
    np.testing.assert_allclose(scored.posteriors.sum(axis=1), 1, rtol=1e-5)
    assert scored.labels.tolist() == [record["label"] for record in source]
    assert scored.image_ids[:2] == ("validation_00000.jpg", "validation_00001.jpg")
    assert scored.class_names == trained.class_names
    assert len({*traces}) == len(traces) == 8


def test_one_device_scores_like_eight(score, tmp_path):
    eight = score()
    one = score(tmp_path / "one.npz", devices=1)
    np.testing.assert_allclose(one.posteriors, eight.posteriors, atol=1e-6)


def test_what_is_on_disk_is_not_computed_again(score, traces, trained):
    first = score()
    count = len(traces)
    again = score()
    np.testing.assert_array_equal(again.log_posteriors, first.log_posteriors)
    assert len(traces) == count
    other = score(contents="4567")  # other images under the same names
    assert other.origin != first.origin
    later = score(trained=trained._replace(step=3))  # other parameters under the same name
    assert later.origin["step"] == 3
    assert len(traces) > count


def test_a_killed_evaluation_goes_on_and_ends_the_same(score, source, tmp_path, monkeypatch):
    whole = score(tmp_path / "whole.npz")

    class Fading(list):
        """Fail at the hundredth decoding, as a machine does."""

        reads = 0

        def __getitem__(self, record):
            Fading.reads += 1
            if Fading.reads > 100:
                raise KeyboardInterrupt
            return super().__getitem__(record)

    with pytest.raises(KeyboardInterrupt):
        score(source=Fading(source))
    done = np.load(tmp_path / "dense.partial" / "done.npy")
    assert 0 < done.sum() <= 100

    read = []

    class Watched(list):
        def __getitem__(self, record):
            read.append(record)
            return super().__getitem__(record)

    scored = score(source=Watched(source))
    assert sorted(read) == np.flatnonzero(~done).tolist()
    np.testing.assert_array_equal(scored.log_posteriors, whole.log_posteriors)
    assert not (tmp_path / "dense.partial").exists()


@pytest.mark.parametrize("kept", ["memory", "store"])
def test_rows_of_any_function_are_computed(source, survey, kept, tmp_path):
    """Of a function that is not about classes, `[n, 2, 3]`, with an image that cannot be read."""
    broken = {**source[3], "image": source[3]["image"][:300]}
    images = [*source[:3], broken, *source[4:20]]
    sizes = survey.rescaled(36)[:20]
    shape = (20, 2, 3)
    into = rows.Memory(shape) if kept == "memory" else rows.Store(tmp_path / "x", {"a": 1}, shape)

    def corners(params, pixels, extents):
        last = jax.vmap(lambda image, extent: image[extent[0] - 1, extent[1] - 1])(pixels, extents)
        return params * jnp.stack([pixels[:, 0, 0], last], axis=1).astype(jnp.float32)

    mesh = parallel.data_mesh()
    found = rows.compute(
        corners,
        jax.device_put(jnp.float32(2), parallel.replicated(mesh)),
        images,
        sizes,
        into,
        scale=36,
        pixels=4 * 36 * 72,
        mesh=mesh,
        threads=2,
        description="corners",
        strict=False,
    )
    assert (found.shape, found.dtype) == (shape, np.float32)
    for number, image in enumerate(images):
        if number == 3:
            assert np.isnan(found[number]).all()
            continue
        pixels, _ = decode.load_crop(image["image"], lambda h, w: decode.whole(h, w, 36))
        np.testing.assert_array_equal(found[number], 2.0 * pixels[[0, -1], [0, -1]])


def test_an_origin_is_read_without_the_posteriors(score, tmp_path, monkeypatch):
    scored = score()
    read = []
    original = np.lib.format.read_array
    monkeypatch.setattr(
        np.lib.format,
        "read_array",
        lambda *arguments, **options: read.append(1) or original(*arguments, **options),
    )
    assert scoring.load_origin(tmp_path / "dense.npz") == scored.origin
    assert len(read) == 1


def test_the_rows_of_other_parameters_are_not_taken_up(score, source, trained, tmp_path):
    folder = tmp_path / "dense.partial"
    folder.mkdir()
    (folder / "origin.json").write_text(json.dumps({"step": 1}))
    np.save(folder / "rows.npy", np.zeros((150, 12), np.float32))
    np.save(folder / "done.npy", np.ones(150, bool))
    assert score().log_posteriors.all()


def test_a_file_of_posteriors_in_which_small_ones_tie_is_computed_anew(score, traces, tmp_path):
    """As versions wrote them that did not keep logs: the same origin but for what it holds."""
    first = score()
    origin = {key: value for key, value in first.origin.items() if key != "holds"}
    with np.load(tmp_path / "dense.npz") as arrays:
        arrays = dict(arrays)
    np.savez(
        tmp_path / "dense.npz",
        **{**arrays, "posteriors": first.posteriors, "origin": np.array(json.dumps(origin))},
    )
    count = len(traces)
    again = score()
    assert len(traces) > count
    np.testing.assert_array_equal(again.log_posteriors, first.log_posteriors)


def test_labels_on_disk_that_the_set_no_longer_has_are_not_used(score, survey, tmp_path):
    first = score()
    scoring.save(first._replace(labels=(first.labels + 1) % 12), tmp_path / "dense.npz")
    np.testing.assert_array_equal(score().labels, survey.labels)


def test_scored_images_are_read_as_it_was_written(tmp_path):
    scored = ScoredImages(
        np.log(np.array([[0.5, 0.25, 0.25], [1, 1e-30, 1e-40], [0.1, 0.1, 0.8]], np.float32)),
        np.arange(3),
        ("ä.jpg", "b", "c"),
        ("x", "y", "z"),
        {"a": 1},
    )
    scoring.save(scored, tmp_path / "scored.npz")
    found = scoring.load(tmp_path / "scored.npz")
    np.testing.assert_array_equal(found.log_posteriors, scored.log_posteriors)
    np.testing.assert_array_equal(found.posteriors, np.exp(scored.log_posteriors))
    assert (found.image_ids, found.class_names, found.origin) == scored[2:]
    assert [path.name for path in tmp_path.iterdir()] == ["scored.npz"]


def arrays_of_scored_images(**changes):
    return {
        "posteriors": np.array([[0.25, 0.75], [1.0, 0.0]], np.float32),
        "labels": np.arange(2),
        "image_ids": np.array(["a", "b"]),
        "class_names": np.array(["x", "y"]),
        "origin": np.array("{}"),
        **changes,
    }


def test_a_file_of_posteriors_is_read_as_their_logs(tmp_path):
    np.savez(tmp_path / "old.npz", **arrays_of_scored_images())
    found = scoring.load(tmp_path / "old.npz")
    expected = np.array([[-2 * np.log(2), np.log(0.75)], [0, -np.inf]], np.float32)
    np.testing.assert_allclose(found.log_posteriors, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.arange(3)}, r"2 images and 2 classes, but labels of shape \(3,\)"),
        ({"posteriors": np.ones((2, 3))}, r"posteriors of shape \(2, 3\)"),
        ({"labels": np.array([0.0, 1.0])}, "the labels are float64, not integers"),
    ],
)
def test_arrays_that_do_not_fit_together_are_named(tmp_path, changes, message):
    np.savez(tmp_path / "scored.npz", **arrays_of_scored_images(**changes))
    with pytest.raises(UserError, match=rf"scored\.npz is not a file of posteriors: .*{message}"):
        scoring.load(tmp_path / "scored.npz")


@pytest.mark.parametrize("content", ["missing", "text", "other", "pickle", "cut"])
def test_a_file_that_holds_none_is_named(tmp_path, content):
    path = tmp_path / "scored.npz"
    if content == "text":
        path.write_text("no zip")
    elif content == "other":
        np.savez(path, images=np.zeros(3))
    elif content == "pickle":
        np.savez(path, posteriors=np.array([{"code": print}], dtype=object))
    elif content == "cut":
        np.savez(path, posteriors=np.zeros(1000))
        path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=r"scored\.npz"):
        scoring.load(path)


def test_a_scale_that_is_too_small_is_refused_before_anything_is_read(trained):
    with pytest.raises(UserError, match="Q=31 is below vgg_a's crop, 32"):
        scoring.require_view(trained, "multi_crop", 31)
    scoring.require_view(trained, "multi_crop", 32)
    with pytest.raises(UserError, match="Q=31 is too small for vgg_a: .* layer pool5"):
        scoring.require_view(trained, "dense", 31)
    scoring.require_view(trained, "dense", 32)


@pytest.fixture(scope="module")
def cifar(trained):
    """Return the AlexNet paper's CIFAR-10 net with random weights, for the embedded classes."""
    config = cifar10.get_config()
    config.model.initializer = "he"
    network = create_model(config, 12)
    params = jax.jit(network.init)(jax.random.key(0, impl="rbg"), np.zeros((1, 24, 24, 3)))
    params = jax.tree.map(lambda w: w / 4 if w.shape[0] == 6 else w, params["params"])  # of fc10
    mean_image = np.random.default_rng(0).uniform(100, 150, (32, 32, 3)).astype(np.float32)
    return trained._replace(
        network=network,
        config=config,
        params=params,
        colors=trained.colors._replace(mean_image=mean_image),
    )


def test_the_nine_views_have_their_own_part_of_the_mean_image_subtracted(score, source, cifar):
    """From files to posteriors, against a loop over CIFAR-10's offsets in each central square."""
    found = score(trained=cifar, view="nine_view", scale=32).posteriors

    @jax.jit
    def says(crops):
        return jax.nn.softmax(cifar.network.apply({"params": cifar.params}, crops)[:, 0, 0])

    for number in range(0, 150, 30):
        pixels, _ = decode.load_crop(
            source[number]["image"], lambda height, width: decode.whole(height, width, 32)
        )
        top, left = ((length - 32) // 2 for length in pixels.shape[:2])
        square = pixels[top : top + 32, left : left + 32] - cifar.colors.mean_image
        crops = [square[i : i + 24, j : j + 24] for i in (0, 4, 8) for j in (0, 4, 8)]
        expected = np.asarray(says(np.stack(crops)), np.float64).mean(axis=0)
        np.testing.assert_allclose(found[number], expected, atol=1e-5)
    assert np.ptp(found, axis=0).max() > 0.05


def test_a_net_with_local_layers_is_not_applied_densely(cifar):
    with pytest.raises(UserError, match="cifar10_13pct has locally connected .*=nine_view"):
        scoring.require_view(cifar, "dense", 32)
    scoring.require_view(cifar, "center", 32)
