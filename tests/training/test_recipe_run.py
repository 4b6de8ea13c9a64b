"""The four stages of a narrow E by one command, killed twice on the way (real processes)."""

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
COMMAND = (
    sys.executable,
    "-m",
    "deepconv.main",
    "--config=configs/vgg_e.py:tiny",
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
STEPS = 9


def start(folder, data_dir):
    environment = {
        **os.environ,
        "TFDS_DATA_DIR": str(data_dir),
        "XLA_FLAGS": "",
        "JAX_PLATFORMS": "cpu",
        # Every process compiles the same programs.
        "JAX_COMPILATION_CACHE_DIR": str(data_dir / "compiled"),
    }
    return subprocess.Popen(
        [*COMMAND, f"--workdir={folder}"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(folder, data_dir):
    process = start(folder, data_dir)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    return output


def kill_at(folder, data_dir, stage, step):
    process = start(folder, data_dir)
    metrics = folder / stage / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        rows = reporting.read_metrics(metrics) if metrics.exists() else []
        if any(row["step"] >= step for row in rows):
            break
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()[0]
    process.send_signal(signal.SIGKILL)
    process.communicate()


def checksums(folder):
    return {
        stage: json.loads(
            (folder / stage / "checkpoints" / f"{STEPS:08d}" / "meta" / "metadata").read_text()
        )["crc32"]
        for stage in STAGES
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, shapes_root):
    folder = tmp_path_factory.mktemp("recipe")
    return folder, finish(folder, shapes_root)


def test_the_plan_comes_first_and_every_stage_says_what_it_starts_from(undisturbed):
    folder, output = undisturbed
    assert output.index("vgg_e_jitter") < output.index("starting from random weights")
    for stage, source in zip(STAGES[1:], STAGES, strict=False):
        assert f"starting from {folder / source}" in output, stage
    assert {path.parent.name for path in folder.glob("*/result.json")} == set(STAGES)


def test_killed_twice_the_recipe_ends_bit_identical(undisturbed, tmp_path, shapes_root):
    kill_at(tmp_path, shapes_root, "vgg_a_256", 5)
    kill_at(tmp_path, shapes_root, "vgg_e_384", 1)  # before or during its first save
    finish(tmp_path, shapes_root)
    assert checksums(tmp_path) == checksums(undisturbed[0])


def test_complete_stages_are_not_repeated(undisturbed, shapes_root):
    folder, _ = undisturbed
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/checkpoints/*")}
    output = finish(folder, shapes_root)
    assert output.count("complete") >= len(STAGES)
    assert "starting from" not in output
    assert before == {path: path.stat().st_mtime_ns for path in folder.glob("*/checkpoints/*")}
