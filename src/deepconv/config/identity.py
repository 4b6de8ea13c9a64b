"""What makes a run the same run: the settings that may not change when it is taken up again."""

import hashlib
import json
from typing import Any

from ml_collections import ConfigDict

from deepconv.config.schema import flattened

# What may differ when a run is taken up again: where things lie, how often it speaks, and what
# changes the sums' rounding alone, as another number of devices does.
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
    """Return the settings that a run keeps to its end, flattened to `{"section.key": value}`."""
    return {
        key: value
        for key, value in json.loads(json.dumps(dict(flattened(config)))).items()
        # What the recipe says has gone into its stages, each of which is a plain run.
        if key not in _FREE and not key.startswith("recipe.")
    }


def config_digest(config: ConfigDict) -> str:
    """Return a short hash of `fixed_settings`."""
    text = json.dumps(fixed_settings(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
