"""VGG's Table 3, single-scale evaluation, with our column beside the paper's.

    python -m experiments.vgg_table3 --workdir=runs

Reads the `result.json` of the runs `<network>_<stage>` in the work directory; a dash: no such run.
Our errors are the center crop's at the last step, the paper's are of dense evaluation.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from deepconv import command_line, reporting


class Row(NamedTuple):
    """A row of the paper's table: errors in percent on ILSVRC-2012's validation set.

    Attributes:
      network: the column of Table 1.
      train: the shorter side S.
      test: the shorter side Q.
      top1: top-1 error.
      top5: top-5 error.
      run: name of our run.
    """

    network: str
    train: str
    test: int
    top1: float
    top5: float
    run: str


TABLE_3 = (
    Row("A", "256", 256, 29.6, 10.4, "vgg_a_256"),
    Row("A-LRN", "256", 256, 29.7, 10.5, "vgg_a_lrn_256"),
    Row("B", "256", 256, 28.7, 9.9, "vgg_b_256"),
    Row("C", "256", 256, 28.1, 9.4, "vgg_c_256"),
    Row("C", "384", 384, 28.1, 9.3, "vgg_c_384"),
    Row("C", "[256;512]", 384, 27.3, 8.8, "vgg_c_jitter"),
    Row("D", "256", 256, 27.0, 8.8, "vgg_d_256"),
    Row("D", "384", 384, 26.8, 8.7, "vgg_d_384"),
    Row("D", "[256;512]", 384, 25.6, 8.1, "vgg_d_jitter"),
    Row("E", "256", 256, 27.3, 9.0, "vgg_e_256"),
    Row("E", "384", 384, 26.9, 8.7, "vgg_e_384"),
    Row("E", "[256;512]", 384, 25.5, 8.0, "vgg_e_jitter"),
)


def rows(workdir: Path) -> list[tuple[Any, ...]]:
    """Return the table's rows: the paper's, then our top-1 and top-5 errors, data set and run."""
    found = []
    for row in TABLE_3:
        path = workdir / row.run / "result.json"
        ours: tuple[Any, ...] = (None, None, "")
        if path.exists():
            result = json.loads(path.read_text())
            last = result["last"]
            ours = (100 * last["top1_error"], 100 * last["top5_error"], result["dataset"])
        found.append((*row[:5], *ours))
    return found


def main(_: Sequence[str]) -> None:
    """Print the table."""
    columns = ("net", "S", "Q", "paper top-1", "paper top-5", "our top-1", "our top-5", "on")
    table = reporting.table(columns, rows(Path(WORKDIR.value)))
    print(f"VGG, Table 3 (single test scale), errors in percent\n\n{table}")


if __name__ == "__main__":
    WORKDIR = flags.DEFINE_string("workdir", "runs", "Folder of the runs.")
    command_line.run(main)
