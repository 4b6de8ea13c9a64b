"""Runs on this device that are killed and started again: do they end bit-identical?

Runs the fault injection of `tests/faults/torture.py`. If two undisturbed runs already differ,
nothing can be compared, and it is repeated with XLA's deterministic operations.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.gpu import command
from experiments.gpu.report import markdown

SECONDS, LEAST = 220.0, 90.0

# Of `torture.FAULTS`.
FAULT = "kill -9 at random moments"
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def cases(rehearse: bool) -> dict[str, dict[str, Any]]:
    """Return the arguments of each case."""
    kills, platform = (1, "cpu") if rehearse else (5, "cuda")
    return {FAULT: {"kills": kills, "platform": platform}}


def measure(kills: int, platform: str) -> dict[str, Any]:
    """Kill runs, and return what the fault injection found; see `torture --json`.

    Returns:
      Its result as `outcome`; the `flags` with which it was found; and `without_flags`, the message
      if two undisturbed runs differed without them, else None.

    Raises:
      RuntimeError: if the runs fail, or differ with deterministic operations too.
    """
    try:
        return {"flags": "", "without_flags": None, "outcome": _torture(kills, platform, "")}
    except RuntimeError as error:
        if "undisturbed" not in str(error) or platform == "cpu":
            raise
        outcome = _torture(kills, platform, DETERMINISTIC)
        return {"flags": DETERMINISTIC, "without_flags": str(error), "outcome": outcome}


def _torture(kills: int, platform: str, flags: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "torture.json"
        command.run(
            "tests.faults.torture",
            *(f"--only={FAULT}", f"--kills={kills}", f"--platform={platform}"),
            *(f"--folder={folder}", f"--json={out}"),
            XLA_FLAGS=f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip(),
            # Processes start while the memory of a killed one is being freed.
            XLA_PYTHON_CLIENT_PREALLOCATE="false",
            # Algorithms are chosen by their speed when a program is compiled; all processes have to
            # run the same programs.
            JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
        )
        (outcome,) = json.loads(out.read_text()).values()
        return outcome


def text(results: Mapping[str, Any]) -> str:
    """Return the outcomes."""
    rows, notes = [], []
    for case, one in results.items():
        outcome = one["outcome"]
        words = ["yes" if outcome[key] else "NO" for key in ("survived", "identical")]
        rows.append((case, str(outcome["tries"]), one["flags"] or "-", *words, outcome["seen"]))
        if one["without_flags"]:
            notes.append(f"\n\nWithout flags: {one['without_flags']}")
    columns = ("", "kills", "XLA_FLAGS", "all runs complete", "bit-identical", "observed")
    return markdown(columns, rows) + "".join(notes)
