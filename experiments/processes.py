"""Training runs as real processes: to be started, disturbed and compared.

command = Command("configs/quickstart.py", ("--config.train.epochs=1",), data_dir)
processes = command.start(folder, processes=2)
wait_for_step(processes, folder, 5)
processes[1].kill()
"""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from deepconv.run import log

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 400
# By how much of themselves the losses of two trainings of some twenty steps may differ where they
# round otherwise. Roundings grow from step to step, and by leaps where an output crosses a ReLU's
# zero. Between fourteen trainings of tests/training/test_distributed.py the losses of a step
# differed by up to 3e-7 until step 11 and by up to 7.6e-5 at step 20, and no error differed
# (XLA_FLAGS=--xla_cpu_max_isa= SSE4_2, AVX2 and AVX512; LLVM's optimization at levels 0 and 3;
# products and convolutions by YNNPACK or by XLA; one core and two; one process and two). This is
# thirteen times as much.
GROWN_ROUNDING = 1e-3


def environment_of(devices: int) -> dict[str, str]:
    """Return the environment of a process that has so many simulated devices.

    All else in `XLA_FLAGS` stays as it is: a process compiles as the one that starts it.
    """
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        # Of two values of a flag the last one counts.
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} "
        f"--xla_force_host_platform_device_count={devices}",
    }


@dataclasses.dataclass
class Process:
    """One process of a run.

    Attributes:
      handle: of the system's process.
      log: what it has written to its standard output and error.
    """

    handle: subprocess.Popen
    log: Path

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Return the exit status when it has ended.

        Raises:
          subprocess.TimeoutExpired: if it takes longer; it has then been killed.
        """
        try:
            return self.handle.wait(seconds)
        except subprocess.TimeoutExpired:
            self.handle.kill()
            self.handle.wait()
            raise

    def output(self) -> str:
        """Return what it has written so far."""
        return self.log.read_text(errors="replace")


@dataclasses.dataclass(frozen=True)
class Command:
    """A command that trains, but for the folder.

    Attributes:
      config: the config's file.
      settings: further arguments.
      data_dir: of the data sets; compiled programs are kept there too, as every process has the
        same.
    """

    config: str
    settings: tuple[str, ...]
    data_dir: Path

    def start(
        self,
        folder: Path,
        *more: str,
        processes: int = 1,
        devices: int = 1,
        environments: tuple[dict[str, str], ...] = (),
        join: bool = False,
    ) -> list[Process]:
        """Start it.

        Args:
          folder: the work directory.
          *more: further arguments.
          processes: how many, which train together.
          devices: simulated ones, of each process.
          environments: variables for each process, in place of the flags that say who it is.
          join: whether these flags are given all the same.
        """
        environment = {
            **environment_of(devices),
            "TFDS_DATA_DIR": str(self.data_dir),
            "JAX_COMPILATION_CACHE_DIR": str(self.data_dir / "compiled"),
        }
        port = free_port()
        started = []
        for index in range(processes):
            arguments = [f"--workdir={folder}", *self.settings, *more]
            if processes > 1 and (join or not environments):
                arguments += [
                    f"--coordinator=127.0.0.1:{port}",
                    f"--num_processes={processes}",
                    f"--process_id={index}",
                ]
            with tempfile.NamedTemporaryFile(suffix=".log", delete=False) as log:
                handle = subprocess.Popen(
                    [sys.executable, "-m", "deepconv.main", f"--config={self.config}", *arguments],
                    cwd=ROOT,
                    env=environment | (environments[index] if environments else {}),
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            started.append(Process(handle, Path(log.name)))
        return started

    def finish(self, folder: Path, *more: str, **options: Any) -> str:
        """Start it, wait until it is complete, and return what the first process wrote.

        Raises:
          RuntimeError: if it ends with an error; the message is its output.
        """
        started = self.start(folder, *more, **options)
        if any(status := [process.wait() for process in started]):
            outputs = "\n".join(process.output() for process in started)
            raise RuntimeError(f"exit status {status}: {outputs}")
        return started[0].output()


def wait_for_step(processes: list[Process], run: Path, step: int) -> None:
    """Wait until a run has reported a step.

    Raises:
      RuntimeError: if a process ends before; the message is its output.
    """
    metrics = run / "metrics.jsonl"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not metrics.exists() or all(row["step"] < step for row in log.read_metrics(metrics)):
        for process in processes:
            if process.handle.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"it ended before step {step}: {process.output()}")
        time.sleep(0.05)


def checksums(run: Path) -> dict[str, int]:
    """Return the checksums of a run's newest checkpoint: of parameters, velocity and schedule."""
    newest = max(path for path in (run / "checkpoints").iterdir() if path.name.isdecimal())
    return json.loads((newest / "meta" / "metadata").read_text())["crc32"]


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
