"""The four stages of a narrow E by one command, killed twice on the way (real processes)."""

import pytest

from tests.faults.processes import Command, checksums

pytestmark = pytest.mark.slow

SETTINGS = (
    "--config.model.width=0.0625",
    "--config.dataset.train_split=train[:192]",
    "--config.dataset.eval_split=validation[:60]",
    "--config.train.batch_size=32",
    "--config.train.epochs=1.5",
    "--config.train.log_steps=1",
    "--config.evaluation.batch_size=32",
    "--config.checkpoint.every_steps=2",
)
STAGES = ("vgg_a_256", "vgg_e_256", "vgg_e_384", "vgg_e_jitter")


def all_checksums(folder):
    return {stage: checksums(folder / stage) for stage in STAGES}


@pytest.fixture(scope="module")
def command(shapes_root):
    return Command("configs/vgg_e.py:tiny", SETTINGS, shapes_root)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, command):
    folder = tmp_path_factory.mktemp("recipe")
    return folder, command.finish(folder)


def test_the_plan_comes_first_and_every_stage_says_what_it_starts_from(undisturbed):
    folder, output = undisturbed
    assert output.index("vgg_e_jitter") < output.index("starting from random weights")
    for stage, source in zip(STAGES[1:], STAGES, strict=False):
        assert f"starting from {folder / source}" in output, stage
    assert {path.parent.name for path in folder.glob("*/result.json")} == set(STAGES)


def test_killed_twice_the_recipe_ends_bit_identical(undisturbed, tmp_path, command, kill_at):
    kill_at(command, tmp_path, 5, run=tmp_path / "vgg_a_256")
    kill_at(command, tmp_path, 1, run=tmp_path / "vgg_e_384")  # before or during its first save
    command.finish(tmp_path)
    assert all_checksums(tmp_path) == all_checksums(undisturbed[0])


def test_complete_stages_are_not_repeated(undisturbed, command):
    folder, _ = undisturbed
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/checkpoints/*")}
    output = command.finish(folder)
    assert output.count("complete") >= len(STAGES)
    assert "starting from" not in output
    assert before == {path: path.stat().st_mtime_ns for path in folder.glob("*/checkpoints/*")}
