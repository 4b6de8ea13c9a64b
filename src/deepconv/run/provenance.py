"""The software that produced a run."""

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
    """Return the versions of all software that a run's numbers may depend on, None if missing."""
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

    It ends with `-dirty` if a tracked file differs from that commit.
    """
    # Excluding all tags leaves only the hash; without locks this never blocks a user's commit.
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
