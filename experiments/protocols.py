"""VGG Tables 4 to 6: several scales beat one, crops and dense complement, two nets beat one.

    python -m experiments.protocols --workdir=runs/jitter --seeds=3

A proxy for two cores: jittered nets A (those of `experiments.jitter`) and D, an eighth as wide, on
the embedded data. Errors are measured on 600 images, so differences below about half a percent are
noise; the mean cross-entropy of the same posteriors is a finer measure.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from deepconv.commands import command_line
from deepconv.inference.evaluate import Request, evaluate
from experiments import comparison
from experiments.comparison import Condition
from experiments.jitter import FIXED, JITTER, TOGETHER, config_of

REQUESTS = (
    ("dense, one scale", Request("dense", FIXED[:1])),
    ("dense, three scales", Request("dense", TOGETHER)),
    ("multi-crop, three scales", Request("multi_crop", TOGETHER)),
    ("both, three scales", Request("multi_crop_and_dense", TOGETHER)),
)
NETS = {"A": "vgg_a", "D": "vgg_d"}


def main(_: Sequence[str]) -> None:
    """Run what is missing, evaluate, then write the table."""
    root = Path(WORKDIR.value)
    labels = {net: f"{net}, S in {JITTER[0]} to {JITTER[1]}" for net in NETS}
    folders = comparison.run(
        [Condition(labels[net], config_of(name, JITTER)) for net, name in NETS.items()],
        root,
        SEEDS.value,
    )
    rows = []
    for nets in (["A"], ["D"], ["A", "D"]):
        for described, request in REQUESTS:
            together = zip(*(folders[labels[net]] for net in nets), strict=True)
            rows.append(
                (
                    " + ".join(nets),
                    described,
                    *_summary([evaluate(runs, request) for runs in together]),
                )
            )
    columns = ("net", "protocol", "top-1 %", "each seed", "cross-entropy", "each seed")
    comparison.write_table(root, "protocols", columns, rows, decimals=2)


def _summary(results: list[dict[str, Any]]) -> tuple[float, str, str, str]:
    errors = [100 * result["top1_error"] for result in results]
    losses = [result["loss"] for result in results]
    return (
        float(np.mean(errors)),
        comparison.each(errors, 2),
        f"{np.mean(losses):.4f}",
        comparison.each(losses, 4),
    )


if __name__ == "__main__":
    WORKDIR = flags.DEFINE_string("workdir", "runs/jitter", "Folder of all the runs.")
    SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds.", lower_bound=1)
    command_line.run(main)
