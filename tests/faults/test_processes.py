"""Processes that tests start compile as the tests do, with the XLA flags that the user has set."""

import os
import shlex
import subprocess
import sys

import pytest

from tests.faults.processes import PATIENCE_SECONDS, ROOT, environment_of

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("count", [1, 3])
def test_the_users_flags_stay_and_the_number_of_devices_is_the_one_asked_for(monkeypatch, count):
    number = "--xla_force_host_platform_device_count"
    theirs = ["--xla_cpu_max_isa=AVX2", f"{number}=5"]
    monkeypatch.setenv("XLA_FLAGS", " ".join(theirs))
    flags = shlex.split(environment_of(count)["XLA_FLAGS"])
    assert flags == [*theirs, f"{number}={count}"]
    monkeypatch.delenv("XLA_FLAGS")
    assert shlex.split(environment_of(count)["XLA_FLAGS"]) == [f"{number}={count}"]


def test_all_else_stays_and_the_processor_is_used(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    environment = environment_of(1)
    assert environment["JAX_PLATFORMS"] == "cpu"
    assert environment.keys() == {*os.environ, "XLA_FLAGS"}


def test_the_tests_themselves_compile_as_the_user_asks():
    process = subprocess.run(
        [sys.executable, "-c", "import os, tests.conftest; print(os.environ['XLA_FLAGS'])"],
        env={**os.environ, "XLA_FLAGS": "--xla_cpu_max_isa=AVX2"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    flags = process.stdout.split()
    assert "--xla_cpu_max_isa=AVX2" in flags
    assert flags[-1] == "--xla_force_host_platform_device_count=8"
