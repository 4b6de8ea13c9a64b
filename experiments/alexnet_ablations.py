"""Train AlexNet without each of its parts, and compare with what the paper says each is worth.

    python -m experiments.alexnet_ablations --workdir=runs/alexnet_ablations
    python -m experiments.alexnet_ablations --variant=tiny    # narrow, embedded data, two cores

Differences are from the config's net, in points of error; positive means that the changed net is
worse. The paper's are for ten crops on ImageNet (sections 3.2 to 3.4, 4.1 and 7), ours for the
center crop at the last step.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from configs import alexnet
from deepconv.commands import command_line
from deepconv.exceptions import UserError
from experiments import comparison
from experiments.comparison import Condition


class Ablation(NamedTuple):
    """A net that differs from the paper's in one thing.

    Attributes:
      label: its name in the table.
      changes: config keys and their values.
      top1: its cost according to the paper, in points of top-1 error; None: not stated.
      top5: likewise, of top-5 error.
    """

    label: str
    changes: dict[str, Any]
    top1: str | None = None
    top5: str | None = None


ERRORS = ("top1_error", "top5_error")
BASE = Ablation("AlexNet", {})
ABLATIONS = (
    Ablation("half net", {"model.towers": 1, "model.half": True}, "1.7", "1.2"),
    Ablation("no LRN", {"model.lrn": "none"}, "1.4", "1.2"),
    Ablation("2x2 pooling", {"model.pooling": "non_overlapping"}, "0.4", "0.3"),
    Ablation("no color jitter", {"augment.pca_std": 0.0}, "over 1"),
    Ablation("without conv2", {"model.without": "conv2"}, "about 2"),
    Ablation("without conv3", {"model.without": "conv3"}, "about 2"),
    Ablation("without conv4", {"model.without": "conv4"}, "about 2"),
    Ablation("without conv5", {"model.without": "conv5"}, "about 2"),
    Ablation("no dropout", {"model.dropout": 0.0}),
    Ablation("no flips", {"augment.flip": False}),
    Ablation("one tower", {"model.towers": 1}),
    Ablation("sixth convolution", {"model.conv6": True}),
)


def config_of(ablation: Ablation, variant: str) -> ConfigDict:
    """Return the config of one net."""
    config = alexnet.get_config(variant)
    if config.recipe.name != "single":
        raise UserError(
            f"--variant={variant} is a recipe of stages; choose a variant of a single run"
        )
    config.update_from_flattened_dict(ablation.changes)
    return config


def rows(folders: dict[str, list[Path]]) -> list[tuple[Any, ...]]:
    """Return a row for each net that was run."""
    base = {key: comparison.last_errors(folders[BASE.label], key) for key in ERRORS}
    found = []
    for ablation in (BASE, *ABLATIONS):
        runs = folders[ablation.label]
        errors = {key: comparison.last_errors(runs, key) for key in ERRORS}
        costs: list[float | None] = [
            float(np.mean(errors[key]) - np.mean(base[key])) if ablation != BASE else None
            for key in ERRORS
        ]
        found.append(
            (
                ablation.label,
                comparison.results(runs)[0]["parameters"],
                float(np.mean(errors["top1_error"])),
                comparison.each(errors["top1_error"]),
                *costs,
                ablation.top1,
                ablation.top5,
            )
        )
    return found


def main(_: Sequence[str]) -> None:
    """Run what is missing, then write the table."""
    root = Path(WORKDIR.value)
    nets = [Condition(a.label, config_of(a, VARIANT.value)) for a in (BASE, *ABLATIONS)]
    folders = comparison.run(nets, root, SEEDS.value)
    columns = (
        "net",
        "parameters",
        "top-1 error %, mean",
        "each seed",
        "top-1, difference",
        "top-5, difference",
        "paper, top-1",
        "paper, top-5",
    )
    dataset = nets[0].config.dataset.name
    comparison.write_table(
        root, "alexnet_ablations", columns, rows(folders), note=f"ours on {dataset}, center crop"
    )


if __name__ == "__main__":
    WORKDIR = flags.DEFINE_string("workdir", "runs/alexnet_ablations", "Folder of all the runs.")
    VARIANT = flags.DEFINE_string("variant", "", "Variant of configs/alexnet.py, such as tiny.")
    SEEDS = flags.DEFINE_integer("seeds", 1, "Number of seeds.", lower_bound=1)
    command_line.run(main)
