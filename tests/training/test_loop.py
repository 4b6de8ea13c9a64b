"""The loop on a small set in memory: broken images, a stuck net, one that diverges."""

import io
import json
import re
import shutil
import signal
import time
import types
from pathlib import Path

import jax
import numpy as np
import PIL.Image
import pytest

from configs import alexnet, quickstart
from deepconv import parallel
from deepconv.config import recipe
from deepconv.config.check import _RULES
from deepconv.data.sources import datasets
from deepconv.data.sources.identity import Identity, Part
from deepconv.exceptions import Interrupted, UserError
from deepconv.run import log, workdir
from deepconv.run.parameters import SavedParameters
from deepconv.run.workdir import require_same_length
from deepconv.training import loop
from deepconv.training.stage import mesh_for, open_all
from tests.faults.processes import checksums

pytestmark = pytest.mark.slow


class Pictures:
    """Noise in JPEGs whose brightness gives the class away; records may be broken."""

    LABELS = {}  # of the records whose label is not their picture's

    def __init__(self, count, broken=(), classes=3):
        rng = np.random.default_rng(0)
        self.records = []
        for number in range(count):
            label = number % classes
            pixels = rng.integers(80 * label, 80 * label + 60, (40, 44, 3), np.uint8)
            file = io.BytesIO()
            PIL.Image.fromarray(pixels).save(file, "JPEG")
            data = file.getvalue()
            self.records.append(
                {
                    "image": data[: len(data) // 2] if number in broken else data,
                    "label": self.LABELS.get(number, label),
                    "file_name": f"picture_{number}.jpg",
                }
            )

    def __len__(self):
        return len(self.records)

    def __getitem__(self, number):
        return self.records[number]


def make_config(**values):
    config = quickstart.get_config()
    with config.unlocked():
        config.update_from_flattened_dict(
            {
                "model.crop": 32,
                "model.width": 1 / 16,
                "input.scale": (36, 36),
                "evaluation.scale": 36,
                "evaluation.batch_size": 16,
                "train.batch_size": 16,
                "train.epochs": 2.0,
                "train.log_steps": 1,
                **values,
            }
        )
    return config


def identify(class_names, train, evaluation):
    return Identity(
        class_names, Part("train", "", train, {}), Part("validation", "", evaluation, {})
    )


@pytest.fixture
def train(tmp_path, monkeypatch):
    def run(config, broken=(), broken_eval=(), **options):
        identity = identify(("a", "b", "c"), 96, 20)
        data = datasets.Dataset(Pictures(96, broken), Pictures(20, broken_eval), identity, tmp_path)
        monkeypatch.setattr(datasets, "open_dataset", lambda **_: data)
        return loop.train(config, tmp_path / "run", **options)

    return run


def rows(tmp_path, kind):
    every = log.read_metrics(tmp_path / "run" / "metrics.jsonl")
    return [row for row in every if row["kind"] == kind]


def without_times(tmp_path):
    every = log.read_metrics(tmp_path / "run" / "metrics.jsonl")
    return [{**row, "images_per_second": None} for row in every]


def test_a_run_reports_each_step_and_each_epoch(train, tmp_path):
    result = train(make_config())
    assert [row["step"] for row in rows(tmp_path, "train")] == list(range(1, 13))
    assert [row["step"] for row in rows(tmp_path, "eval")] == [6, 12]
    assert [row["images"] for row in rows(tmp_path, "eval")] == [20, 20]
    assert result["best"]["top1_error"] == min(r["top1_error"] for r in rows(tmp_path, "eval"))
    assert result == json.loads((tmp_path / "run" / "result.json").read_text())


def test_broken_images_are_named_and_counted_and_the_run_goes_on(train, tmp_path):
    result = train(make_config(**{"input.max_unreadable": 0.05}), broken=(5, 50))
    names = ["picture_5.jpg", "picture_50.jpg"]
    assert sorted(result["unreadable_training_images"]) == sorted(names)
    events = [row for row in rows(tmp_path, "event") if row["name"] == "unreadable_image"]
    assert sorted(row["file"] for row in events) == sorted(names)
    assert result["steps"] == 12


def test_too_many_broken_images_end_the_run(train):
    with pytest.raises(UserError, match="input.max_unreadable"):
        train(make_config(), broken=range(0, 96, 8))


def test_a_broken_image_in_the_evaluation_set_is_named(train):
    with pytest.raises(UserError, match=r"picture_7\.jpg"):
        train(make_config(), broken_eval=(7,))


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_no_class_has_is_named(train, monkeypatch, label):
    monkeypatch.setitem(Pictures.LABELS, 7, label)
    with pytest.raises(UserError, match=rf"picture_7\.jpg has label {label}, .* 3 classes"):
        train(make_config())


def test_a_net_that_says_the_same_of_every_image_is_called_stuck(train, tmp_path):
    # The paper's Gaussian, in a net too deep and narrow for it.
    train(make_config(**{"model.initializer": "paper", "train.epochs": 1.0}))
    (event,) = [row for row in rows(tmp_path, "event") if row["name"] == "stuck_at_ln_C"]
    assert event["ln_C"] == pytest.approx(np.log(3))
    assert "vanished" in event["reason"]


def test_a_healthy_net_that_has_learned_nothing_yet_is_not_called_stuck(train, tmp_path):
    train(make_config(**{"optimizer.learning_rate": 1e-9, "train.epochs": 1.0}))
    assert [row["name"] for row in rows(tmp_path, "event")] == []


def test_a_complete_run_continues_to_more_epochs_as_if_it_had_them_from_the_start(train, tmp_path):
    options = {"schedule.name": "constant", "plateau.max_drops": 1}
    result = train(make_config(**options, **{"train.epochs": 1.0}))
    assert train(make_config(**options, **{"train.epochs": 1.0})) == result
    longer = make_config(**options, **{"train.epochs": 2.0})
    extended = train(longer)
    assert (extended["steps"], extended["epochs"]) == (2 * result["steps"], 2.0)
    with pytest.raises(UserError, match=r"train\.epochs is 2\.0 there but 1\.0 here"):
        train(make_config(**options, **{"train.epochs": 1.0}))
    with pytest.raises(UserError, match=r"plateau\.max_drops is 1 there but 0 here"):
        train(make_config(**{**options, "plateau.max_drops": 0}, **{"train.epochs": 2.0}))
    measured = without_times(tmp_path)
    (tmp_path / "run").rename(tmp_path / "extended")
    train(longer)
    assert measured == without_times(tmp_path)


def test_a_cosine_cannot_be_made_longer(train):
    train(make_config(**{"schedule.name": "cosine", "train.epochs": 0.5}))
    with pytest.raises(UserError, match=r"train\.epochs is 0\.5 there but 1\.0 here"):
        train(make_config(**{"schedule.name": "cosine", "train.epochs": 1.0}))


def test_every_field_of_a_run_is_documented(narrow_run, boxes_run, train, tmp_path):
    text = Path("docs/runs.md").read_text()
    documented = {*re.findall(r"^\| `(\w+)`", text, re.MULTILINE)}
    ends = {"plateau.patience": 1, "plateau.min_delta": 0.9, "plateau.max_drops": 1}
    train(make_config(**ends, **{"input.max_unreadable": 0.1, "train.epochs": 4.0}), broken=(3,))
    written = set()
    for run in (narrow_run, boxes_run, tmp_path / "run"):
        result = json.loads((run / "result.json").read_text())
        written |= {*result} | {*result["last"]} | {*result["best"]}
        metrics = log.read_metrics(run / "metrics.jsonl")
        written |= {key for row in metrics for key in row}
        written |= {row["name"] for row in metrics if row["kind"] == "event"}
    assert {"unreadable_image", "learning_rate_drop", "training_ends_at_plateau"} <= written
    assert written <= documented
    assert documented <= written | {"stuck_at_ln_C", "loss", "ln_C", "reason", "ranking_error"}


def test_a_run_from_which_another_has_started_stays_as_long_as_it_was(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    config = make_config(**{"train.epochs": 1.0})
    for folder in (first, second):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config.to_dict()))
        (folder / "metrics.jsonl").touch()
    require_same_length(first, config, second)
    with pytest.raises(UserError, match=r"train\.epochs is larger .* has started"):
        require_same_length(first, make_config(**{"train.epochs": 2.0}), second)
    require_same_length(first, make_config(**{"train.epochs": 2.0}), tmp_path / "third")


