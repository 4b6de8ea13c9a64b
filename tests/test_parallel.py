"""Who takes part in a run, before any process is joined."""

import importlib.util
import signal
import subprocess
import sys
import threading

import jax
import pytest

from deepconv import parallel
from deepconv.exceptions import UserError

LAUNCHERS = ("SLURM_", "OMPI_", "KUBERNETES_", "JOB_COMPLETION", "TPU_")


@pytest.fixture
def environment(monkeypatch):
    """Return a function that sets variables, in an environment without a launcher."""
    for name in [*parallel.os.environ]:
        if name.startswith(LAUNCHERS):
            monkeypatch.delenv(name)

    def refuse(*_, **__):
        raise AssertionError("jax.distributed.initialize was called")

    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    return lambda variables: [monkeypatch.setenv(*pair) for pair in variables.items()]


SLURM = {"SLURM_STEP_NODELIST": "node[1-2]", "SLURM_PROCID": "0"}


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"},  # in the batch script, before srun
        {**SLURM, "SLURM_NTASKS": "1"},
        {"OMPI_COMM_WORLD_SIZE": "1"},
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},  # any pod
    ],
)
def test_a_process_that_is_alone_joins_nobody(environment, variables):
    environment(variables)
    parallel.start(None, None, None)


def test_a_process_told_that_it_is_alone_joins_nobody(environment):
    environment({**SLURM, "SLURM_NTASKS": "2"})
    parallel.start(None, 1, None)
    with pytest.raises(UserError, match=r"cannot join the other processes \(SLURM\)"):
        parallel.start(None, None, None)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, "--coordinator=HOST:PORT"),
        ({"KUBERNETES_SERVICE_HOST": "h", "JOB_COMPLETION_INDEX": "1"}, r"jax\[k8s\]"),
    ],
)
def test_one_of_several_that_cannot_find_the_others_says_what_to_do(
    environment, monkeypatch, variables, words
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    environment(variables)
    with pytest.raises(UserError, match=words):
        parallel.start(None, None, None)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((None, 2, 0), "must be given together"),
        (("host:1", None, None), "must be given together"),
        (("host", 2, 0), "--coordinator=host is not HOST:PORT"),
        (("host:1", 2, 2), r"--process_id=2 is not in 0\.\.1"),
        (("host:1", 2, -1), "--process_id=-1"),
    ],
)
def test_flags_that_do_not_fit(environment, flags, words):
    with pytest.raises(UserError, match=words):
        parallel.start(*flags)


def test_devices_and_microbatches_divide_the_batch():
    mesh = parallel.data_mesh(jax.devices()[:4])
    parallel.check_batch_size(24, mesh, "train.batch_size", 3)
    with pytest.raises(UserError, match="=24 is not a .* multiple of the 4 devices times 4 micro"):
        parallel.check_batch_size(24, mesh, "train.batch_size", 4)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_while_it_is_listened_to_and_not_after(number, monkeypatch, capfd):
    before = signal.signal(number, signal.default_int_handler)
    threads = threading.active_count()
    try:
        with parallel.Preemption(lambda: "") as preemption:
            assert not preemption.reached()
            assert preemption.told() is None
            signal.raise_signal(number)
            assert preemption.reached()
            assert preemption.told() == number
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert signal.set_wakeup_fd(-1) == -1
    assert threading.active_count() == threads
    assert ("press Ctrl-C again" in capfd.readouterr().err) == (number == signal.SIGINT)


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with parallel.Preemption(lambda: "") as preemption:
            preemption.reached()
            signal.raise_signal(signal.SIGINT)
            assert not preemption.reached()
    finally:
        signal.signal(signal.SIGINT, before)


LISTENER = """
import time
from deepconv import parallel

with parallel.Preemption(lambda: "step 3 is lost") as preemption:
    {before}
    print("listening", flush=True)
    time.sleep(600)  # which a signal does not end
"""


@pytest.mark.slow
@pytest.mark.parametrize(("before", "presses"), [("pass", 1), ("preemption.reached()", 2)])
def test_ctrl_c_before_a_step_or_a_second_time_ends_the_process_at_once(before, presses):
    command = [sys.executable, "-c", LISTENER.format(before=before)]
    # A shell's background commands ignore SIGINT, and what they start does too.
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True) as process:
        signal.signal(signal.SIGINT, earlier)
        assert process.stdout.readline() == "listening\n"
        for _ in range(presses - 1):
            process.send_signal(signal.SIGINT)
            assert "saving, then stopping; press Ctrl-C again" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "deepconv: stopped: step 3 is lost\n"
        assert process.wait(60) == 130


def test_one_process_agrees_with_itself():
    def fails():
        raise UserError("no")

    assert parallel.gather({"a": 1}) == [{"a": 1}]
    assert parallel.first_then_all(lambda: object) is object
    with pytest.raises(UserError, match="no"):
        parallel.on_first(fails)
