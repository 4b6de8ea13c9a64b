"""Inject every fault into real training runs, and compare how they end.

python -m tests.faults.torture --kills=50

A small run is trained once undisturbed. Each fault then happens to another run of the same command,
which is started again until it completes. A run has survived if it completes, and is bit-identical
if the checksums of its last checkpoint (parameters, velocity, schedule) are the same.
"""

import contextlib
import dataclasses
import functools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
from absl import flags

from deepconv import atomic, tables
from deepconv.commands import command_line
from deepconv.exceptions import UserError
from deepconv.run import log
from tests.faults.processes import GROWN_ROUNDING, Command, Process, checksums, wait_for_step

_KILLS = flags.DEFINE_integer("kills", 50, "Number of kills at random moments.")
_FOLDER = flags.DEFINE_string("folder", None, "Folder for the runs; by default a temporary one.")
_ONLY = flags.DEFINE_string("only", "", "Regular expression; only matching faults are tried.")
_PLATFORM = flags.DEFINE_string(
    "platform", "cpu", "jax's platform; faults with several devices or processes need the CPU."
)
_JSON = flags.DEFINE_string("json", None, "File for the outcomes, by fault.")

SETTINGS = (
    "--config.model.width=0.0625",
    "--config.model.crop=32",
    "--config.input.scale=(36,36)",
    "--config.evaluation.scale=36",
    "--config.dataset.train_split=train[:192]",
    "--config.dataset.eval_split=validation[:32]",
    "--config.train.batch_size=16",
    "--config.train.epochs=2",
    "--config.train.log_steps=1",
    "--config.evaluation.batch_size=16",
    "--config.checkpoint.every_steps=1",  # so that a save is in progress most of the time
)
# Memory growth over four thousand steps that counts as none: the allocator varies by some 2
# percent.
FLAT = 0.03


class Outcome(NamedTuple):
    """The outcome of a fault.

    Attributes:
      tries: how often it happened.
      survived: whether every run completed in the end, or ended as it should.
      identical: whether they ended bit-identical to an undisturbed run on as many processes; None:
        not compared.
      seen: what was observed, in words.
    """

    tries: int
    survived: bool
    identical: bool | None
    seen: str