def test_a_run_that_diverges_stops_and_names_the_step(train, tmp_path):
    config = make_config(**{"optimizer.learning_rate": 1e9})
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step \d+"):
        train(config)
    assert not list((tmp_path / "run" / "checkpoints").glob("0*"))


def test_the_layer_that_makes_the_loss_no_number_is_named_and_good_checkpoints_are_kept(
    train, tmp_path, monkeypatch
):
    # From the fourth step on the rate is enormous, which no config may ask for.
    monkeypatch.delitem(_RULES, "plateau.factor")
    config = make_config(
        **{
            "schedule.name": "steps",
            "schedule.drop_epochs": (0.5,),
            "plateau.factor": 1e12,
            "checkpoint.every_steps": 3,
            "train.log_steps": 100,
        }
    )
    with pytest.raises(UserError, match=r"at step [56].*activations of \w+ have exploded"):
        train(config, debug_nans=True)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("0*")] == ["00000003"]
    leaves = jax.tree.leaves(params_of(tmp_path / "run", which="last"))
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    with pytest.raises(UserError, match=r"at step [56].*--debug_nans finds the layer"):
        train(config)


def test_a_clock_that_jumps_changes_nothing(train, tmp_path, monkeypatch):
    config = make_config(**{"train.epochs": 1.0})
    train(config)
    (tmp_path / "run").rename(tmp_path / "steady")
    jumps, clock = np.random.default_rng(0), time.time
    # Orbax gives up a save in which the clock goes forward by more than five minutes.
    monkeypatch.setattr("time.time", lambda: clock() + float(jumps.uniform(-100, 100)))
    train(config)
    assert checksums(tmp_path / "run") == checksums(tmp_path / "steady")


