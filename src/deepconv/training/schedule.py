"""Schedules of the learning rate: by the validation error, as in both papers, or by the step.

schedule = create("cosine", base=0.01, total=10_000, warmup=500)
rate = schedule(step)
"""

from collections.abc import Sequence

import optax

# `plateau` is not a function of the step; see plateau.py.
NAMES = ("plateau", "constant", "steps", "cosine")


def create(
    name: str,
    *,
    base: float,
    total: int,
    factor: float = 0.1,
    drops: Sequence[int] = (),
    warmup: int = 0,
) -> optax.Schedule | None:
    """Return an optax schedule, a function from the number of updates to the learning rate.

    constant: base. steps: base * factor^(drops passed). cosine: base * min(1, t / warmup), then
    base / 2 * (1 + cos(pi (t - warmup) / (total - warmup))).

    Args:
      name: one of `NAMES`.
      base: the learning rate, for "steps" before the first drop, for "cosine" at its highest.
      total: number of updates of the whole run.
      factor: what the learning rate is multiplied by at each drop.
      drops: the updates at which it drops.
      warmup: number of updates in which it rises from 0.

    Returns:
      The schedule; None for "plateau", which depends on the validation error.

    Raises:
      ValueError: if there is no such schedule, or the warm-up takes the whole run.
    """
    match name:
        case "plateau":
            return None
        case "constant":
            return optax.constant_schedule(base)
        case "steps":
            return optax.piecewise_constant_schedule(base, dict.fromkeys(drops, factor))
        case "cosine":
            if warmup >= total:
                raise ValueError(
                    f"schedule.warmup_epochs is {warmup} updates, but the whole run has {total}"
                )
            return optax.warmup_cosine_decay_schedule(0.0 if warmup else base, base, warmup, total)
    raise ValueError(f"unknown schedule.name {name!r}; choose from {', '.join(NAMES)}")
