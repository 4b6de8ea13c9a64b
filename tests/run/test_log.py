import io
import json
import math
import os
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from configs import alexnet
from deepconv import atomic, tables
from deepconv.config.schema import num_steps
from deepconv.run import curves, provenance
from deepconv.run import log as log_module
from deepconv.run.log import RunLog


def open_log(folder, step=0):
    return RunLog(folder, step=step, total_steps=100)


def tensorboard_events(folder):
    """Read every event of a run, file after file, from the records that hold them."""
    events = []
    for path in sorted((folder / "tensorboard").iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            events.append(Event.FromString(content[12 : 12 + length]))
            content = content[12 + length + 4 :]
    return events


def tensorboard_scalars(folder):
    """Read the (tag, step, value) that TensorBoard would show: a restart purges what follows."""
    scalars = []
    for event in tensorboard_events(folder):
        if event.HasField("session_log"):
            scalars = [scalar for scalar in scalars if scalar[1] < event.step]
        for value in event.summary.value:
            scalars.append((value.tag, event.step, value.simple_value))
    return scalars


def log_interrupted_run(folder):
    with open_log(folder) as log:
        log.event(0, "start")
        log.train(10, epoch=0.1, loss=3.0)
        log.eval(20, epoch=0.2, top1_error=0.5)
        log.train(20, epoch=0.2, loss=2.0)
        log.train(30, epoch=0.3, loss=99.0)


def test_rows_are_read_back_as_they_were_written(tmp_path):
    with open_log(tmp_path / "new" / "run") as log:
        log.train(10, epoch=0.5, loss=np.float32(1.5), top1_error=0.25)
        log.eval(20, epoch=1.0, loss=1.25, images=50_000)
        log.event(20, "drops", rates=[0.01, 0.001], reason="plateau")
    assert log_module.read_metrics(tmp_path / "new" / "run" / "metrics.jsonl") == [
        {"kind": "train", "step": 10, "epoch": 0.5, "loss": 1.5, "top1_error": 0.25},
        {"kind": "eval", "step": 20, "epoch": 1.0, "loss": 1.25, "images": 50_000},
        {
            "kind": "event",
            "step": 20,
            "name": "drops",
            "rates": [0.01, 0.001],
            "reason": "plateau",
        },
    ]


def test_numbers_json_has_no_word_for_are_null(tmp_path):
    with open_log(tmp_path) as log:
        log.train(10, epoch=0.1, loss=math.nan, norm=np.float32(np.inf))
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail) == {
        "kind": "train",
        "step": 10,
        "epoch": 0.1,
        "loss": None,
        "norm": None,
    }