def test_a_disk_without_room_for_the_checkpoints_is_refused(train, tmp_path, monkeypatch, caplog):
    with caplog.at_level("INFO", logger="deepconv"):
        train(make_config(**{"train.epochs": 0.1}))
    needed = float(re.search(r"checkpoints need up to ([\d.]+) MB", caplog.text).group(1))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(params_of(tmp_path / "run")))
    assert needed == pytest.approx(4 * parameters * (3 * 2 + 2) / 1e6, abs=0.1)
    (tmp_path / "run").rename(tmp_path / "first")
    monkeypatch.setattr(workdir.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"checkpoints need up to .*, but only 0\.0 MB is free"):
        train(make_config())
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_the_rate_drops_at_plateaus_and_the_last_plateau_ends_the_run(train, tmp_path):
    config = make_config(
        **{
            "optimizer.learning_rate": 1e-9,
            "plateau.patience": 1,
            "plateau.max_drops": 2,
            "train.epochs": 50.0,
        }
    )
    result = train(config)
    rates = [row["learning_rate"] for row in rows(tmp_path, "train")]
    expected = np.repeat([1e-9, 1e-10, 1e-11], [12, 6, 6])
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
    assert result["steps"] == 24
    assert result["learning_rate_drops"] == 2  # the third plateau ends the run
    names = [row["name"] for row in rows(tmp_path, "event")]
    assert names.count("learning_rate_drop") == 2
    assert names[-1] == "training_ends_at_plateau"


def test_fixed_epochs_drop_the_rate_whatever_the_error_says(train, tmp_path):
    config = make_config(
        **{
            "schedule.name": "steps",
            "schedule.drop_epochs": (1.0, 2.5),
            "plateau.patience": 1,
            "train.epochs": 3.0,
        }
    )
    result = train(config)
    rates = [row["learning_rate"] for row in rows(tmp_path, "train")]
    np.testing.assert_allclose(rates, np.repeat([5e-3, 5e-4, 5e-5], [6, 9, 3]), rtol=1e-5)
    assert result["steps"] == 18
    assert result["learning_rate_drops"] == 2


