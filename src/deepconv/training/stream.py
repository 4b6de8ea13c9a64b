"""A config's own batches, on the host and as the devices take them.

for batch in stream.train(config, dataset.train, first=step):
    state, metrics = step(state, parallel.shard_batch(stream.for_devices(batch), mesh))
"""

import os
from collections.abc import Generator

import jax
from ml_collections import ConfigDict

from deepconv.data import pipeline
from deepconv.data.pipeline import Geometry, NumpyBatch, Source

# What the host keeps of a batch, for its reports.
_FOR_THE_HOST = ("record", "readable")


def geometry(config: ConfigDict) -> Geometry:
    """Return how a training crop is cut."""
    scale = config.input.scale
    return Geometry(config.model.crop, (scale[0], scale[1]), config.input.square)


def threads(config: ConfigDict) -> int:
    """Return how many threads decode, in this process or in each worker."""
    return config.input.threads or os.cpu_count() or 1


def train(
    config: ConfigDict, source: Source, *, first: int = 0
) -> Generator[NumpyBatch, None, None]:
    """Iterate over this process's training batches, without end.

    Args:
      config: of the run.
      source: its training set.
      first: number of the batch to begin with.
    """
    batches = pipeline.train_batches(
        source,
        geometry(config),
        batch_size=config.train.batch_size,
        seed=config.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    yield from pipeline.iter_from(
        batches, first, threads=threads(config), workers=config.input.workers
    )


def for_devices(batch: NumpyBatch) -> NumpyBatch:
    """Return the part of a batch that the devices need."""
    return {key: value for key, value in batch.items() if key not in _FOR_THE_HOST}