def test_resumed_log_equals_uninterrupted_log(tmp_path):
    log_interrupted_run(tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "step": 4')
    with open_log(tmp_path, step=20) as log:
        log.train(30, epoch=0.3, loss=1.0)

    rows = log_module.read_metrics(tmp_path / "metrics.jsonl")
    assert [(row["kind"], row["step"]) for row in rows] == [
        ("event", 0),
        ("train", 10),
        ("eval", 20),
        ("train", 20),
        ("train", 30),
    ]
    assert rows[-1]["loss"] == 1.0
    losses = [scalar for scalar in tensorboard_scalars(tmp_path) if scalar[0] == "train/loss"]
    assert losses == [("train/loss", 10, 3.0), ("train/loss", 20, 2.0), ("train/loss", 30, 1.0)]


def test_log_at_step_zero_starts_empty(tmp_path):
    log_interrupted_run(tmp_path)
    with open_log(tmp_path):
        pass
    assert log_module.read_metrics(tmp_path / "metrics.jsonl") == []
    assert tensorboard_scalars(tmp_path) == []


def test_killed_process_loses_no_finished_row(tmp_path):
    program = f"""
import os, pathlib, signal
from deepconv.run.log import RunLog
log = RunLog(pathlib.Path({str(tmp_path)!r}), step=0, total_steps=100)
for step in range(1, 6):
    log.train(step, epoch=step / 10, loss=1.0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert process.returncode == -signal.SIGKILL
    rows = log_module.read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]


def test_disabled_log_does_nothing(tmp_path, capfd):
    with RunLog(tmp_path / "run", step=0, total_steps=100, enabled=False) as log:
        log.train(10, epoch=0.1, loss=1.0)
        log.eval(10, epoch=0.1, loss=1.0)
        log.event(10, "stop")
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_tensorboard_scalars_are_named_by_kind(tmp_path):
    with open_log(tmp_path) as log:
        log.train(10, epoch=0.5, loss=1.5)
        log.eval(20, epoch=1.0, top1_error=0.25)
        log.event(20, "stop")
    assert tensorboard_scalars(tmp_path) == [
        ("train/epoch", 10, 0.5),
        ("train/loss", 10, 1.5),
        ("eval/epoch", 20, 1.0),
        ("eval/top1_error", 20, 0.25),
    ]


def test_progress_in_a_file_is_a_line_for_each_report(tmp_path, capsys, monkeypatch):
    clock = SimpleNamespace(monotonic=iter([1000, 1015]).__next__, time=float)
    monkeypatch.setattr(log_module, "time", clock)
    with open_log(tmp_path, step=40) as log:
        log.train(
            50, epoch=0.5, loss=1.5, top1_error=0.25, learning_rate=0.1, images_per_second=1234.5
        )
        log.train(60, epoch=0.6, loss=1.25)
        log.eval(60, epoch=0.6, top1_error=0.5, top5_error=0.125, images=50_000)
        log.event(60, "drop", learning_rate=0.01)
        log.event(60, "stop")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == ("step 50/100: epoch 0.50, loss 1.5000, top-1 error 25.0%, 1,234 images/s")
    assert lines[1] == "step 60/100: epoch 0.60, loss 1.2500, 01:00 left"
    assert lines[2:] == [
        "step 60/100: evaluation, epoch 0.60, top-1 error 50.0%, top-5 error 12.5%, 50,000 images",
        'step 60/100: drop {"learning_rate": 0.01}',
        "step 60/100: stop",
    ]


def test_progress_on_a_terminal_is_a_bar(tmp_path, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    with open_log(tmp_path, step=40) as log:
        log.train(50, epoch=0.5, loss=1.5)
    first, *_, last = [text for text in terminal.getvalue().split("\r") if text.strip()]
    assert first.startswith(" 40%|")
    assert "| 40/100" in first
    assert last.startswith(" 50%|")
    assert last.rstrip().endswith("| 50/100, epoch 0.50, loss 1.5000")


def test_the_bar_says_that_it_compiles_until_a_step_is_done(tmp_path, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    with open_log(tmp_path) as log:
        log.compiling()
        assert terminal.getvalue().rstrip().endswith("| 0/100, compiling")
        log.advance(1)
        log.train(2, epoch=0.5, loss=1.5)
    *_, last = [text for text in terminal.getvalue().split("\r") if text.strip()]
    assert last.rstrip().endswith("| 2/100, epoch 0.50, loss 1.5000")


def test_the_time_left_is_on_a_narrow_terminal(tmp_path, monkeypatch):
    terminal, clock = io.StringIO(), iter([0.0, 60.0])
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(log_module, "_columns", lambda: 72)
    monkeypatch.setattr(log_module.time, "monotonic", lambda: next(clock))
    fields = {"loss": 6.9078, "top1_error": 1.0, "top5_error": 1.0, "images_per_second": 1234.5}
    with RunLog(tmp_path, step=0, total_steps=370_000) as log:
        log.train(100, epoch=12.34, **fields)
        log.train(200, epoch=12.34, **fields)
    last = re.findall(r"\| (200/370000, [^\r]*left[^\r]*)", terminal.getvalue())[-1].rstrip()
    assert last == "200/370000, 61:38:00 left, epoch 12.34, loss 6.9078"
    assert len("100%||  ") + 8 + len(last) <= 72


def test_events_are_told_in_words(tmp_path, capsys):
    with open_log(tmp_path) as log:
        log.event(7, "learning_rate_drop", epoch=1.0, learning_rate=0.001)
        log.event(7, "unreadable_image", file="a.jpg")
        log.event(8, "stuck_at_ln_C", loss=1.099, ln_C=math.log(3), reason="x has vanished")
    assert capsys.readouterr().err.splitlines() == [
        "step 7/100: the learning rate drops to 0.001",
        "step 7/100: cannot read a.jpg",
        "step 8/100: warning: the network has learned nothing; its loss is 1.099, and that of "
        "guessing is 1.099: x has vanished; see --config.model.initializer",
    ]


def test_damage_before_the_last_line_is_an_error(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2, is not JSON"):
        log_module.read_metrics(path)


def test_json_file_is_indented_in_the_order_given(tmp_path):
    path = tmp_path / "new" / "result.json"
    atomic.write_json(path, {"b": np.int64(1), "a": (1.5, math.inf)})
    assert path.read_text() == '{\n  "b": 1,\n  "a": [\n    1.5,\n    null\n  ]\n}\n'
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("failure", ["value", "disk"])
def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch, failure):
    path = tmp_path / "result.json"
    atomic.write_json(path, {"error": 0.5})

    def full(descriptor):
        raise OSError("no space left on device")

    if failure == "disk":
        monkeypatch.setattr(os, "fsync", full)
    with pytest.raises((TypeError, OSError)):
        atomic.write_json(path, {"error": 0.25 if failure == "disk" else object()})
    assert json.loads(path.read_text()) == {"error": 0.5}
    assert list(tmp_path.iterdir()) == [path]


def train_rows(count):
    return [
        {
            "kind": "train",
            "step": step,
            "epoch": step / 100,
            "loss": 7 / step,
            "top1_error": 1 / step,
            "learning_rate": 0.01 if step < count / 2 else 0.001,
        }
        for step in range(1, count + 1)
    ]


EVALUATION = {"kind": "eval", "step": 9, "epoch": 1.0, "top1_error": 0.5, "top5_error": 0.2}
DIVERGED = {"kind": "train", "step": 9, "epoch": 1.0, "loss": None, "learning_rate": 0.0}


# What other tests left to the garbage collector is not the plot's.
@pytest.mark.filterwarnings("error", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "metrics",
    [
        [*train_rows(300), EVALUATION],
        train_rows(1),
        [EVALUATION],
        [DIVERGED],
        [{"kind": "event", "step": 0, "name": "start"}],
        [],
    ],
    ids=["full", "one train row", "one evaluation", "diverged", "only events", "empty"],
)
def test_curves_are_a_png_of_sensible_size(tmp_path, metrics):
    path = tmp_path / "curves.png"
    curves.plot_curves(metrics, path, title="alexnet")
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n")
    assert struct.unpack(">II", content[16:24]) == (1080, 960)
    assert 10_000 < len(content) < 500_000


def test_versions_name_every_package():
    versions = provenance.versions()
    assert list(versions) == [
        "python",
        "deepconv",
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "orbax-checkpoint",
        "grain",
        "tensorflow-datasets",
        "numpy",
        "platform",
    ]
    assert versions["numpy"] == np.__version__


def test_version_of_a_missing_package_is_none(monkeypatch):
    monkeypatch.setattr(provenance, "_PACKAGES", ("numpy", "no-such-package"))
    assert provenance.versions()["no-such-package"] is None


@pytest.fixture
def plain_git(monkeypatch):
    """Let git have neither settings of the user nor a repository named by the environment."""
    for name in [*os.environ]:
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


def git(folder, *arguments):
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    command = ("git", "-C", str(folder), *identity, *arguments)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_git_revision_tells_whether_the_tree_has_changes(tmp_path, plain_git):
    git(tmp_path, "init")
    file = tmp_path / "file"
    file.write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "first")
    git(tmp_path, "tag", "-a", "v1", "-m", "first")
    revision = git(tmp_path, "rev-parse", "--short", "HEAD")
    assert provenance.git_revision(tmp_path) == revision
    file.write_text("two")
    assert provenance.git_revision(tmp_path) == f"{revision}-dirty"


def test_git_revision_is_none_without_git(tmp_path, monkeypatch, plain_git):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_revision(tmp_path) is None
    assert provenance.git_revision(tmp_path / "missing") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_revision(Path.cwd()) is None


def test_table_aligns_numbers_to_the_right():
    text = tables.table(
        ["network", "crops", "top-1", "paper"],
        [["vgg_d", 1, 27.04, None], ["alexnet", 150, 9.5, 18.2]],
    )
    assert text.splitlines() == [
        "network  crops  top-1  paper",
        "-------  -----  -----  -----",
        "vgg_d        1   27.0      -",
        "alexnet    150    9.5   18.2",
    ]


def test_table_without_rows_is_its_headers():
    assert tables.table(["a", "bc"], []) == "a  bc\n-  --"


def test_a_name_never_breaks_a_row_of_a_table():
    names = ["two\nlines", "tab\tand \x1b[31mcolor", "caf\udce9", "日本語", "e\u0301", "$x$"]
    text = tables.table(["na\nme", "n"], [(name, number) for number, name in enumerate(names)])
    lines = text.splitlines()
    assert len(lines) == 2 + len(names)
    shown = [r"two\nlines", r"tab\tand \x1b[31mcolor", r"caf\xe9"]
    assert lines[2:5] == [f"{name:22}  {number}" for number, name in enumerate(shown)]
    # Wide characters take two columns, combining ones none.
    assert lines[5] == "日本語" + " " * 18 + "3"
    assert lines[6] == "e\u0301" + " " * 23 + "4"
    text.encode("utf-8")


def test_a_title_is_drawn_literally(tmp_path):
    path = tmp_path / "curves.png"
    curves.plot_curves([EVALUATION], path, title="$\\frac$ a\nb caf\udce9")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_table_rejects_a_row_of_another_length():
    with pytest.raises(ValueError):
        tables.table(["a", "b"], [[1]])


def test_the_log_of_the_longest_run_of_the_papers_stays_small(tmp_path):
    config = alexnet.get_config()
    assert config.train.epochs == 90
    steps = num_steps(config, 1_281_167)
    third = 1 / 3  # as long as a number gets
    with RunLog(tmp_path, step=steps - 1, total_steps=steps) as log:
        fields = dict.fromkeys(
            ("epoch", "loss", "top1_error", "learning_rate", "images_per_second"), 1000 + third
        )
        log.train(steps, **fields)
    row = (tmp_path / "metrics.jsonl").stat().st_size
    (events,) = (tmp_path / "tensorboard").iterdir()
    reports = steps / config.train.log_steps
    assert reports * row < 10e6  # so that ten times as many still stay below 50 MB
    assert reports * events.stat().st_size < 50e6
