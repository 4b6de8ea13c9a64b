"""Time contenders in turn, so that noise on the machine affects all of them; medians and spreads.

seconds = alternate({"train": run, "train, another framework": other}, rounds=5, steps=10)
spread(seconds["train"]).median
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

# Runs this many steps, waits for the last one, and returns the mean seconds per step.
Run = Callable[[int], float]


class Contender(NamedTuple):
    """Something that is timed in every round.

    Attributes:
      run: see `Run`; None: it is compiled, but not timed.
      compile_seconds: to trace, lower and compile it; None: not measured, or not compiled.
      memory: in bytes; None: not measured.
    """

    run: Run | None
    compile_seconds: float | None = None
    memory: int | None = None


# Untimed steps of each contender before the first round.
WARM_UP = 2

_REST_SECONDS = 0.02
_PATIENCE_SECONDS = 10.0


class Spread(NamedTuple):
    """The spread of a value that was measured once per round.

    Attributes:
      median: over the rounds.
      lower: quartile, interpolated.
      upper: quartile, interpolated.
      least: minimum over the rounds.
      most: maximum over the rounds.
    """

    median: float
    lower: float
    upper: float
    least: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    """Return the median, quartiles and extremes of the rounds' values.

    Raises:
      ValueError: if there are none.
    """
    if not values:
        raise ValueError("no round was timed")
    least, lower, median, upper, most = np.percentile(values, (0, 25, 50, 75, 100)).tolist()
    return Spread(median, lower, upper, least, most)


def ratios(seconds: Sequence[float], reference: Sequence[float]) -> list[float]:
    """Return for each round how many times as fast the reference is: seconds / reference.

    Args:
      seconds: `[rounds]`, seconds per step.
      reference: `[rounds]`, likewise, in the same rounds.
    """
    return [a / b for a, b in zip(seconds, reference, strict=True)]


def shares_of_the_slower(
    together: Sequence[float], first: Sequence[float], second: Sequence[float]
) -> list[float]:
    """Return for each round the speed of both together, relative to the slower one alone.

    max(first, second) / together

    Args:
      together: `[rounds]`, seconds per step of both.
      first: `[rounds]`, seconds per step of the first alone.
      second: `[rounds]`, seconds per step of the second alone.
    """
    slower = [max(pair) for pair in zip(first, second, strict=True)]
    return ratios(slower, together)


def alternate(contenders: Mapping[str, Run], *, rounds: int, steps: int) -> dict[str, list[float]]:
    """Warm up all contenders, then time each of them in every round.

    Every other round is in reverse order, so that no contender always follows the same one.

    Args:
      contenders: by name.
      rounds: number of timed rounds.
      steps: steps of each contender per round.

    Returns:
      `{name: [rounds] seconds per step}`.
    """
    for run in contenders.values():
        run(WARM_UP)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in [*contenders][:: -1 if number % 2 else 1]:
            _settle()
            seconds[name].append(contenders[name](steps))
    return seconds


def _settle() -> None:
    """Wait until this process is idle: threads may still be decoding for the previous turn."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < end:
        before = time.process_time()
        time.sleep(_REST_SECONDS)
        if time.process_time() - before < _REST_SECONDS / 4:
            return
