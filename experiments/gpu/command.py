"""Commands of the project, run as a user runs them.

command.run("deepconv", "train", "--config=quickstart", "--workdir=runs/quickstart")
"""

import os
import subprocess
import sys


def run(module: str, *arguments: str, **variables: str) -> None:
    """Run `python -m MODULE ARGUMENTS`, and print what it prints.

    Args:
      module: name of the module.
      *arguments: its command line.
      **variables: of its environment, in addition to those of this process.

    Raises:
      RuntimeError: if it fails; the message is its last line.
    """
    process = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    print(process.stdout)
    if process.returncode:
        lines = process.stdout.strip().splitlines() or [""]
        raise RuntimeError(f"{module} ended with {process.returncode}: {lines[-1]}")