def test_a_drop_that_no_update_sees_is_not_counted(train):
    # The second one would come with the seventh update, the third in epochs that are never run.
    drops = {"schedule.name": "steps", "schedule.drop_epochs": (0.5, 1.0, 1e30)}
    config = make_config(**drops, **{"train.epochs": 1.0})
    assert train(config)["learning_rate_drops"] == 1


def params_of(run, which="best"):
    saved = SavedParameters(run, which=which)
    sharding = parallel.replicated(parallel.data_mesh())
    return jax.device_get(saved.read(list(saved.shapes), sharding))


def test_a_run_starts_from_the_layers_of_another_and_trains_only_those_asked_for(
    train, tmp_path, caplog
):
    train(make_config(**{"train.epochs": 1.0}))
    first = (tmp_path / "run").rename(tmp_path / "first")
    config = make_config(
        **{
            "model.name": "vgg_b",
            "init.checkpoint": str(first),
            "init.layers": "conv1_1|conv2_1|fc.*",
            "optimizer.trained_layers": "fc.*",
            "train.epochs": 1.0,
        }
    )
    with caplog.at_level("INFO", logger="deepconv"):
        train(config)
    before, after = params_of(first), params_of(tmp_path / "run")
    np.testing.assert_array_equal(after["conv1_1"]["kernel"], before["conv1_1"]["kernel"])
    assert (after["fc6"]["kernel"] != before["fc6"]["kernel"]).any()
    assert "conv1_2  random" in caplog.text
    assert "conv3_1  skipped" in caplog.text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model.name": "vgg_b"}, "no layer conv1_2"),
        ({"model.width": 1 / 8}, "conv1_1 is 3x3x3x4 in the source but 3x3x3x8 here"),
        ({"init.layers": "fc9"}, "'fc9' matches none of the layers"),
    ],
)
def test_a_run_that_does_not_fit_is_refused(train, tmp_path, values, words):
    train(make_config(**{"train.epochs": 0.5}))
    first = (tmp_path / "run").rename(tmp_path / "first")
    with pytest.raises(UserError, match=words):
        train(make_config(**{"init.checkpoint": str(first), **values}))


def alexnet_config(**values):
    config = alexnet.get_config("tiny")
    small = {
        "model.width": 1 / 32,
        "model.initializer": "he",
        "model.keep_gain": False,
        "optimizer.learning_rate": 0.001,
        "evaluation.batch_size": 16,
        "train.batch_size": 16,
        "train.epochs": 1.0,
        "train.log_steps": 1,
        "checkpoint.every_steps": 2,
        **values,
    }
    config.update_from_flattened_dict(small)
    return config


def test_a_run_of_towers_on_devices_is_taken_up_without_them(train, tmp_path):
    train(alexnet_config(**{"train.model_devices": 2}))
    run = tmp_path / "run"
    towers = params_of(run)
    (run / "result.json").unlink()
    for folder in ("checkpoints", "best"):
        shutil.rmtree(run / folder / "00000006")
    assert train(alexnet_config())["devices"].startswith("8 x")
    first = min(row["step"] for row in rows(tmp_path, "train")[-2:])
    assert first == 5
    # Two updates by programs of other roundings: they differed by less than a fiftieth of this. An
    # output that crosses a ReLU's zero moves a gradient by a percent, a parameter by 0.001 of that.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), params_of(run), towers
    )


def test_towers_on_devices_start_from_the_layers_of_any_run(train, tmp_path):
    train(alexnet_config(**{"train.epochs": 0.2}))
    first = (tmp_path / "run").rename(tmp_path / "first")
    transferred = {"init.checkpoint": str(first), "optimizer.trained_layers": "fc8"}
    train(alexnet_config(**{"train.model_devices": 2, "train.epochs": 0.2, **transferred}))
    for leaf in ("kernel", "bias"):
        np.testing.assert_array_equal(
            params_of(first)["conv2"][leaf], params_of(tmp_path / "run")["conv2"][leaf]
        )


