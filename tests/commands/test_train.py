"""The command as a user calls it: what is wrong is one line, with exit status 2."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.processes import PATIENCE_SECONDS, environment_of

ROOT = Path(__file__).parents[2]


def run(*arguments, devices=1, cwd=ROOT, module="deepconv.main", **environment):
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env=environment_of(devices) | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def assert_one_line(process, *words):
    lines = process.stderr.strip().splitlines()
    assert process.returncode == 2, process.stderr
    assert len(lines) == 1, process.stderr
    assert process.stdout == ""
    for word in words:
        assert word in lines[0]


@pytest.mark.slow
def test_imagenet_that_is_not_there(tmp_path):
    process = run(
        "--config=configs/vgg_e.py", f"--workdir={tmp_path}/run", TFDS_DATA_DIR=str(tmp_path)
    )
    looked_for = tmp_path / "imagenet2012" / "<version>" / "dataset_info.json"
    assert_one_line(process, "imagenet2012", str(looked_for), "configs/vgg_e.py:tiny")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config=configs/vgg_e.py", "--config.optimizer.lr=1"], ["optimizer.learning_rate?"]),
        (["--config.train.epochs=1", "--config=configs/vgg_e.py"], ["train.epochs=1", "after"]),
        (["--config=configs/quickstart.py:tiny"], ["configs/quickstart.py has no variants"]),
        (["--config=configs/quickstart.py", "--config.optimizer.learning_rate=-1"], ["-1.0 must"]),
        (["--config=configs/quickstart.py", "--config.dataset.name=/flowers"], ["folder:/flowers"]),
        (["--config=configs/vgg_e.py", "--config.train.batch_size=many"], ["many"]),
        (["--config=configs/vgg_e.py:huge"], ["'huge'", "256, 384, jitter, tiny"]),
        (["--config=configs/vgg_z.py"], ["vgg_z.py"]),
        ([], ["--config"]),
        (["--config=configs/vgg_e.py", "--config.model.crop=300"], ["input.scale", "300"]),
        (["--config=configs/vgg_e.py", "runs/x"], ["runs/x"]),
    ],
)
def test_a_wrong_command_line(arguments, words):
    assert_one_line(run(*arguments), *words)


@pytest.mark.slow
def test_a_batch_that_the_devices_do_not_divide():
    process = run("--config=configs/quickstart.py", "--config.train.batch_size=20", devices=8)
    assert_one_line(process, "train.batch_size=20", "8 devices")


@pytest.mark.slow
@pytest.mark.parametrize(
    "flag", [[f"--config={ROOT}/configs/vgg_b.py"], ["--config", f"{ROOT}/configs/vgg_b.py:256"]]
)
def test_a_config_outside_the_folder_and_from_another_folder(tmp_path, flag):
    process = run(*flag, cwd=tmp_path, TFDS_DATA_DIR=str(tmp_path))
    assert_one_line(process, "data set imagenet2012 not found")


@pytest.mark.slow
@pytest.mark.parametrize("copied", [False, True])
def test_a_config_of_the_package_and_a_copy_of_one_in_an_empty_folder(tmp_path, copied):
    name = "vgg_e:256"
    if copied:
        shutil.copy(ROOT / "configs" / "vgg_e.py", tmp_path / "mine.py")
        name = "mine.py:256"
    arguments = ["train", f"--config={name}"]
    process = run(*arguments, cwd=tmp_path, module="deepconv", TFDS_DATA_DIR=str(tmp_path))
    assert_one_line(process, "data set imagenet2012 not found")
    assert [path.name for path in tmp_path.glob("*")] == ["mine.py"] * copied


@pytest.mark.slow
def test_both_ways_to_train_are_one(tmp_path, shapes_root):
    sizes = [
        *("--config=configs/quickstart.py", "--config.model.crop=32", "--config.input.scale=36,40"),
        *("--config.model.width=0.03125", "--config.evaluation.scale=36"),
        *("--config.train.batch_size=8", "--config.train.epochs=0.001", "--config.input.workers=1"),
    ]
    results = []
    for name, module, command in (("a", "deepconv.main", []), ("b", "deepconv", ["train"])):
        outputs = [f"--workdir={tmp_path}/{name}", f"--json={tmp_path}/{name}.json"]
        process = run(*command, *sizes, *outputs, module=module, TFDS_DATA_DIR=str(shapes_root))
        assert process.returncode == 0, process.stderr
        assert f"run:    {tmp_path}/{name}\n" in process.stdout
        results.append(json.loads((tmp_path / f"{name}.json").read_text()))
    assert results[0]["last"] == results[1]["last"]


def test_help_is_shown_without_the_flags_that_are_required():
    process = run("train", "--help", module="deepconv")
    assert (process.returncode, process.stderr) == (0, "")
    assert "--config=FILE[:VARIANT]  (required)" in process.stdout


@pytest.mark.slow
def test_a_work_directory_that_cannot_be_written(tmp_path, shapes_root):
    (tmp_path / "file").write_text("")
    process = run(
        "--config=configs/quickstart.py",
        f"--workdir={tmp_path}/file/run",
        TFDS_DATA_DIR=str(shapes_root),
    )
    assert_one_line(process, "cannot write to", "file/run")
