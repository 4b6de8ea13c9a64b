"""The same steps against PyTorch's, in turn: eager and compiled, channels last, and with AMP.

Runs `experiments.bench_torch`. In bfloat16 PyTorch uses autocast (AMP), in float32 both use TF32.
"""

import importlib.metadata
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepconv.benchmark.report import times_as_fast
from deepconv.exceptions import UserError
from experiments.bench_torch import require_torch
from experiments.gpu import command
from experiments.gpu.report import markdown

SECONDS, LEAST = 240.0, 60.0

# The narrow networks of a rehearsal, and few steps.
NARROW = ("--config.model.width=0.0625", "--rounds=1", "--steps=1")


def cases(rehearse: bool) -> dict[str, dict[str, Any]]:
    """Return the arguments of each case."""
    if rehearse:
        narrow = {"config": "alexnet:tiny", "batch": 4, "cuda": False, "more": NARROW}
        return {"alexnet, bfloat16": {**narrow, "dtype": "bfloat16"}}
    configs = {"vgg_d": ("vgg_d:256", 64), "alexnet": ("alexnet", 256), "vgg_a": ("vgg_a:256", 64)}
    return {
        f"{name}, {'bfloat16' if dtype == 'bfloat16' else 'tf32'}": {
            "config": config,
            "batch": batch,
            "dtype": dtype,
            "cuda": True,
            "more": (),
        }
        for dtype in ("bfloat16", "float32")
        for name, (config, batch) in configs.items()
    }


def measure(config: str, batch: int, dtype: str, cuda: bool, more: list[str]) -> dict[str, Any]:
    """Time one config; see `bench_torch`.

    Raises:
      UserError: if PyTorch is not installed, or has no CUDA.
      RuntimeError: if the comparison fails.
    """
    require_torch()
    # In a process of its own, because this one must not hold the device.
    probe = "import torch; raise SystemExit(not torch.cuda.is_available())"
    if cuda and subprocess.run([sys.executable, "-c", probe], check=False).returncode:
        version = importlib.metadata.version("torch")
        raise UserError(f"PyTorch {version} has no CUDA: install a build that has")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "torch.json"
        command.run(
            "experiments.bench_torch",
            *(f"--config={config}", f"--batch={batch}", f"--config.model.dtype={dtype}"),
            *(f"--json={out}", *more),
        )
        return json.loads(out.read_text())


def text(results: Mapping[str, Any]) -> str:
    """Return ours and every mode of PyTorch's, and which modes failed."""
    rows, failed = [], []
    for case, result in results.items():
        for line in result["lines"]:
            times = line["ours_is_times_as_fast"]
            rows.append(
                (
                    f"{case}, {result['batch']}",
                    line["name"],
                    1e3 * line["seconds"]["median"],
                    line["memory_bytes"] and line["memory_bytes"] / 1e9,
                    times and times_as_fast(times),
                )
            )
        failed += [f"\n\n{case}: {name}: {why}" for name, why in result["not_measured"].items()]
    columns = ("network, batch", "what", "ms per step", "memory, GB", "ours is times as fast")
    return markdown(columns, rows) + "".join(failed)
