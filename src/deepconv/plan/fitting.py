"""Whether a compiled training step fits into a device's memory, and in how many microbatches."""

from collections.abc import Callable
from typing import NamedTuple

from deepconv.plan.compiler import Compiled


class Fit(NamedTuple):
    """Whether the training step fits.

    Attributes:
      limit: bytes that jax may use.
      missing: bytes that it needs beyond that; 0 if it fits.
      microbatches: if it does not fit, the fewest that do; None if none do.
    """

    limit: float
    missing: float
    microbatches: int | None


def needed(step: Compiled) -> int:
    """Return the bytes that a device needs for a step, with the batch that is queued meanwhile."""
    return step.memory.peak + step.batch


def state(training: Compiled, evaluation: Compiled) -> int:
    """Return the bytes of the train state that an evaluation does not use but leaves in memory."""
    used = evaluation.memory.arguments - evaluation.batch
    return training.memory.arguments - training.batch - used


def of(
    step: Compiled,
    *,
    limit: float,
    examples: int,
    microbatches: int,
    compiled: Callable[[int], Compiled],
) -> Fit:
    """Return whether a step fits; if not, compile others until one does.

    Temporaries shrink with the microbatches at most in proportion; numbers that would not fit even
    then are not compiled.

    Args:
      step: the training step.
      limit: bytes that jax may use.
      examples: examples of a batch on one device.
      microbatches: number of parts in which a device processes them.
      compiled: compiles the step with another number of microbatches.
    """
    missing = max(0.0, needed(step) - limit)
    if not missing:
        return Fit(limit, 0.0, None)
    fixed = needed(step) - step.memory.temporaries
    for parts in range(microbatches + 1, examples + 1):
        if examples % parts:
            continue
        least = fixed + step.memory.temporaries * microbatches / parts
        if least <= limit and needed(compiled(parts)) <= limit:
            return Fit(limit, missing, parts)
    return Fit(limit, missing, None)
