"""A run killed and started again ends bit-identical to one that never was (real processes)."""

import json

import pytest

from deepconv.run import log
from experiments.processes import checksums

STEPS = 40


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, quickstart):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    quickstart.finish(folder)
    return folder


def test_killed_twice_a_run_ends_bit_identical(tmp_path, quickstart, undisturbed, kill_at):
    folder = tmp_path / "run"
    kill_at(quickstart, folder, 5)
    kill_at(quickstart, folder, 17)
    output = quickstart.finish(folder)
    assert "going on from the checkpoint of step" in output
    assert checksums(folder) == checksums(undisturbed)

    def history(run):
        rows = log.read_metrics(run / "metrics.jsonl")
        return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]

    # The first report after a restart covers fewer steps, so that only those of every step compare.
    assert history(folder) == history(undisturbed)


def test_a_complete_run_is_only_reported(quickstart, undisturbed):
    before = checksums(undisturbed)
    result = json.loads((undisturbed / "result.json").read_text())
    output = quickstart.finish(undisturbed)
    assert "top-1 error" in output
    assert checksums(undisturbed) == before
    assert json.loads((undisturbed / "result.json").read_text()) == result


def test_result_names_what_a_program_wants_to_know(undisturbed):
    result = json.loads((undisturbed / "result.json").read_text())
    assert result["steps"] == STEPS
    assert result["last"]["images"] == 60
    assert result["classes"] == 12
    assert 0 <= result["best"]["top1_error"] <= 1
    assert result["versions"]["jax"]
    assert (undisturbed / "curves.png").stat().st_size > 10_000
    assert list((undisturbed / "tensorboard").glob("events*"))


def test_a_folder_with_a_run_of_another_config_is_left_alone(quickstart, undisturbed):
    before = sorted((p, p.stat().st_mtime_ns) for p in undisturbed.rglob("*") if p.name != "lock")
    (process,) = quickstart.start(undisturbed, "--config.optimizer.learning_rate=0.02")
    assert process.wait() == 2
    output = process.output()
    line = output.strip().splitlines()[-1]
    assert "optimizer.learning_rate is 0.005 there and 0.02 here" in line
    assert "Traceback" not in output
    assert before == sorted(
        (p, p.stat().st_mtime_ns) for p in undisturbed.rglob("*") if p.name != "lock"
    )
