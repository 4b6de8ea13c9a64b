"""VGG Tables 4 to 6: several scales beat one, crops and dense complement, two nets beat one.

    python -m experiments.protocols --workdir=runs/jitter --seeds=3

A proxy for two cores: the jittered nets of `experiments.jitter`, A and D an eighth as wide, on the
embedded data. Errors are of 600 images, so a difference of less than about half a percent is
chance; the mean cross-entropy of the same posteriors is the finer measure.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from deepconv import command_line, reporting
from deepconv.evaluate import Plan, evaluate
from experiments import jitter

SINGLE = (84,)
ROWS = (
    ("dense, one scale", Plan("dense", SINGLE)),
    ("dense, three scales", Plan("dense", jitter.TOGETHER)),
    ("multi-crop, three scales", Plan("multi_crop", jitter.TOGETHER)),
    ("multi-crop and dense, three scales", Plan("multi_crop_and_dense", jitter.TOGETHER)),
)
NETS = (("vgg_a",), ("vgg_d",), ("vgg_a", "vgg_d"))


def main(_: Sequence[str]) -> None:
    """Train what is missing, evaluate, then write the table."""
    root = Path(WORKDIR.value).absolute()
    (trained,) = (name for name, (low, high) in jitter.TRAINED.items() if low < high)
    runs = [
        {net: jitter.train(root, net, trained, seed) for net in ("vgg_a", "vgg_d")}
        for seed in range(SEEDS.value)
    ]
    rows = []
    for nets in NETS:
        for label, plan in ROWS:
            results = [evaluate([of_seed[net] for net in nets], plan) for of_seed in runs]
            name = " + ".join(net.removeprefix("vgg_").upper() for net in nets)
            rows.append((name, label, *_summary(results)))
    columns = ("net", "protocol", "top-1 %", "each seed", "cross-entropy", "each seed")
    table = reporting.table(columns, rows, decimals=2)
    (root / "protocols.txt").write_text(table + "\n")
    print(table)


def _summary(results: list[dict[str, Any]]) -> tuple[float, str, str, str]:
    errors = [100 * result["top1_error"] for result in results]
    losses = [result["loss"] for result in results]
    return (
        float(np.mean(errors)),
        " ".join(f"{error:.2f}" for error in errors),
        f"{np.mean(losses):.4f}",
        " ".join(f"{loss:.4f}" for loss in losses),
    )


if __name__ == "__main__":
    WORKDIR = flags.DEFINE_string("workdir", "runs/jitter", "Folder of all the runs.")
    SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds.", lower_bound=1)
    command_line.run(main)
