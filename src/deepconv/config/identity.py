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
