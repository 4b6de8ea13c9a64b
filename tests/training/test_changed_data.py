"""A folder of pictures that changes under a run: nothing is trained, scored or written."""

import os
import shutil

import numpy as np
import PIL.Image
import pytest

from configs import quickstart
from deepconv import atomic, parallel
from deepconv.exceptions import Preempted, UserError
from deepconv.inference import rows, scoring
from deepconv.inference.evaluate import Request, evaluate
from deepconv.training import loop
from tests.faults.processes import Command

pytestmark = pytest.mark.slow  # nearly all of them train

CLASSES = ("arrow", "bolt", "cross")


def draw(path, seed, shape=(40, 44)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(path, "PNG")


def draw_set(folder, count=20, seed=0):
    for label, name in enumerate(CLASSES):
        for number in range(count):
            draw(folder / name / f"{number:02d}.png", (seed, label, number))


def make_config(folder, data_dir):
    config = quickstart.get_config()
    with config.unlocked():
        config.update_from_flattened_dict(
            {
                "model.crop": 32,
                "model.width": 1 / 32,
                "dataset.name": f"folder:{folder}",
                "dataset.data_dir": str(data_dir),
                "input.scale": (36, 36),
                "evaluation.scale": 36,
                "evaluation.batch_size": 8,
                "train.batch_size": 16,
                "train.epochs": 2.0,
            }
        )
    return config


@pytest.fixture(autouse=True)
def few_programs(monkeypatch):
    monkeypatch.setattr(rows, "MOST_BUCKETS", 1)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """Return (pictures, run): a run that has been told to stop at its third step."""
    root = tmp_path_factory.mktemp("interrupted")
    draw_set(root / "set")
    steps = iter(range(3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel.Preemption, "reached", lambda self: next(steps) == 2)
        with pytest.raises(Preempted):
            loop.train(make_config(root / "set", root), root / "run")
    return root / "set", root / "run"


@pytest.fixture
def run(interrupted, tmp_path):
    """Return copies (pictures, run, config) that a test may change; the times are kept."""
    for source, name in zip(interrupted, ("set", "run"), strict=True):
        shutil.copytree(source, tmp_path / name)
    config = make_config(interrupted[0], tmp_path)
    with config.unlocked():
        config.dataset.name = f"folder:{tmp_path / 'set'}"
    atomic.write_json(tmp_path / "run" / "config.json", config.to_dict())
    return tmp_path / "set", tmp_path / "run", config


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
    return {path.relative_to(folder): path.read_bytes() for path in files}


def replace_all(folder):
    draw_set(folder, seed=1)


def touch(folder):
    os.utime(folder / "bolt" / "03.png", (0, 0))


CHANGES = {
    "class renamed": (
        lambda folder: (folder / "arrow").rename(folder / "zarrow"),
        "class 'arrow' is missing, class 'zarrow' is new",
    ),
    "class added": (lambda folder: draw(folder / "ankh" / "1.png", 9), "class 'ankh' is new"),
    "picture added": (
        lambda folder: draw(folder / "bolt" / "99.png", 9),
        "it had 54 training images and now has 55, for example in 'bolt'",
    ),
    "picture removed": (
        lambda folder: [(folder / "bolt" / f"{n:02d}.png").unlink() for n in range(4)],
        "it had 54 training images and now has 50, for example in 'bolt'",
    ),
    "picture renamed": (
        lambda folder: (folder / "bolt" / "03.png").rename(folder / "bolt" / "3.png"),
        "training images have different names or sizes, for example in 'bolt'",
    ),
    "pictures replaced": (replace_all, "training images"),
    "picture touched": (touch, "different modification times (if they are copies"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_does_not_go_on_with_other_data(run, change):
    folder, workdir, config = run
    make, words = CHANGES[change]
    before = contents(workdir)
    make(folder)
    with pytest.raises(UserError) as error:
        loop.train(config, workdir)
    assert words in str(error.value)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)
    assert contents(workdir) == before


def test_a_run_goes_on_with_the_same_data_and_a_complete_one_notices_a_change_too(run):
    folder, workdir, config = run
    result = loop.train(config, workdir)
    assert result["steps"] == 7
    assert loop.train(config, workdir) == result
    draw(folder / "cross" / "99.png", 9)
    with pytest.raises(UserError, match="in 'cross'"):
        loop.train(config, workdir)


def test_copies_of_the_same_files_are_taken_once_they_are_accepted(run):
    folder, workdir, config = run
    touch(folder)
    (workdir / "dataset.json").unlink()
    assert loop.train(config, workdir)["steps"] == 7
    assert (workdir / "dataset.json").exists()


def test_a_run_of_an_earlier_version_is_known_by_its_classes(run):
    folder, workdir, config = run
    (workdir / "dataset.json").unlink()
    (folder / "arrow").rename(folder / "zarrow")
    with pytest.raises(UserError, match="class 'arrow' is missing"):
        loop.train(config, workdir)


def test_stored_posteriors_are_of_the_images_that_are_there(run, tmp_path):
    _, workdir, _ = run
    other = tmp_path / "other"
    draw_set(other, 3)
    dataset = {"name": f"folder:{other}"}
    first = evaluate([workdir], Request("center"), dataset=dataset)
    says = scoring.load(first["posteriors"]).posteriors
    assert evaluate([workdir], Request("center"), dataset=dataset)["origin"] == first["origin"]
    draw_set(other, 3, seed=1)
    second = evaluate([workdir], Request("center"), dataset=dataset)
    assert (scoring.load(second["posteriors"]).posteriors != says).any()


@pytest.mark.parametrize(
    ("layout", "split", "images", "printed"),
    [
        ("plain", None, 9, "all"),
        ("plain", "all", 9, "all"),
        ("plain", "validation", 3, "validation (held out)"),
        ("plain", "train", 6, "train (without those held out)"),
        ("parts", None, 6, "validation"),
        ("parts", "train", 9, "train"),
        ("parts", "test", 3, "test"),
    ],
)
def test_what_is_scored_is_what_is_printed(run, tmp_path, layout, split, images, printed):
    _, workdir, _ = run
    other = tmp_path / "other"
    for part, count in {"train": 3, "valid": 2, "test": 1}.items():
        draw_set(other / part if layout == "parts" else other, count, seed=count)
        if layout == "plain":
            break
    dataset = {"name": f"folder:{other}"} | ({"eval_split": split} if split else {})
    result = evaluate([workdir], Request("center"), dataset=dataset)
    assert result["images"] == images
    assert result["title"].endswith(f"folder:{other}, {printed}")


def test_a_split_that_is_not_there_is_refused(run):
    _, workdir, _ = run
    with pytest.raises(UserError, match="no split 'banana'; its splits are train, validation, all"):
        evaluate([workdir], Request("center"), dataset={"eval_split": "banana"})


def test_a_run_is_not_scored_on_what_it_may_have_been_trained_on(run):
    folder, workdir, _ = run
    assert evaluate([workdir], Request("center"))["images"] == 6
    for number in range(20, 40):
        draw(folder / "bolt" / f"{number}.png", number)
    with pytest.raises(UserError, match="may have been trained on some of the"):
        evaluate([workdir], Request("center"))


def test_two_processes_that_see_other_pictures_end_at_the_start(tmp_path):
    homes = [tmp_path / name for name in ("one", "two")]
    for home, count in zip(homes, (20, 18), strict=True):
        draw_set(home / "set", count)
    settings = (
        "--config.model.width=0.03125",
        "--config.model.crop=32",
        "--config.input.scale=(36,36)",
        "--config.evaluation.scale=36",
        "--config.train.batch_size=16",
        "--config.evaluation.batch_size=8",
        "--config.dataset.name=folder:~/set",
    )
    command = Command("configs/quickstart.py", settings, tmp_path)
    identities = tuple({"HOME": str(home)} for home in homes)
    run = tmp_path / "run"
    processes = command.start(run, processes=2, environments=identities, join=True)
    assert [process.wait() for process in processes] == [2, 2]
    assert "process 1 and process 0 see different versions of folder:~/set" in processes[0].output()
    assert "it had 54 training images and now has 48" in processes[0].output()
    assert not (run / "metrics.jsonl").exists()


def test_one_process_without_the_pictures_ends_all(tmp_path, monkeypatch):
    def gather(value):
        return [value, "folder:/set has no class folders"]

    monkeypatch.setattr(parallel, "gather", gather)
    monkeypatch.setattr(parallel, "on_first", lambda call: call())
    with pytest.raises(UserError, match="process 1: folder:/set has no class folders"):
        parallel.first_then_all(lambda: "opened")
