"""A run killed and started again ends bit-identical to one that never was (real processes)."""

import json
import re
import signal
import time

import pytest

from deepconv.run import log
from tests.faults.processes import PATIENCE_SECONDS, checksums, wait_for_step

pytestmark = pytest.mark.slow

STEPS = 40
FIRST = "saving, then stopping; press Ctrl-C again to stop immediately"


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
    assert "resuming from the checkpoint of step" in output
    assert checksums(folder) == checksums(undisturbed)

    def history(run):
        rows = log.read_metrics(run / "metrics.jsonl")
        return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]

    # The first report after a restart covers fewer steps, so that only those of every step compare.
    assert history(folder) == history(undisturbed)


@pytest.fixture
def heeded():
    """Let the processes of a test heed SIGINT, which a background command's would ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_interrupted_a_run_saves_and_ends_bit_identical(tmp_path, quickstart, undisturbed, heeded):
    folder = tmp_path / "run"
    processes = quickstart.start(folder, "--config.checkpoint.every_steps=1000")
    wait_for_step(processes, folder, 5)
    processes[0].handle.send_signal(signal.SIGINT)
    assert processes[0].wait() == 130
    output = processes[0].output()
    assert "Traceback" not in output
    assert FIRST in output
    line = output.strip().splitlines()[-1]
    saved = r"deepconv: interrupted, saved at step (\d+) of 40; run the same command to resume"
    step = int(re.fullmatch(saved, line).group(1))
    assert 5 <= step < STEPS
    output = quickstart.finish(folder)
    assert f"resuming from the checkpoint of step {step}" in output
    assert checksums(folder) == checksums(undisturbed)


def test_interrupted_before_the_first_step_a_run_says_that_nothing_is_saved(
    tmp_path, quickstart, heeded
):
    # Another width than any that has been compiled already.
    (process,) = quickstart.start(tmp_path / "run", "--config.model.width=0.07")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "starting from random weights" not in process.output():
        assert time.monotonic() < deadline, process.output()
        time.sleep(0.02)
    process.handle.send_signal(signal.SIGINT)
    assert process.wait() == 130
    line = process.output().strip().splitlines()[-1]
    assert re.match(r"deepconv: .*nothing (new )?has been saved[,;:] .*same command .*start", line)
    assert not list((tmp_path / "run" / "checkpoints").glob("0*"))


def test_interrupted_one_of_two_processes_stops_both_at_one_step(tmp_path, quickstart, heeded):
    processes = quickstart.start(tmp_path, processes=2)
    wait_for_step(processes, tmp_path, 5)
    processes[1].handle.send_signal(signal.SIGINT)
    assert [process.wait() for process in processes] == [130, 130], processes[0].output()
    said = {
        re.search(r"deepconv: interrupted, saved at step (\d+) of 40", process.output())[1]
        for process in processes
    }
    assert len(said) == 1
    assert (tmp_path / "checkpoints" / said.pop().zfill(8)).is_dir()
    assert FIRST in processes[1].output()


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
    assert "optimizer.learning_rate is 0.005 there but 0.02 here" in line
    assert "Traceback" not in output
    assert before == sorted(
        (p, p.stat().st_mtime_ns) for p in undisturbed.rglob("*") if p.name != "lock"
    )
