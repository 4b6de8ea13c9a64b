"""The real input of a config: alone, and into the update."""

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
    """Return how many batches are made at a time.

    They begin together and end together, so whole flights are counted, after a first one.
    """
    total: int = stream.threads(config) * max(1, config.input.workers)
    return total


def _whole_flights(config: ConfigDict, steps: int) -> int:
    return -(-steps // flight(config)) * flight(config)


def host_input(config: ConfigDict, source: Source) -> Run:
    """Return what makes batches and drops them; a step is one batch.

    Every turn begins the stream anew and ends with a whole flight, so a few more steps may be made
    than are asked for.

    Args:
      config: of the run.
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
    """Return what makes updates on real batches, one step in flight, as a run's loop does.

    Its turns are as those of `host_input`.

    Args:
      config: of the run.
      source: its training set.
      training: the update.
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
