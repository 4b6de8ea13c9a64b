"""Measure one case in a process of its own, so that it has a device and a memory peak to itself.

    outcome = run("steps", "vgg_d", {"network": "vgg_d", ...}, 60, logs=..., environment=...)

The process is `python -m experiments.gpu.case SECTION ARGUMENTS OUT`, with the arguments as JSON.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepconv import atomic
from deepconv.benchmark.session import OUT_OF_MEMORY
from deepconv.exceptions import UserError
from experiments.gpu.schedule import DONE, FAILED, NO_MEMORY, NO_TIME, SKIPPED, Outcome

ROOT = Path(__file__).parents[2]


def run(
    section: str,
    case: str,
    arguments: Mapping[str, Any],
    seconds: float,
    *,
    logs: Path,
    environment: Mapping[str, str],
) -> Outcome:
    """Measure a case, and end it and all its processes if it takes longer than `seconds`.

    Args:
      section: name of the section's module.
      case: name of the case.
      arguments: of the section's `measure`.
      seconds: the limit.
      logs: folder for what the process prints.
      environment: variables of the process.
    """
    name = "".join(c if c.isalnum() else "_" for c in f"{section}_{case}")
    out, log = logs / f"{name}.json", logs / f"{name}.log"
    logs.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)
    start = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, section, json.dumps(arguments), str(out)],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    took = {"seconds": time.monotonic() - start}
    if out.exists():
        outcome: Outcome = json.loads(out.read_text())
        return {**outcome, **took}
    if status is None:
        return {"status": NO_TIME, "why": f"ended after {seconds:.0f} s", **took}
    return {"status": FAILED, "why": f"exit status {status}; see {log}", **took}


def outcome_of(section: str, arguments: Mapping[str, Any]) -> Outcome:
    """Measure a case in this process."""
    try:
        module = importlib.import_module(f"experiments.gpu.{section}")
        return {"status": DONE, "result": module.measure(**arguments)}
    except Exception as error:
        traceback.print_exc()
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        # A benchmark's own message replaces that of the device.
        if any(words in f"{error} {error.__context__}" for words in OUT_OF_MEMORY):
            return {"status": NO_MEMORY, "why": why}
        return {"status": SKIPPED if isinstance(error, UserError) else FAILED, "why": why}


if __name__ == "__main__":
    _, _section, _arguments, _out = sys.argv
    atomic.write_json(Path(_out), outcome_of(_section, json.loads(_arguments)))
