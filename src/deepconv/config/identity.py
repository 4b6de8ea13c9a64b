"""The identity of a run: the settings that must not change when it is resumed."""

import hashlib
import json
from typing import Any

from ml_collections import ConfigDict

from deepconv.config.schema import flattened

# What may change when a run is resumed: paths, parallelism, how often it logs and saves, and what
# affects only the rounding of sums, as the number of devices does.
_FREE = (
    "dataset.data_dir",
    "input.threads",
    "input.workers",
    "train.log_steps",
    "train.microbatches",
    "train.model_devices",
    "checkpoint.every_steps",
    "checkpoint.keep",
)

# These change nothing that was done either, but results computed later may depend on them.
_LATER = ("evaluation.batch_size", "input.max_unreadable")
# They say only when a run ends, so a larger value continues it.
_LIMITS = ("train.epochs", "plateau.max_drops")


def conflicts(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the settings with which a run that has begun cannot be continued.

    Args:
      before: the `fixed_settings` of the run.
      now: those it is to be continued with.
    """
    may_change = {*_LATER, *raised_limits(before, now)}
    return sorted(
        key
        for key in before.keys() | now.keys()
        if before.get(key) != now.get(key) and key not in may_change
    )


def raised_limits(before: dict[str, Any], now: dict[str, Any]) -> tuple[str, ...]:
    """Return the settings that let a run go on for longer, and change nothing of what it has done.

    Args:
      before: the `fixed_settings` of a run that has begun.
      now: those it is to be continued with.
    """
    # A cosine's learning rates depend on the last epoch from the first.
    if before.get("schedule.name") == "cosine":
        return ()
    return tuple(key for key in _LIMITS if now[key] > before.get(key, now[key]))


def fixed_settings(config: ConfigDict) -> dict[str, Any]:
    """Return the settings that are fixed for a whole run, flattened to `{"section.key": value}`."""
    return {
        key: value
        for key, value in json.loads(json.dumps(dict(flattened(config)))).items()
        # The recipe has been expanded into stages, each of which is a plain run.
        if key not in _FREE and not key.startswith("recipe.")
    }


def config_digest(config: ConfigDict) -> str:
    """Return a short hash of `fixed_settings`."""
    text = json.dumps(fixed_settings(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
