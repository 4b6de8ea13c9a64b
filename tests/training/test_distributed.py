"""Several processes train together, and are disturbed (real processes, collectives over gloo)."""

import dataclasses
import io
import json
import re
import signal

import numpy as np
import PIL.Image
import pytest

from deepconv.run import log
from tests.faults.processes import GROWN_ROUNDING, Command, free_port, wait_for_step

pytestmark = pytest.mark.slow

SETTINGS = (
    "--config.model.width=0.0625",
    "--config.model.crop=32",
    "--config.input.scale=(36,36)",
    "--config.evaluation.scale=36",
    "--config.dataset.train_split=train[:160]",
    "--config.dataset.eval_split=validation[:30]",
    "--config.train.batch_size=16",
    "--config.train.epochs=2",
    "--config.train.log_steps=1",
    "--config.evaluation.batch_size=16",
    "--config.checkpoint.every_steps=4",
)
# The first loss is that of one forward pass through 11 layers. A sum of 288 products, a layer's
# longest, is off by some sqrt(288) roundings of 2^-24, and 11 sqrt(288) 2^-24 is 1.1e-5.
OF_ONE_PASS = 1.1e-5


@pytest.fixture(scope="module")
def command(shapes_root):
    return Command("configs/quickstart.py", SETTINGS, shapes_root)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, command):
    folder = tmp_path_factory.mktemp("alone") / "run"
    command.finish(folder)
    return folder


def column(run, kind, name):
    rows = log.read_metrics(run / "metrics.jsonl")
    return np.array([row[name] for row in rows if row["kind"] == kind])


def assert_same_training(run, other):
    """Compare the reports of every step and the evaluations, but for rounding."""
    for kind, images in (("train", 16), ("eval", 30)):
        np.testing.assert_array_equal(column(run, kind, "step"), column(other, kind, "step"))
        loss, expected = column(run, kind, "loss"), column(other, kind, "loss")
        np.testing.assert_allclose(loss, expected, rtol=GROWN_ROUNDING)
        if kind == "train":
            np.testing.assert_allclose(loss[0], expected[0], rtol=OF_ONE_PASS)
        # Of two classes that score alike, rounding may put either first: in one image at most.
        differing = column(run, kind, "top1_error") - column(other, kind, "top1_error")
        np.testing.assert_allclose(images * differing, 0, atol=1 + 1e-5)
    np.testing.assert_array_equal(column(run, "eval", "images"), [30, 30])


def slurm(count):
    port = str(free_port())
    return tuple(
        {
            "SLURM_JOB_ID": "7",
            "SLURM_STEP_NODELIST": "127.0.0.1",
            "SLURM_NTASKS": str(count),
            "SLURM_PROCID": str(index),
            "SLURM_LOCALID": str(index),
            "JAX_COORDINATOR_PORT": port,
        }
        for index in range(count)
    )


def open_mpi(count):
    port = str(free_port())
    return tuple(
        {
            "OMPI_MCA_orte_hnp_uri": "4096.0;tcp://127.0.0.1:34911",
            "OMPI_COMM_WORLD_SIZE": str(count),
            "OMPI_COMM_WORLD_RANK": str(index),
            "OMPI_COMM_WORLD_LOCAL_RANK": str(index),
            "JAX_COORDINATOR_PORT": port,
        }
        for index in range(count)
    )


def test_two_processes_train_as_one_and_only_the_first_speaks(tmp_path, command, alone):
    processes = command.start(tmp_path, processes=2)
    assert [process.wait() for process in processes] == [0, 0], processes[0].output()
    assert_same_training(tmp_path, alone)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["devices"].startswith("2 x")
    assert result["last"]["images"] == 30
    assert "step 20/20" in processes[0].output()
    noise = re.compile(r"\[Gloo\].*")
    assert noise.sub("", processes[1].output()).strip() == ""


def test_told_to_stop_all_save_the_same_step_and_more_processes_go_on(tmp_path, command, alone):
    processes = command.start(tmp_path, processes=2)
    wait_for_step(processes, tmp_path, 5)
    processes[1].handle.send_signal(signal.SIGTERM)  # one of them is enough
    assert [process.wait() for process in processes] == [75, 75], processes[0].output()
    said = {
        re.search(r"deepconv: .*saved at step (\d+) of 20", process.output()).group(1)
        for process in processes
    }
    assert len(said) == 1
    assert (tmp_path / "checkpoints" / said.pop().zfill(8)).is_dir()
    output = command.finish(tmp_path, processes=4, environments=slurm(4))
    assert "resuming from the checkpoint of step" in output
    assert_same_training(tmp_path, alone)


def test_when_one_is_killed_the_other_ends_and_the_pair_goes_on(tmp_path, command, alone):
    processes = command.start(tmp_path, processes=2)
    wait_for_step(processes, tmp_path, 6)
    processes[1].handle.kill()
    assert processes[0].wait() != 0
    assert re.search("another (process of this run has ended|task died)", processes[0].output())
    command.finish(tmp_path, processes=2, environments=open_mpi(2))
    assert_same_training(tmp_path, alone)


def test_what_one_process_cannot_read_ends_all_or_is_counted_by_all(tmp_path, command):
    rng = np.random.default_rng(0)
    for split, count, broken in (("train", 32, 3), ("val", 8, 1)):
        for number in range(count):
            path = tmp_path / split / f"class_{number % 2}" / f"{number:02d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            file = io.BytesIO()
            PIL.Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(file, "JPEG")
            path.write_bytes(file.getvalue()[: 200 if number == broken else None])
    pictures = dataclasses.replace(
        command,
        settings=(
            *(s for s in SETTINGS if "split" not in s),
            f"--config.dataset.name=folder:{tmp_path}",
            "--config.input.max_unreadable=0.5",
        ),
    )
    run = tmp_path / "run"
    processes = pictures.start(run, processes=2)
    statuses = [process.wait() for process in processes]
    # The evaluation refuses it; whose share it was in says so, and the other has to notice.
    assert 2 in statuses
    assert 0 not in statuses
    (line,) = [p.output() for p, s in zip(processes, statuses, strict=True) if s == 2]
    assert "01.jpg" in line
    assert "Traceback" not in line
    events = [row for row in log.read_metrics(run / "metrics.jsonl") if row["kind"] == "event"]
    assert [(row["name"], row["file"][-6:]) for row in events] == [("unreadable_image", "03.jpg")]
