"""Runs as real processes, for the tests that start, kill and finish them."""

import signal

import pytest

from tests.faults.processes import Command, wait_for_step


@pytest.fixture(scope="session")
def kill_at():
    """Return a function that starts a command and kills it once a run has reported a step."""

    def start_and_kill(command, folder, step, run=None, **options):
        processes = command.start(folder, **options)
        wait_for_step(processes, run or folder, step)
        for process in processes:
            process.handle.send_signal(signal.SIGKILL)
        for process in processes:
            process.wait()

    return start_and_kill


@pytest.fixture(scope="session")
def quickstart(shapes_root):
    """Return the command of a run of forty steps."""
    settings = (
        "--config.model.width=0.0625",
        "--config.dataset.train_split=train[:320]",
        "--config.dataset.eval_split=validation[:60]",
        "--config.train.batch_size=32",
        "--config.train.epochs=4",
        "--config.train.log_steps=1",
        "--config.evaluation.batch_size=32",
        "--config.checkpoint.every_steps=3",
    )
    return Command("configs/quickstart.py", settings, shapes_root)
