"""Measure everything on a machine with one GPU, in less than 25 minutes.

    python -m experiments.gpu --workdir=runs/gpu
    python -m experiments.gpu --workdir=runs/gpu_rehearsal --rehearse

Writes gpu.json and gpu.md into the folder after every case. A second call measures what the first
had no time for, or what failed. docs/performance.md explains the sections.
"""

import functools
import importlib
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from deepconv import atomic
from deepconv.commands import command_line
from deepconv.exceptions import Preempted, UserError
from experiments.gpu import case, report
from experiments.gpu.schedule import DONE, Outcome, Section, carry_out

# In this order: the steps take what time is left.
SECTIONS = ("quickstart", "parity", "kills", "dense", "inputs", "against_torch", "steps")
MACHINE_SECONDS = 60.0


def environment(folder: Path, rehearse: bool) -> dict[str, str]:
    """Return the variables of the processes: one GPU, and data sets in `folder`."""
    found = {
        "CUDA_VISIBLE_DEVICES": "0",
        "TFDS_DATA_DIR": str(folder / "data"),
        # torch.compile would reuse what earlier calls left on disk.
        "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
        **os.environ,
    }
    # The CPU is needed on a GPU too, as a reference.
    found.pop("JAX_PLATFORMS", None)
    if rehearse:
        found["JAX_PLATFORMS"] = "cpu"
    return found


def module(section: str) -> Any:
    """Return the module of a section."""
    return importlib.import_module(f"experiments.gpu.{section}")


def resumed(path: Path, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return what earlier calls measured on this machine.

    Raises:
      UserError: if another machine, or another version of jax, did.
    """
    if not path.exists():
        return {"machine": machine, "seconds": 0.0, "sections": {}}
    found = json.loads(path.read_text())
    before = found["machine"]
    for what, old, new in (
        ("device", before["device"], machine["device"]),
        ("jax", before["versions"]["jax"], machine["versions"]["jax"]),
        ("rehearsal", before["rehearsal"], machine["rehearsal"]),
    ):
        if old != new:
            raise UserError(
                f"{path} was measured with {what}={old}, and this is {what}={new}; choose another "
                "--workdir"
            )
    return {**found, "machine": machine}


def stop(*_: object) -> None:
    """Raise `Preempted`, which ends the process of the present case, and this one."""
    raise Preempted("terminated; the same command continues")


def main(_: Sequence[str]) -> None:
    """Measure what is missing, and print the report."""
    folder, rehearse = Path(WORKDIR.value).absolute(), REHEARSE.value
    if unknown := [name for name in ONLY.value if name not in SECTIONS]:
        raise UserError(f"unknown --only={unknown[0]}; choose from {', '.join(SECTIONS)}")
    modules = {name: module(name) for name in SECTIONS}
    run = functools.partial(
        case.run, logs=folder / "logs", environment=environment(folder, rehearse)
    )
    # Otherwise the process of the present case would keep the device.
    signal.signal(signal.SIGTERM, stop)
    start = time.monotonic()
    probed = run("machine", "", {"rehearse": rehearse}, MACHINE_SECONDS)
    if probed["status"] != DONE:
        raise UserError(probed["why"])
    results = resumed(folder / "gpu.json", probed["result"])
    spent = results["seconds"]

    def measure(section: str, name: str, arguments: Mapping[str, Any], seconds: float) -> Outcome:
        print(f"{section}: {name} ...", end=" ", flush=True)
        outcome = run(section, name, arguments, seconds)
        why = f" ({outcome['why']})" if "why" in outcome else ""
        print(f"{outcome['status']} after {outcome['seconds']:.0f} s{why}", flush=True)
        return {**outcome, "git_revision": probed["result"]["git_revision"]}

    def keep() -> None:
        results["seconds"] = spent + time.monotonic() - start
        atomic.write_json(folder / "gpu.json", results)
        texts = {name: each.text for name, each in modules.items()}
        text = report.text(results["machine"], results["sections"], texts)
        atomic.write(folder / "gpu.md", text.encode())

    sections = [
        Section(name, each.SECONDS, each.LEAST, each.cases(rehearse))
        for name, each in modules.items()
        if not ONLY.value or name in ONLY.value
    ]
    carry_out(sections, results["sections"], measure, keep)
    keep()
    print((folder / "gpu.md").read_text())
    print(f"{folder / 'gpu.json'}, {folder / 'gpu.md'}: {results['seconds'] / 60:.1f} minutes")


if __name__ == "__main__":
    WORKDIR = flags.DEFINE_string("workdir", "runs/gpu", "Folder of the results.")
    REHEARSE = flags.DEFINE_bool("rehearse", False, "Use the CPU and narrow networks.")
    ONLY = flags.DEFINE_list("only", [], f"Some of the sections: {', '.join(SECTIONS)}.")
    command_line.run(main)
