"""A run killed and started again ends bit-identical to one that never was (real processes)."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deepconv import reporting

ROOT = Path(__file__).parents[2]
SETTINGS = (
    "--config.model.width=0.0625",
    "--config.dataset.train_split=train[:320]",
    "--config.dataset.eval_split=validation[:60]",
    "--config.train.batch_size=32",
    "--config.train.epochs=4",
    "--config.train.log_steps=1",
    "--config.evaluation.batch_size=32",
    "--config.checkpoint.every_steps=3",
)
STEPS = 40


def start(folder, data_dir, *more):
    command = [sys.executable, "-m", "deepconv.main", "--config=configs/quickstart.py"]
    environment = {
        **os.environ,
        "TFDS_DATA_DIR": str(data_dir),
        "XLA_FLAGS": "",
        "JAX_PLATFORMS": "cpu",
        # Every process compiles the same programs.
        "JAX_COMPILATION_CACHE_DIR": str(data_dir / "compiled"),
    }
    return subprocess.Popen(
        [*command, f"--workdir={folder}", *SETTINGS, *more],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(folder, data_dir):
    process = start(folder, data_dir)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def kill_after(folder, data_dir, step):
    """Start the run, and kill it without warning once it has reported a step."""
    process = start(folder, data_dir)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        metrics = folder / "metrics.jsonl"
        rows = reporting.read_metrics(metrics) if metrics.exists() else []
        if any(row["step"] >= step for row in rows):
            break
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()[0]
    process.send_signal(signal.SIGKILL)
    process.communicate()


def last_checksums(folder):
    meta = folder / "checkpoints" / f"{STEPS:08d}" / "meta" / "metadata"
    return json.loads(meta.read_text())["crc32"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, shapes_root):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(folder, shapes_root)
    return folder


def test_killed_twice_and_taken_up_again_ends_bit_identical(tmp_path, shapes_root, undisturbed):
    folder = tmp_path / "run"
    kill_after(folder, shapes_root, 5)
    kill_after(folder, shapes_root, 17)
    output = finish(folder, shapes_root)
    assert "going on from the checkpoint of step" in output
    assert last_checksums(folder) == last_checksums(undisturbed)

    def history(run):
        rows = reporting.read_metrics(run / "metrics.jsonl")
        return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]

    # The first report after a restart covers fewer steps, so that only those of every step compare.
    assert history(folder) == history(undisturbed)


def test_a_complete_run_is_only_reported(shapes_root, undisturbed):
    before = last_checksums(undisturbed)
    result = json.loads((undisturbed / "result.json").read_text())
    output = finish(undisturbed, shapes_root)
    assert "top-1 error" in output
    assert last_checksums(undisturbed) == before
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


def test_a_folder_with_a_run_of_another_config_is_left_alone(shapes_root, undisturbed):
    before = sorted((p, p.stat().st_mtime_ns) for p in undisturbed.rglob("*") if p.name != "lock")
    process = start(undisturbed, shapes_root, "--config.optimizer.learning_rate=0.02")
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 2
    line = output.strip().splitlines()[-1]
    assert "optimizer.learning_rate is 0.01 there and 0.02 here" in line
    assert "Traceback" not in output
    assert before == sorted(
        (p, p.stat().st_mtime_ns) for p in undisturbed.rglob("*") if p.name != "lock"
    )