def test_a_net_pretrained_on_more_classes_is_fine_tuned_with_a_new_fc8(tmp_path, monkeypatch):
    def open_dataset(name, **_):
        classes = ("a", "b", "c") if name == "larger" else ("a", "b")
        sets = [Pictures(count, classes=len(classes)) for count in (32, 8)]
        return datasets.Dataset(*sets, identify(classes, *map(len, sets)), tmp_path / name)

    monkeypatch.setattr(datasets, "open_dataset", open_dataset)
    config = alexnet_config(**{"model.conv6": True})
    config.recipe.update(name="pretrained", pretrain_dataset="larger")
    config.optimizer.trained_layers = "fc8"
    first, second = recipe.stages(config)
    loop.train(first.config, tmp_path / first.name)
    result = loop.train(second.config, tmp_path / second.name, tmp_path / second.source)
    assert result["classes"] == 2
    before, after = (params_of(tmp_path / stage.name) for stage in (first, second))
    assert (before["fc8"]["kernel"].shape[-1], after["fc8"]["kernel"].shape[-1]) == (3, 2)
    for layer in ("conv1", "conv6", "fc7"):
        np.testing.assert_array_equal(after[layer]["kernel"], before[layer]["kernel"])


@pytest.mark.parametrize(
    ("saved", "step", "said"),
    [
        (None, 0, "no step is lost; nothing has been saved"),
        (None, 1, "step 1 is lost; nothing has been saved"),
        (None, 7, "steps 1 to 7 are lost; nothing has been saved"),
        (12, 12, "no step is lost; run the same command to resume from the checkpoint of step 12"),
        (12, 13, "step 13 is lost; run the same"),
        (
            12,
            20,
            "steps 13 to 20 are lost; run the same command to resume from the checkpoint of step "
            "12",
        ),
    ],
)
def test_what_is_lost_is_said(saved, step, said):
    assert loop._lost(saved, step).startswith(said)


def test_told_to_stop_in_its_last_step_a_run_is_complete_and_no_further_stage_begins(
    train, tmp_path, monkeypatch
):
    class Last(parallel.Preemption):
        def told(self):
            return signal.SIGINT

    monkeypatch.setattr(parallel, "Preemption", Last)
    with pytest.raises(Interrupted, match="interrupted, this run is complete; run the same"):
        train(make_config(**{"train.epochs": 0.5}))
    assert json.loads((tmp_path / "run" / "result.json").read_text())["steps"] == 3


def test_a_data_set_with_fewer_images_than_a_batch(train):
    with pytest.raises(UserError, match="has 96 training images, fewer than train.batch_size=104"):
        train(make_config(**{"train.batch_size": 104}))


def test_stages_of_the_same_data_open_it_once_and_a_wrong_config_opens_none(
    train, monkeypatch, tmp_path
):
    train(make_config(**{"train.epochs": 0.2}))  # which has put the set in memory in its place
    opened, open_dataset = [], datasets.open_dataset
    monkeypatch.setattr(
        datasets, "open_dataset", lambda **key: opened.append(key) or open_dataset(**key)
    )
    good, bad = make_config(), make_config(**{"train.batch_size": 12})
    with pytest.raises(UserError, match="train.batch_size=12"):
        open_all([(good, None, tmp_path), (bad, None, tmp_path)])
    assert not opened
    first, second = open_all([(good, None, tmp_path), (make_config(seed=1), None, tmp_path)])
    assert len(opened) == 1
    assert first.dataset is second.dataset


def test_an_odd_number_of_devices_for_two_towers(monkeypatch):
    three = jax.devices()[:3]
    monkeypatch.setattr(jax, "devices", lambda: three)
    with pytest.raises(UserError, match="an even number of devices in each process, not 3"):
        mesh_for(alexnet_config(**{"train.model_devices": 2}))


def test_pairs_of_devices_divide_a_batch():
    config = alexnet_config(**{"train.model_devices": 2, "train.batch_size": 12})
    mesh_for(config)
    config.train.batch_size = 10
    with pytest.raises(UserError, match="train.batch_size=10 .* 4 pairs of devices"):
        mesh_for(config)


def test_two_processes_do_not_work_in_one_folder(train, tmp_path):
    with (
        workdir.claim(tmp_path / "run", make_config(), identify(("a", "b", "c"), 96, 20)),
        pytest.raises(UserError, match="another process is writing to"),
    ):
        train(make_config())
