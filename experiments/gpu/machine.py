"""What is measured on: the device, the software, and the driver."""

import contextlib
import subprocess
from pathlib import Path
from typing import Any

import jax

from deepconv.benchmark.session import cores
from deepconv.exceptions import UserError
from deepconv.run import provenance

_QUERY = "name,driver_version,memory.total,power.limit,clocks.max.sm"


def measure(*, rehearse: bool) -> dict[str, Any]:
    """Return the device, its driver as `nvidia-smi` reports it, the versions and the cores.

    Raises:
      UserError: if jax has not one GPU, and this is no rehearsal.
    """
    platform = jax.default_backend()
    if platform != "gpu" and not rehearse:
        raise UserError(
            f"jax has no GPU, only a {platform}: pip install 'jax[cuda12]', or try everything on "
            "the CPU with --rehearse (make gpu SIZE=tiny)"
        )
    if jax.device_count() > 1 and not rehearse:
        raise UserError(
            f"jax sees {jax.device_count()} GPUs, and one is measured: CUDA_VISIBLE_DEVICES=0"
        )
    reported = None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        reported = subprocess.run(
            ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout.strip()
    return {
        "device": jax.devices()[0].device_kind,
        "rehearsal": rehearse,
        "nvidia_smi": reported,
        "cores": cores(),
        "versions": provenance.versions(),
        "git_revision": provenance.git_revision(Path(__file__).parent),
    }
