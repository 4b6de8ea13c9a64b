"""The batches that a config describes.

for batch in stream.train(config, dataset.train, first=step):
    state, metrics = step(state, parallel.shard_batch(batch["device"], mesh))
"""

import dataclasses
import os
from collections.abc import Generator

import jax
from ml_collections import ConfigDict

from deepconv.data import pipeline
from deepconv.data.pipeline import Geometry, NumpyBatch, Source
from deepconv.data.targets import CLASS, Target


def geometry(config: ConfigDict) -> Geometry:
    """Return how to cut a training crop."""
    scale = config.input.scale
    return Geometry(config.model.crop, (scale[0], scale[1]), config.input.square)


def threads(config: ConfigDict) -> int:
    """Return the number of decoding threads, in this process or in each worker."""
    return config.input.threads or os.cpu_count() or 1


def train(
    config: ConfigDict, source: Source, *, target: Target = CLASS, first: int = 0
) -> Generator[NumpyBatch, None, None]:
    """Iterate over this process's training batches, endlessly.

    Args:
      config: the run's config.
      source: its training set.
      target: how the target of a crop is made.
      first: number of the first batch.
    """
    batches = pipeline.train_batches(
        source,
        geometry(config),
        batch_size=config.train.batch_size,
        seed=config.seed,
        target=target,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    yield from pipeline.iter_from(
        batches, first, threads=threads(config), workers=config.input.workers
    )


def evaluation(
    config: ConfigDict, source: Source, *, target: Target = CLASS
) -> Generator[NumpyBatch, None, None]:
    """Iterate over this process's batches of central crops, each record once.

    Args:
      config: the run's config.
      source: its evaluation set.
      target: how the target of a crop is made.
    """
    scale = config.evaluation.scale
    batches = pipeline.eval_batches(
        source,
        dataclasses.replace(geometry(config), scale=(scale, scale)),
        batch_size=config.evaluation.batch_size,
        target=target,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    yield from pipeline.iter_from(batches, 0, threads=threads(config))
