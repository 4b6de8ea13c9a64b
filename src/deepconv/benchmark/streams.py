"""The real input of a config: alone, and into the update."""

import itertools
import os
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
from deepconv.data import pipeline
from deepconv.data.pipeline import NumpyBatch, Source

# What the host keeps of a batch, for its reports.
_FOR_THE_HOST = ("record", "readable")


def threads_of(config: ConfigDict) -> int:
    """Return how many threads decode, in this process or in each worker, as in a run."""
    return config.input.threads or os.cpu_count() or 1


def host_batches(config: ConfigDict, source: Source) -> Generator[NumpyBatch, None, None]:
    """Iterate over a run's training batches from the first on, as its loop does.

    Args:
      config: of the run.
      source: its training set.
    """
    scale = config.input.scale
    geometry = pipeline.Geometry(config.model.crop, (scale[0], scale[1]), config.input.square)
    batches = pipeline.train_batches(
        source, geometry, batch_size=config.train.batch_size, seed=config.seed
    )
    yield from pipeline.iter_from(
        batches, 0, threads=threads_of(config), workers=config.input.workers
    )


def flight(config: ConfigDict) -> int:
    """Return how many batches are made at a time.

    They begin together and end together, so whole flights are counted, after a first one.
    """
    return threads_of(config) * max(1, config.input.workers)


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
        with closing(host_batches(config, source)) as stream:
            for _ in itertools.islice(stream, flight(config)):
                pass
            start = time.perf_counter()
            for _ in itertools.islice(stream, steps):
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

    def feed(stream: Generator[NumpyBatch, None, None], steps: int) -> None:
        before: Any = None
        for batch in itertools.islice(stream, steps):
            kept = {key: value for key, value in batch.items() if key not in _FOR_THE_HOST}
            metrics = training.step(parallel.shard_batch(kept, mesh))
            jax.block_until_ready(before)
            before = metrics
        jax.block_until_ready(training.state)

    def run(steps: int) -> float:
        steps = _whole_flights(config, steps)
        with closing(host_batches(config, source)) as stream:
            feed(stream, flight(config))
            start = time.perf_counter()
            feed(stream, steps)
            return (time.perf_counter() - start) / steps

    return run
