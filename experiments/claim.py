"""A claim of the papers: which nets are compared, in what, and what the seeds say about it.

A claim's module states the net, the data and the length of its runs before any seed is run.
`claims.py` runs it, and `results.py` makes the tables of docs/results.md.
"""

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import scipy.stats
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments.comparison import Condition, interval
from experiments.records import Record

TOLD = "cannot be told here"
# A net is at chance if its error is at least this share of that of guessing.
AT_CHANCE = 0.95
BySeed = Mapping[int, Record]


class Run(NamedTuple):
    """A complete run, to be measured.

    Attributes:
      label: of its condition.
      config: with its own seed.
      folder: its folder.
      start: the folder of the run that it started from.
      other: from the label of another condition of the claim to its run's folder, of the same
        seed; it is trained if there is none.
    """

    label: str
    config: ConfigDict
    folder: Path
    start: Path | None
    other: Callable[[str], Path]


class Quantity(NamedTuple):
    """A number of a run.

    Attributes:
      name: with its unit.
      of: from a record to the number; None if it has none.
      decimals: in tables.
    """

    name: str
    of: Callable[[Record], float | None]
    decimals: int = 1


class Contrast(NamedTuple):
    """Two things of which, according to a paper, one is larger.

    Attributes:
      statement: what the paper claims.
      paper: the paper's numbers.
      larger: label of the condition whose quantity is claimed to be larger.
      smaller: label of the other.
      quantity: what is compared.
      against: the other's quantity, if it is not the same.
      ratio: whether the quantities are divided instead of subtracted.
      beyond: the difference that has to be exceeded. Negative where the claim is that nothing is
        gained: then a gain as large as this is excluded.
      effect: the paper's difference, to say how many seeds would show it; None: not stated.
    """

    statement: str
    paper: str
    larger: str
    smaller: str
    quantity: Quantity
    against: Quantity | None = None
    ratio: bool = False
    beyond: float = 0.0
    effect: float | None = None


class Outcome(NamedTuple):
    """What the seeds say about a contrast.

    Attributes:
      seeds: those that both sides have.
      mean: of the paired differences, or the geometric mean of the ratios; None without a pair.
      low: lower end of its 95 % interval; None with fewer than two pairs.
      high: upper end.
      verdict: what may be said.
      needed: seeds that would show the paper's effect with a probability of 80 %, if differences
        vary as these do; None if it is not known.
    """

    seeds: tuple[int, ...]
    mean: float | None
    low: float | None
    high: float | None
    verdict: str
    needed: int | None = None


class Claim(NamedTuple):
    """A claim, or several that the same runs can show.

    Attributes:
      name: of its module and of the folder of its records.
      title: heading of its part of docs/results.md.
      width: factor of the nets' widths that fits two cores.
      conditions: from a width to what is run.
      contrasts: what is compared.
      columns: what its table has besides the errors.
      measure: what is recorded of a run besides its errors.
      figure: drawn from every condition's records.
    """

    name: str
    title: str
    width: float
    conditions: Callable[[float], Sequence[Condition]]
    contrasts: Sequence[Contrast]
    columns: Sequence[Quantity] = ()
    measure: Callable[[Run], dict[str, Any]] = lambda run: {}
    figure: Callable[[Mapping[str, BySeed]], Figure] | None = None


def last_error(record: Record) -> float:
    """Return a run's error at its last step in percent; a run that diverged is at chance."""
    last = record["last"]
    return 100 * float(last["top1_error"] if last else record["chance"])


def best_error(record: Record) -> float:
    """Return the lowest error of a run's evaluations in percent."""
    return 100 * min([record["chance"], *record["errors"]["top1_error"]])


LAST = Quantity("top-1 error %, last step", last_error)
BEST = Quantity("best of the epochs", best_error)


def is_at_chance(record: Record) -> bool:
    """Return whether a net guesses at its last step."""
    return last_error(record) >= 100 * AT_CHANCE * record["chance"]


def measured(key: str, name: str, *, error: bool = False, decimals: int = 1) -> Quantity:
    """Return a number that the claim's `measure` has recorded.

    Args:
      key: its key.
      name: its name.
      error: whether it is an error as a fraction, which is given in percent; that of a run that
        diverged is at chance.
      decimals: in tables.
    """

    def of(record: Record) -> float | None:
        if error and not record["last"]:
            return 100 * float(record["chance"])
        value = record["measured"].get(key)
        if value is None:
            return None
        return 100 * float(value) if error else float(value)

    return Quantity(name, of, decimals)


def epochs_to(error: float, curve: str = "top1_error") -> Quantity:
    """Return the first epoch at whose evaluation an error is at most this, a fraction."""

    def of(record: Record) -> float | None:
        errors = record["errors"]
        pairs = zip(errors["epoch"], errors[curve], strict=True)
        return next((epoch for epoch, value in pairs if value <= error), None)

    kind = "training error" if curve == "training_error" else "error"
    return Quantity(f"epochs to {100 * error:g} % {kind}", of)


def _left(record: Record) -> float | None:
    return epochs_to(AT_CHANCE * record["chance"]).of(record)


LEAVES_CHANCE = Quantity("epochs to leave chance", _left)


def outcome(contrast: Contrast, records: Mapping[str, BySeed]) -> Outcome:
    """Compare two conditions seed by seed.

    The interval is Student's t of the paired differences; of ratios, of their logarithms. A claim
    is reproduced if the whole interval is on its side of no effect (`Contrast.beyond`), and not
    reproduced if the whole interval is on the other; otherwise, and with fewer than two pairs, it
    cannot be told.
    """
    one, other = records[contrast.larger], records[contrast.smaller]
    against = contrast.against or contrast.quantity
    pairs = {
        seed: (contrast.quantity.of(one[seed]), against.of(other[seed]))
        for seed in sorted({*one} & {*other})
    }
    complete = {s: (a, b) for s, (a, b) in pairs.items() if a is not None and b is not None}
    seeds = tuple(complete)
    if not seeds:
        return Outcome((), None, None, None, "not run" if not pairs else TOLD)
    differences = [math.log(a / b) if contrast.ratio else a - b for a, b in complete.values()]
    mean, reach = interval(differences)
    scale: Callable[[float], float] = math.exp if contrast.ratio else float
    if reach is None:
        return Outcome(seeds, scale(mean), None, None, TOLD)
    low, high = mean - reach, mean + reach
    verdict = TOLD
    # A pair that a run has no number for is not there: what is left may not decide.
    if len(seeds) == len(pairs):
        if low > contrast.beyond:
            verdict = "reproduced"
        elif high < contrast.beyond:
            verdict = "not reproduced"
    needed = None
    if contrast.effect is not None:
        needed = seeds_needed(contrast.effect, statistics.stdev(differences))
    return Outcome(seeds, scale(mean), scale(low), scale(high), verdict, needed)


def seeds_needed(effect: float, deviation: float) -> int:
    """Return how many pairs show an effect with a probability of 80 %.

    The smallest n with sqrt(n) effect / deviation >= t(0.975) + t(0.8), both of n - 1 degrees of
    freedom.

    Args:
      effect: the true mean of the paired differences, positive.
      deviation: the standard deviation of one of them.
    """
    return next(
        n
        for n in itertools.count(2)
        if math.sqrt(n) * effect >= deviation * sum(scipy.stats.t.ppf((0.975, 0.8), n - 1))
    )
