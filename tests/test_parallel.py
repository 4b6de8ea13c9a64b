"""Who takes part in a run, before any process is joined."""

import importlib.util
import signal

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
        ((None, 2, 0), "go together"),
        (("host:1", None, None), "go together"),
        (("host", 2, 0), "--coordinator=host is not HOST:PORT"),
        (("host:1", 2, 2), r"--process_id=2 is not one of 0\.\.1"),
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


def test_sigterm_is_noted_while_it_is_listened_to_and_not_after():
    before = signal.getsignal(signal.SIGTERM)
    with parallel.Preemption() as preemption:
        assert not preemption.reached()
        signal.raise_signal(signal.SIGTERM)
        assert preemption.reached()
    assert signal.getsignal(signal.SIGTERM) is before


def test_one_process_agrees_with_itself():
    def fails():
        raise UserError("no")

    assert parallel.gather({"a": 1}) == [{"a": 1}]
    assert parallel.first_then_all(lambda: object) is object
    with pytest.raises(UserError, match="no"):
        parallel.on_first(fails)
