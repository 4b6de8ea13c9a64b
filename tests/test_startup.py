"""What is imported when: start-up and memory are counted in modules, not in seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = (
    *("jax", "flax", "numpy", "optax", "orbax", "tensorboardX", "torch", "matplotlib"),
    *("tensorflow_datasets", "sklearn", "scipy", "grain", "ml_collections"),
)


def loaded(program):
    """Return which of the heavy packages a program has imported by its end."""
    report = f"\nprint(json.dumps([name for name in {HEAVY} if sys.modules.get(name)]))"
    process = subprocess.run(
        [sys.executable, "-c", f"import json, sys\n{program}{report}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {*json.loads(process.stdout.splitlines()[-1])}


@pytest.mark.parametrize(
    "module",
    [
        "deepconv",
        "deepconv.tables",
        "deepconv.__main__",
        "deepconv.main",
        "deepconv.atomic",
        "deepconv.commands.command_line",
    ],
)
def test_a_module_that_needs_no_package_loads_none(module):
    assert loaded(f"import {module}") == set()


def start(arguments):
    return loaded(
        "from deepconv.commands import command_line\n"
        f"try: command_line.start({arguments})\n"
        "except SystemExit: pass"
    )


def test_the_list_of_commands_loads_nothing():
    assert start([]) == set()


def test_summary_loads_the_network_alone():
    found = start(["summary", "--config=configs/vgg_e.py:tiny"])
    assert "jax" in found
    assert not found & {
        *("tensorboardX", "orbax", "torch", "tensorflow_datasets", "matplotlib", "sklearn"),
        *("grain", "optax", "scipy"),
    }


@pytest.mark.parametrize("source", ["folder", "datasets"])
def test_a_process_that_decodes_loads_nothing_of_training(source):
    # It imports the main module anew, as here, and what its source and grain's batches need. Grain
    # itself imports orbax where it can; here it cannot, and nothing of ours may miss it.
    found = loaded(
        "import runpy\n"
        'sys.modules["orbax"] = None\n'
        'runpy.run_module("deepconv.main", run_name="__mp_main__", alter_sys=True)\n'
        f"import deepconv.data.pipeline, deepconv.data.sources.{source}"
    )
    assert {"grain", "numpy"} <= found
    assert not found & {
        *("tensorboardX", "orbax", "torch", "matplotlib", "sklearn", "flax", "optax", "scipy"),
        "ml_collections",
    }
