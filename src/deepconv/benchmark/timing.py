"""Contenders that take turns, so that a noisy machine is noisy for all; medians and spreads.

seconds = alternate({"train": run, "train, another framework": other}, rounds=5, steps=10)
spread(seconds["train"]).median
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

# Makes so many steps, waits for the last, and returns the seconds of one on average.
Run = Callable[[int], float]


class Contender(NamedTuple):
    """What takes a turn in every round.

    Attributes:
      run: see `Run`; None: it is compiled, but not timed.
      compile_seconds: of tracing, lowering and compiling it; None: not measured, or not compiled.
      memory: in bytes; None: not measured.
    """

    run: Run | None
    compile_seconds: float | None = None
    memory: int | None = None


# So many steps of each contender go before all that counts.
WARM_UP = 2

_REST_SECONDS = 0.02
_PATIENCE_SECONDS = 10.0


class Spread(NamedTuple):
    """Of a figure that was taken once a round.

    Attributes:
      median: over the rounds.
      lower: quartile, interpolated.
      upper: quartile, interpolated.
      least: of all rounds.
      most: of all rounds.
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
    """Return, round by round, how many times as fast the reference is: seconds / reference.

    Args:
      seconds: `[rounds]`, of a step.
      reference: `[rounds]`, in the same rounds.
    """
    return [a / b for a, b in zip(seconds, reference, strict=True)]


def shares_of_the_slower(
    together: Sequence[float], first: Sequence[float], second: Sequence[float]
) -> list[float]:
    """Return, round by round, what share of the rate of the slower of two alone is reached.

    max(first, second) / together

    Args:
      together: `[rounds]`, seconds of a step of both.
      first: `[rounds]`, of the one alone.
      second: `[rounds]`, of the other alone.
    """
    slower = [max(pair) for pair in zip(first, second, strict=True)]
    return ratios(slower, together)


def alternate(contenders: Mapping[str, Run], *, rounds: int, steps: int) -> dict[str, list[float]]:
    """Warm all contenders up, then let each make its steps in every round.

    Every other round goes backwards, so that nobody always comes after the same other.

    Args:
      contenders: by name.
      rounds: how many count.
      steps: of each contender in a round.

    Returns:
      `{name: [rounds] seconds of a step}`.
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
    """Wait until this process is at rest: threads may still decode for the turn before."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < end:
        before = time.process_time()
        time.sleep(_REST_SECONDS)
        if time.process_time() - before < _REST_SECONDS / 4:
            return
