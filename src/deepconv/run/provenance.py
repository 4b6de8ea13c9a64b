"""Which software a run was made by."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

_PACKAGES = (
    "deepconv",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "tensorflow-datasets",
    "numpy",
)


def versions() -> dict[str, str | None]:
    """Return the versions of all that a run's numbers may depend on; None where not installed."""
    return {
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
        "platform": platform.platform(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_revision(path: Path) -> str | None:
    """Return the short hash of the commit checked out at `path`, or None outside a repository.

    It ends in `-dirty` where a tracked file differs from that commit.
    """
    # Excluding every tag leaves the hash alone; without locks a commit by hand never collides.
    describe = ("describe", "--always", "--dirty", "--exclude=*")
    try:
        process = subprocess.run(
            ("git", "--no-optional-locks", "-C", str(path), *describe),
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout.strip()
