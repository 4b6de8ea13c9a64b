"""The quickstart: how long it takes, and how well its network does."""

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deepconv.run import log
from experiments.gpu import command
from experiments.gpu.report import markdown

SECONDS, LEAST = 100.0, 30.0


def cases(rehearse: bool) -> dict[str, dict[str, Any]]:
    """Return the arguments of each case."""
    small = ["model.width=0.0625", "train.epochs=0.2", "train.log_steps=1"] if rehearse else []
    return {"seed 0": {"settings": small}}


def measure(settings: list[str]) -> dict[str, Any]:
    """Run the command as a user does, and return its errors and times.

    Args:
      settings: `key=value` of the config.

    Raises:
      RuntimeError: if it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "quickstart"
        start = time.perf_counter()
        command.run(
            "deepconv",
            *("train", "--config=quickstart", f"--workdir={run}"),
            *(f"--config.{one}" for one in settings),
        )
        seconds = time.perf_counter() - start
        result = json.loads((run / "result.json").read_text())
        rows = log.read_metrics(run / "metrics.jsonl")
    rates = [row["images_per_second"] for row in rows if "images_per_second" in row]
    return {
        **{name: result[name] for name in ("last", "best", "steps", "devices")},
        "seconds": seconds,
        "seconds_of_the_run": result["seconds"],
        "images_per_second": float(np.median(rates)) if rates else None,
    }


def text(results: Mapping[str, Any]) -> str:
    """Return the errors and times."""
    rows = [
        (
            case,
            one["steps"],
            f"{one['last']['top1_error']:.2%}",
            f"{one['best']['top1_error']:.2%}",
            f"{one['seconds']:.0f}",
            one["images_per_second"] and f"{one['images_per_second']:,.0f}",
        )
        for case, one in results.items()
    ]
    return (
        markdown(
            (
                "",
                "steps",
                "top-1 error, last step",
                "top-1 error, best step",
                "seconds, with start-up, data and compilation",
                "images/s, median of the log",
            ),
            rows,
        )
        + "\n\ndocs/results.md has the errors on CPUs."
    )
