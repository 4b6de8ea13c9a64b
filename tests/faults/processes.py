"""Start training runs as real processes, disturb them, and compare their checkpoints.

command = Command("configs/quickstart.py", ("--config.train.epochs=1",), data_dir)
processes = command.start(folder, processes=2)
wait_for_step(processes, folder, 5)
processes[1].handle.kill()
"""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from deepconv.run import log

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 400
# The relative difference allowed between the losses of two runs of some twenty steps that round
# differently. Rounding errors grow from step to step, and jump where an output crosses a ReLU's
# zero. Between fourteen runs of tests/training/test_distributed.py the losses of a step
# differed by up to 3e-7 up to step 11 and by up to 7.6e-5 at step 20, and no error differed
# (XLA_FLAGS=--xla_cpu_max_isa= SSE4_2, AVX2 and AVX512; LLVM's optimization at levels 0 and 3;
# products and convolutions by YNNPACK or XLA; one core and two; one process and two). Between
# the 24 steps of the torture on one device, 2, 4 and 8 they differed by up to 5.3e-4 until step 23
# and by 1.3e-3 at step 24. This is eight times as much; other batches differ by some 3e-2.
GROWN_ROUNDING = 1e-2


def environment_of(devices: int, platform: str = "cpu") -> dict[str, str]:
    """Return the environment of a process with this many devices, simulated on a CPU.

    The rest of `XLA_FLAGS` stays as it is, so that a process compiles like the one that starts it.
    On another of jax's platforms the devices are those that there are.
    """
    if platform != "cpu":
        return {**os.environ, "JAX_PLATFORMS": platform}
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        # If a flag is given twice, the last value counts.
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} "
        f"--xla_force_host_platform_device_count={devices}",
    }


@dataclasses.dataclass
class Process:
    """One process of a run.

    Attributes:
      handle: the subprocess.
      log: its standard output and error.
    """

    handle: subprocess.Popen
    log: Path

    def stop(self, how: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal, wait until it ends, and return the exit status; see `wait`."""
        self.handle.send_signal(how)
        return self.wait()

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait until it ends, and return the exit status.

        Raises:
          subprocess.TimeoutExpired: if it takes longer; it is killed first.
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
    """A training command, without its folder.

    Attributes:
      config: the config's file.
      settings: further arguments.
      data_dir: the folder of data sets; compiled programs are cached there too, since all
        processes compile the same ones.
      platform: jax's name of the devices.
    """

    config: str
    settings: tuple[str, ...]
    data_dir: Path
    platform: str = "cpu"

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
          processes: how many train together.
          devices: simulated devices of each process.
          environments: variables for each process, instead of the flags that give its index.
          join: whether to give these flags as well.
        """
        environment = {
            **environment_of(devices, self.platform),
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
            with tempfile.NamedTemporaryFile(suffix=".log", delete=False) as output:
                handle = subprocess.Popen(
                    [sys.executable, "-m", "deepconv.main", f"--config={self.config}", *arguments],
                    cwd=ROOT,
                    env=environment | (environments[index] if environments else {}),
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            started.append(Process(handle, Path(output.name)))
        return started

    def finish(
        self,
        folder: Path,
        *more: str,
        processes: int = 1,
        environments: tuple[dict[str, str], ...] = (),
    ) -> str:
        """Start it, wait until it is complete, and return the first process's output.

        Raises:
          RuntimeError: if it ends with an error; the message is its output.
        """
        started = self.start(folder, *more, processes=processes, environments=environments)
        if any(status := [process.wait() for process in started]):
            outputs = "\n".join(process.output() for process in started)
            raise RuntimeError(f"exit status {status}: {outputs}")
        return started[0].output()


def wait_for_step(processes: list[Process], run: Path, step: int) -> None:
    """Wait until a run has logged a step.

    Raises:
      RuntimeError: if a process ends before that; the message is its output.
    """
    metrics = run / "metrics.jsonl"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not metrics.exists() or all(row["step"] < step for row in log.read_metrics(metrics)):
        for process in processes:
            if process.handle.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the run ended before step {step}: {process.output()}")
        time.sleep(0.05)


def checksums(run: Path) -> dict[str, int]:
    """Return the checksums of a run's newest checkpoint: parameters, velocity and schedule."""
    newest = max(path for path in (run / "checkpoints").iterdir() if path.name.isdecimal())
    return json.loads((newest / "meta" / "metadata").read_text())["crc32"]


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
