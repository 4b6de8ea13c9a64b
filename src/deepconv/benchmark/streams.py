"""The real input of a config: alone, and feeding the training step."""

import itertools
import time
from collections.abc import Generator
from contextlib import closing
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from deepconv import parallel
from deepconv.benchmark.programs import Training
from deepconv.benchmark.timing import Run
from deepconv.data.pipeline import NumpyBatch, Source
from deepconv.training import stream


def flight(config: ConfigDict) -> int:
    """Return how many batches are prepared at a time.

    They start and finish together, so only whole flights are timed, after a first one.
    """
    total: int = stream.threads(config) * max(1, config.input.workers)
    return total


def _whole_flights(config: ConfigDict, steps: int) -> int:
    return -(-steps // flight(config)) * flight(config)


def host_input(config: ConfigDict, source: Source) -> Run:
    """Return a function that prepares batches and discards them; a step is one batch.

    Every turn starts a new stream and ends with a whole flight, so it may run a few more steps than
    requested.

    Args:
      config: the run's config.
      source: its training set.
    """

    def run(steps: int) -> float:
        steps = _whole_flights(config, steps)
        with closing(stream.train(config, source)) as batches:
            for _ in itertools.islice(batches, flight(config)):
                pass
            start = time.perf_counter()
            for _ in itertools.islice(batches, steps):
                pass
            return (time.perf_counter() - start) / steps

    return run


def into_training(config: ConfigDict, source: Source, training: Training, mesh: Mesh) -> Run:
    """Return a function that runs updates on real batches, with one step in flight, as in a run.

    Its turns are like those of `host_input`.

    Args:
      config: the run's config.
      source: its training set.
      training: the training step.
      mesh: the devices.
    """

    def feed(batches: Generator[NumpyBatch, None, None], steps: int) -> None:
        before: Any = None
        for batch in itertools.islice(batches, steps):
            metrics = training.step(parallel.shard_batch(batch["device"], mesh))
            jax.block_until_ready(before)
            before = metrics
        jax.block_until_ready(training.state)

    def run(steps: int) -> float:
        steps = _whole_flights(config, steps)
        with closing(stream.train(config, source)) as batches:
            feed(batches, flight(config))
            start = time.perf_counter()
            feed(batches, steps)
            return (time.perf_counter() - start) / steps

    return run