class Torture:
    """The faults: each is a method that returns an `Outcome`."""

    def __init__(self, folder: Path, kills: int, platform: str) -> None:
        self.folder, self.kills = folder, kills
        self.command = Command("configs/quickstart.py", SETTINGS, folder / "data", platform)
        self.undisturbed = folder / "undisturbed"
        start = time.monotonic()
        self.command.finish(self.undisturbed)
        first = time.monotonic() - start
        start = time.monotonic()
        self.command.finish(folder / "again")
        self.seconds = time.monotonic() - start
        if checksums(folder / "again") != checksums(self.undisturbed):
            raise UserError(
                "two undisturbed runs differ, so there is nothing to compare others with; on a GPU "
                "set XLA_FLAGS=--xla_gpu_deterministic_ops=true"
            )
        print(f"undisturbed: {first:.0f} s, again {self.seconds:.0f} s, identical", flush=True)

    def killed_at_random_moments(self) -> Outcome:
        """Send SIGKILL at random moments, half of them during a save."""
        rng = random.Random(0)
        done = survived = identical = in_save = number = 0
        while done < self.kills:
            run, number = self.folder / f"killed_{number}", number + 1
            for _ in range(5):
                (process,) = self.command.start(run)
                # The other half is spread over the whole run, so that start-up is hit too.
                if rng.random() < 0.5:
                    time.sleep(rng.uniform(0.5, 1.2 * self.seconds))
                else:
                    wait_for(lambda: saving(run) or process.handle.poll() is not None)
                    time.sleep(rng.uniform(0, 0.02))
                if process.handle.poll() is not None:
                    break
                in_save += saving(run)
                process.stop()
                done += 1
                if done == self.kills:
                    break
            survived += self._ends_well(run)
            identical += self._is_identical(run)
            shutil.rmtree(run)
        return Outcome(
            done,
            survived == number,
            identical == number,
            f"{number} runs, {in_save} kills during a save",
        )

    def sigterm(self) -> Outcome:
        """Send SIGTERM: the run saves and exits with 75."""
        return self._stop(signal.SIGTERM)

    def sigint(self) -> Outcome:
        """Send SIGINT, like Ctrl-C: the run saves and exits with 130."""
        return self._stop(signal.SIGINT)

    def sigterm_to_one_of_two(self) -> Outcome:
        """Send SIGTERM to one of two processes: both stop at the same step."""
        run = self.folder / "sigterm_pair"
        processes = self._reach(5, run, processes=2)
        processes[1].handle.terminate()
        statuses = [process.wait() for process in processes]
        saved = [re.findall(r"saved at step \d+", process.output()) for process in processes]
        self.command.finish(run, processes=2)
        agree = len(saved[0]) == 1 and saved[0] == saved[1]
        return Outcome(1, agree, self._is_the_pair(run), f"exit status {statuses}, {saved}")

    def one_of_two_killed(self) -> Outcome:
        """Send SIGKILL to one of two processes."""
        return self._lose(signal.SIGKILL)

    def one_of_two_hangs(self) -> Outcome:
        """Send SIGSTOP to one of two processes, so that it does not respond."""
        return self._lose(signal.SIGSTOP)

    def elastic(self) -> Outcome:
        """Run on 8 devices until killed, on 4 until killed, then on 1."""
        run = self.folder / "elastic"
        for step, devices in ((6, 8), (14, 4)):
            (process,) = self._reach(step, run, devices=devices)
            process.stop()
        self.command.finish(run)
        difference = self._difference(run)
        return Outcome(1, difference < GROWN_ROUNDING, None, f"losses within {difference:.1e}")

    def disk_full(self) -> Outcome:
        """Fill the disk (a small tmpfs) while the run saves."""
        with Mount(self.folder / "small", "size=6m") as small:
            run = small / "run"
            (process,) = self._reach(4, run)
            ballast = (small / "ballast").open("wb", buffering=0)
            with ballast, contextlib.suppress(OSError):
                while ballast.write(bytes(4096)):
                    pass
            seen = ending(process)
            assert "Traceback" not in process.output(), process.output()
            (small / "ballast").unlink()
            return self._end(run, 1, seen)

    def read_only(self) -> Outcome:
        """Use a work directory that cannot be written."""
        with Mount(self.folder / "fixed", "size=64m") as fixed:
            subprocess.run(["mount", "-o", "remount,ro", str(fixed)], check=True)
            (process,) = self.command.start(fixed / "run")
            seen = ending(process)
            subprocess.run(["mount", "-o", "remount,rw", str(fixed)], check=True)
            return self._end(fixed / "run", 1, seen)

    def truncated(self) -> Outcome:
        """Truncate the newest checkpoint."""

        def truncate(path: Path) -> None:
            path.write_bytes(path.read_bytes()[:100])

        return self._damage(truncate)

    def bit_flipped(self) -> Outcome:
        """Flip a bit of the newest checkpoint."""

        def flip(path: Path) -> None:
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)

        return self._damage(flip)

    def data_vanishes(self) -> Outcome:
        """Move the folder of images away while a run reads it, then back."""
        images, run = self.folder / "images", self.folder / "vanished"
        write_images(images)
        command = self._on(images)
        command.finish(self.folder / "on_images")
        (process,) = self._reach(4, run, command=command)
        images.rename(self.folder / "gone")
        seen = ending(process)
        (self.folder / "gone").rename(images)
        command.finish(run)
        same = checksums(run) == checksums(self.folder / "on_images")
        return Outcome(1, True, same, seen)

    def one_percent_corrupt(self) -> Outcome:
        """Truncate 1 percent of the images, and kill the run in between."""
        images, run = self.folder / "corrupt", self.folder / "on_corrupt_killed"
        write_images(images, broken=(7, 107))
        command = self._on(images)
        command.finish(self.folder / "on_corrupt")
        (process,) = self._reach(6, run, command=command)
        process.stop()
        command.finish(run)
        names = json.loads((run / "result.json").read_text())["unreadable_training_images"]
        same = checksums(run) == checksums(self.folder / "on_corrupt")
        return Outcome(1, True, same, f"reported: {', '.join(sorted(names))}")

    def worker_killed(self) -> Outcome:
        """Send SIGKILL to an input worker, then to the run, whose workers must end."""
        run = self.folder / "workers"
        (process,) = self._reach(2, run, "--config.input.workers=2")
        first = workers_of(process)
        os.kill(first[0], signal.SIGKILL)
        wait_for_step([process], run, 12)
        others = workers_of(process)
        process.stop()
        time.sleep(3)
        left = [pid for pid in {*first, *others} if Path(f"/proc/{pid}").exists()]
        return self._end(run, 1, f"replaced; {len(left)} workers outlive a killed run")

    def two_runs(self) -> Outcome:
        """Start a second process in the folder of a run."""
        run = self.folder / "two"
        (first,) = self._reach(2, run)
        (second,) = self.command.start(run)
        seen = ending(second)
        first.wait()
        return self._end(run, 1, seen)

    def many_steps(self) -> Outcome:
        """Run undisturbed for many steps, and watch the memory of the process."""
        run = self.folder / "long"
        megabytes: dict[int, int] = {}
        (process,) = self.command.start(
            run,
            "--config.train.epochs=510",
            "--config.optimizer.learning_rate=0.0001",
            "--config.plateau.patience=1000",
            "--config.evaluation.every_epochs=50",
            "--config.checkpoint.every_steps=1000",
        )
        for step in (2000, 4000, 6000):
            wait_for_step([process], run, step)
            status = Path(f"/proc/{process.handle.pid}/status").read_text()
            (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
            megabytes[step] = int(kilobytes) // 1024
        process.stop()
        grown = megabytes[6000] / megabytes[2000] - 1
        seen = ", ".join(f"{size} MB at step {step}" for step, size in megabytes.items())
        return Outcome(1, grown < FLAT, None, seen)

    def _reach(
        self,
        step: int,
        run: Path,
        *more: str,
        command: Command | None = None,
        processes: int = 1,
        devices: int = 1,
    ) -> list[Process]:
        """Start a run, and wait until it has logged a step."""
        command = command or self.command
        started = command.start(run, *more, processes=processes, devices=devices)
        wait_for_step(started, run, step)
        return started

    def _stop(self, how: signal.Signals) -> Outcome:
        run, statuses = self.folder / how.name, []
        for step in (3, 11, 17):
            (process,) = self._reach(step, run)
            statuses.append(process.stop(how))
        return self._end(run, len(statuses), f"exit status {statuses}")

    def _on(self, images: Path) -> Command:
        settings = tuple(text for text in SETTINGS if "split" not in text)
        settings += (
            f"--config.dataset.name=folder:{images}",
            "--config.input.max_unreadable=0.02",
        )
        return dataclasses.replace(self.command, settings=settings)

    def _lose(self, how: signal.Signals) -> Outcome:
        run = self.folder / how.name
        survivor, lost = self._reach(5, run, processes=2)
        lost.handle.send_signal(how)
        start = time.monotonic()
        status = survivor.wait(120)
        seconds = time.monotonic() - start
        reason = re.search("another (process of this run has ended|task died)", survivor.output())
        lost.stop()
        self.command.finish(run, processes=2)
        seen = f"the other ends after {seconds:.1f} s with {status}: {reason and reason[0]}"
        return Outcome(1, True, self._is_the_pair(run), seen)

    def _damage(self, damage: Callable[[Path], object]) -> Outcome:
        run = self.folder / damage.__name__
        (process,) = self._reach(9, run)
        process.stop()
        newest = max(p for p in (run / "checkpoints").iterdir() if p.name.isdecimal())
        files = (path for path in newest.rglob("d/*") if path.is_file())
        damage(max(files, key=lambda path: path.stat().st_size))
        output = self.command.finish(run)
        named = f"checkpoint {int(newest.name)} in" in output and "damaged" in output
        seen = f"checkpoint {int(newest.name)} reported: {named}"
        return Outcome(1, named, self._is_identical(run), seen)

    def _end(self, run: Path, tries: int, seen: str) -> Outcome:
        return Outcome(tries, self._ends_well(run), self._is_identical(run), seen)

    def _ends_well(self, run: Path) -> bool:
        self.command.finish(run)
        return (run / "result.json").exists()

    def _is_identical(self, run: Path) -> bool:
        return checksums(run) == checksums(self.undisturbed)

    def _difference(self, run: Path) -> float:
        losses = [
            [row["loss"] for row in log.read_metrics(folder / "metrics.jsonl") if "loss" in row]
            for folder in (run, self.undisturbed)
        ]
        return float(np.max(np.abs(np.divide(losses[0], losses[1]) - 1)))

    def _is_the_pair(self, run: Path) -> bool:
        assert self._difference(self.undisturbed_pair) < GROWN_ROUNDING
        return checksums(run) == checksums(self.undisturbed_pair)

    @functools.cached_property
    def undisturbed_pair(self) -> Path:
        """The run in two processes, whose sums round differently from those of one."""
        self.command.finish(self.folder / "pair", processes=2)
        return self.folder / "pair"


class Mount:
    """A context with a small file system in memory."""

    def __init__(self, folder: Path, options: str) -> None:
        self.folder, self.options = folder, options

    def __enter__(self) -> Path:
        self.folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", self.options, "tmpfs", str(self.folder)]
        subprocess.run(mount, check=True, capture_output=True)
        return self.folder

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


def saving(run: Path) -> bool:
    """Return whether a checkpoint of a run is being written."""
    return any("orbax-checkpoint-tmp" in path.name for path in run.glob("checkpoints/*"))


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until a condition is true."""
    while not condition():
        time.sleep(0.005)


def ending(process: Process) -> str:
    """Wait until a process ends, and return its exit status and last line of output."""
    return f"exit status {process.wait()}: {process.output().strip().splitlines()[-1]}"


def workers_of(process: Process) -> list[int]:
    """Return the ids of a run's input workers."""
    children = Path(f"/proc/{process.handle.pid}/task").glob("*/children")
    pids = [int(pid) for path in children for pid in path.read_text().split()]
    return [p for p in pids if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes()]


def write_images(folder: Path, broken: Sequence[int] = ()) -> None:
    """Write a folder of 200 + 16 images in two classes, and truncate the broken ones."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 200), ("val", 16)):
        for number in range(count):
            path = folder / split / f"class_{number % 2}" / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(path)
            if split == "train" and number in broken:
                path.write_bytes(path.read_bytes()[:1000])


FAULTS = {
    "kill -9 at random moments": Torture.killed_at_random_moments,
    "SIGTERM": Torture.sigterm,
    "SIGINT (Ctrl-C)": Torture.sigint,
    "SIGTERM to one of two processes": Torture.sigterm_to_one_of_two,
    "kill -9 to one of two processes": Torture.one_of_two_killed,
    "one of two processes hangs": Torture.one_of_two_hangs,
    "8 devices, killed, 4, killed, 1": Torture.elastic,
    "disk full": Torture.disk_full,
    "read-only work directory": Torture.read_only,
    "newest checkpoint truncated": Torture.truncated,
    "newest checkpoint bit-flipped": Torture.bit_flipped,
    "data directory vanishes": Torture.data_vanishes,
    "1% of the images corrupt": Torture.one_percent_corrupt,
    "input worker killed": Torture.worker_killed,
    "two runs in one directory": Torture.two_runs,
    "4,000 steps": Torture.many_steps,
}


def main(_: Sequence[str]) -> None:
    """Try every fault, and print the table."""
    folder = Path(_FOLDER.value or tempfile.mkdtemp(prefix="torture_")).absolute()
    torture = Torture(folder, _KILLS.value, _PLATFORM.value)
    rows, outcomes = [], {}
    for name, fault in FAULTS.items():
        if not re.search(_ONLY.value, name):
            continue
        if fault in (Torture.disk_full, Torture.read_only) and os.geteuid():
            rows.append((name, 0, "-", "-", "skipped: only root can mount a small disk"))
            continue
        try:
            outcome = outcomes[name] = fault(torture)
            words = {True: "yes", False: "NO", None: "-"}
            survived, identical = words[outcome.survived], words[outcome.identical]
            rows.append((name, outcome.tries, survived, identical, outcome.seen))
        except Exception as error:  # continue with the other faults
            seen = " ".join(str(error).split())[-300:]
            outcomes[name] = Outcome(1, False, False, seen)
            rows.append((name, 1, "NO", "NO", seen))
        print(*rows[-1], sep=" | ", flush=True)
    columns = ("fault", "tries", "survived", "bit-identical", "observed")
    print("\n" + tables.table(columns, rows))
    if _JSON.value:
        values = {name: outcome._asdict() for name, outcome in outcomes.items()}
        atomic.write_json(Path(_JSON.value), values)


if __name__ == "__main__":
    command_line.run(main)
