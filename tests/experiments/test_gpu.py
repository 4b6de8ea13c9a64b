"""What is measured when time is short, what a second call repeats, and what the report says."""

import json
import subprocess
import sys
import types

import numpy as np
import pytest

from deepconv import models
from deepconv.exceptions import TRY_AGAIN, UserError
from experiments.gpu import __main__ as whole
from experiments.gpu import bounds, case, kills, parity, report, steps
from experiments.gpu.schedule import Section, carry_out
from tests.faults.processes import PATIENCE_SECONDS, ROOT, environment_of
from tests.faults.torture import FAULTS, wait_for


def carried_out(sections, outcomes, takes):
    """Carry sections out with a clock that only the cases advance, and return what was started."""
    now, started, kept = [0.0], [], []

    def measure(section, name, arguments, seconds):
        assert arguments == {"x": name}
        started.append((section, name, seconds))
        now[0] += takes
        return {"status": "done", "result": takes, "seconds": takes}

    carry_out(sections, outcomes, measure, lambda: kept.append(1), lambda: now[0])
    assert len(kept) >= len(started)
    return started


def section(name, seconds, cases):
    return Section(name, seconds, 5.0, {case: {"x": case} for case in cases})


def test_time_that_a_section_leaves_goes_to_the_next_one():
    outcomes = {}
    sections = [section("a", 30.0, "p"), section("b", 10.0, "qrs")]
    started = carried_out(sections, outcomes, takes=12.0)
    assert started == [("a", "p", 30.0), ("b", "q", 28.0), ("b", "r", 16.0)]
    assert outcomes["b"]["s"] == {"status": "no time left", "why": "4 s were left"}


def test_a_second_call_measures_what_is_missing():
    ended = {"status": "no time left", "why": "ended after 7 s", "seconds": 7.0}
    outcomes = {
        "a": {
            "p": {"status": "done", "result": 1, "seconds": 2.0},
            "q": {"status": "out of memory", "why": "too large", "seconds": 2.0},
            "r": {"status": "failed", "why": "a bug", "seconds": 2.0},
            "s": {"status": "skipped", "why": "no CUDA", "seconds": 2.0},
            "t": ended,
        }
    }
    started = carried_out([section("a", 20.0, "pqrst")], outcomes, takes=8.0)
    assert [name for _, name, _ in started] == ["r", "s"]
    # What is known about a case is not replaced by the fact that there was no time to repeat it.
    assert outcomes["a"]["t"] == ended


def test_the_shares_add_up_to_less_than_25_minutes_with_the_probe():
    modules = {name: whole.module(name) for name in whole.SECTIONS}
    shares = sum(module.SECONDS for module in modules.values())
    assert shares + whole.MACHINE_SECONDS / 2 < 25 * 60
    for module in modules.values():
        assert module.LEAST < module.SECONDS
        for rehearse in (False, True):
            cases = module.cases(rehearse)
            assert cases
            assert json.loads(json.dumps(cases))
    assert kills.FAULT in FAULTS


MACHINE = {
    "device": "a GPU",
    "rehearsal": False,
    "nvidia_smi": None,
    "cores": 16,
    "versions": {"jax": "1.2.3", "python": "3.14"},
    "git_revision": "abc",
}


def test_another_machine_needs_another_folder(tmp_path):
    path = tmp_path / "gpu.json"
    assert whole.resumed(path, MACHINE)["sections"] == {}
    before = {"machine": MACHINE, "seconds": 3.0, "sections": {"a": {}}}
    path.write_text(json.dumps(before))
    now = {**MACHINE, "git_revision": "def"}
    assert whole.resumed(path, now) == {**before, "machine": now}
    with pytest.raises(UserError, match="device=a GPU, and this is device=another; choose another"):
        whole.resumed(path, {**MACHINE, "device": "another"})


def test_the_report_has_a_table_of_each_section_and_what_is_missing():
    outcomes = {
        "parity": {
            "net": {
                "status": "done",
                "seconds": 1.0,
                "result": {
                    "tf32": {
                        "activations": {"conv1": 1e-4, "fc8": 2e-4},
                        "update": {"fc8/bias": None},
                        "bounds": {
                            "activations": {"conv1": 1e-3, "fc8": 1e-2},
                            "update": {"fc8/bias": 0.1},
                        },
                        "within": False,
                    }
                },
            }
        },
        "steps": {"net, 4096": {"status": "out of memory", "why": "a|b", "seconds": 1.0}},
    }
    text = report.text(MACHINE, outcomes, {"parity": parity.text, "steps": steps.text})
    assert "## parity" in text
    assert "| net | tf32 | conv1: 1.0e-04 / 1.0e-03 | fc8/bias: not finite | NO |" in text
    assert "## steps" not in text
    assert "| steps | net, 4096 | out of memory | a\\|b |" in text
    assert "rehearsal" not in text
    assert "rehearsal" in report.text({**MACHINE, "rehearsal": True}, {}, {})


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("RESOURCE_EXHAUSTED: 3 GB\nmore"), "out of memory"),
        (UserError("PyTorch has no CUDA"), "skipped"),
        (ValueError("a bug\nin two lines"), "failed"),
    ],
)
def test_a_case_that_cannot_be_measured_says_why(monkeypatch, error, status):
    def measure():
        raise error

    monkeypatch.setattr(
        case.importlib, "import_module", lambda _: types.SimpleNamespace(measure=measure)
    )
    why = str(error).split("\n")[0]
    assert case.outcome_of("steps", {}) == {"status": status, "why": why}


def test_the_bounds_grow_from_layer_to_layer():
    network = models.create("vgg_a", width=1 / 32, crop=32)
    unit = 2.0**-8
    largest = bounds.bounds(network, unit)
    assert largest.activations["relu1_1"] == pytest.approx(4 * unit)
    # Eleven layers with weights; the sums' own rounding is far smaller.
    assert largest.activations["fc8"] == pytest.approx(4 * unit * 11**0.5, rel=1e-3)
    assert largest.update > largest.activations["fc8"]


def test_relative_errors():
    assert bounds.error(np.array([3.0, 4.0]), np.array([3.0, 0.0])) == pytest.approx(4 / 3)
    assert bounds.error(np.zeros(2), np.zeros(2)) == 0.0
    assert bounds.error(np.ones(2), np.zeros(2)) == np.inf


@pytest.mark.slow
def test_a_rehearsal_of_a_section_and_its_resumption(tmp_path):
    flags = ("--rehearse", "--only=dense", f"--workdir={tmp_path}")

    def start():
        return subprocess.Popen(
            [sys.executable, "-m", "experiments.gpu", *flags],
            cwd=ROOT,
            env=environment_of(devices=1),
            stdout=subprocess.PIPE,
            text=True,
        )

    def call():
        with start() as process:
            output, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0
        return output

    with start() as terminated:
        assert terminated.stdout.read(5) == "dense"  # the first case is about to start
        wait_for(lambda: [*(tmp_path / "logs").glob("dense*")])
        terminated.terminate()
        assert terminated.wait(PATIENCE_SECONDS) == TRY_AGAIN
    commands = subprocess.run(["ps", "-A", "-o", "args"], capture_output=True, text=True)
    assert str(tmp_path) not in commands.stdout

    assert "dense: vgg_d, tf32 ... done" in call()
    first = json.loads((tmp_path / "gpu.json").read_text())
    assert "..." not in call()  # nothing was measured
    second = json.loads((tmp_path / "gpu.json").read_text())
    assert second["sections"] == first["sections"]
    assert "| vgg_d, bfloat16 |" in (tmp_path / "gpu.md").read_text()
