"""Print VGG's Tables 3 to 6, 8 and 9, with our errors next to the paper's.

    python -m experiments.vgg_tables --workdir=runs             # Table 3
    python -m experiments.vgg_tables --workdir=runs --tables=3,4,5,6,8,9

Evaluates the complete runs `<network>_<stage>` in the work directory, each as its row says, unless
the result is already on disk. A dash means that there is no such run. The scales shown are the
paper's; those of a run trained at other scales are in the same proportion. The seven nets of the
paper's submission include `vgg_d_jitter_fc`, D at the jittered scale with only the fully connected
layers trained (`--config=configs/vgg_d.py:submission`). Tables 8 and 9 are those of `vgg_boxes`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags

from deepconv import atomic, tables
from deepconv.commands import command_line
from deepconv.config.recipe import SCALES
from deepconv.exceptions import UserError
from deepconv.inference.evaluate import Request, evaluate
from deepconv.run.files import RunFolder
from experiments import vgg_boxes


class Row(NamedTuple):
    """A row of one of the paper's tables: errors in percent on ILSVRC-2012's validation set.

    Attributes:
      table: its number.
      stages: our runs, with the scales Q at which each is evaluated.
      protocol: a key of `protocols.PROTOCOLS`.
      top1: the paper's top-1 error.
      top5: its top-5 error.
    """

    table: int
    stages: tuple[tuple[str, tuple[int, ...]], ...]
    protocol: str
    top1: float
    top5: float


_FIXED, _LARGE, _JITTER = (224, 256, 288), (352, 384, 416), (256, 384, 512)
_POST_SUBMISSION = (("vgg_d_jitter", _JITTER), ("vgg_e_jitter", _JITTER))
_SUBMISSION = (
    ("vgg_d_256", _FIXED),
    ("vgg_d_384", _LARGE),
    ("vgg_d_jitter_fc", _JITTER),
    ("vgg_c_256", _FIXED),
    ("vgg_c_384", _LARGE),
    ("vgg_e_256", _FIXED),
    ("vgg_e_384", _LARGE),
)
ROWS = (
    Row(3, (("vgg_a_256", (256,)),), "dense", 29.6, 10.4),
    Row(3, (("vgg_a_lrn_256", (256,)),), "dense", 29.7, 10.5),
    Row(3, (("vgg_b_256", (256,)),), "dense", 28.7, 9.9),
    Row(3, (("vgg_c_256", (256,)),), "dense", 28.1, 9.4),
    Row(3, (("vgg_c_384", (384,)),), "dense", 28.1, 9.3),
    Row(3, (("vgg_c_jitter", (384,)),), "dense", 27.3, 8.8),
    Row(3, (("vgg_d_256", (256,)),), "dense", 27.0, 8.8),
    Row(3, (("vgg_d_384", (384,)),), "dense", 26.8, 8.7),
    Row(3, (("vgg_d_jitter", (384,)),), "dense", 25.6, 8.1),
    Row(3, (("vgg_e_256", (256,)),), "dense", 27.3, 9.0),
    Row(3, (("vgg_e_384", (384,)),), "dense", 26.9, 8.7),
    Row(3, (("vgg_e_jitter", (384,)),), "dense", 25.5, 8.0),
    Row(4, (("vgg_b_256", _FIXED),), "dense", 28.2, 9.6),
    Row(4, (("vgg_c_256", _FIXED),), "dense", 27.7, 9.2),
    Row(4, (("vgg_c_384", _LARGE),), "dense", 27.8, 9.2),
    Row(4, (("vgg_c_jitter", _JITTER),), "dense", 26.3, 8.2),
    Row(4, (("vgg_d_256", _FIXED),), "dense", 26.6, 8.6),
    Row(4, (("vgg_d_384", _LARGE),), "dense", 26.5, 8.6),
    Row(4, (("vgg_d_jitter", _JITTER),), "dense", 24.8, 7.5),
    Row(4, (("vgg_e_256", _FIXED),), "dense", 26.9, 8.7),
    Row(4, (("vgg_e_384", _LARGE),), "dense", 26.7, 8.6),
    Row(4, (("vgg_e_jitter", _JITTER),), "dense", 24.8, 7.5),
    Row(5, (("vgg_d_jitter", _JITTER),), "dense", 24.8, 7.5),
    Row(5, (("vgg_d_jitter", _JITTER),), "multi_crop", 24.6, 7.5),
    Row(5, (("vgg_d_jitter", _JITTER),), "multi_crop_and_dense", 24.4, 7.2),
    Row(5, (("vgg_e_jitter", _JITTER),), "dense", 24.8, 7.5),
    Row(5, (("vgg_e_jitter", _JITTER),), "multi_crop", 24.6, 7.4),
    Row(5, (("vgg_e_jitter", _JITTER),), "multi_crop_and_dense", 24.4, 7.1),
    Row(6, _SUBMISSION, "dense", 24.7, 7.5),
    Row(6, _POST_SUBMISSION, "dense", 24.0, 7.1),
    Row(6, _POST_SUBMISSION, "multi_crop", 23.9, 7.2),
    Row(6, _POST_SUBMISSION, "multi_crop_and_dense", 23.7, 6.8),
)
_TITLES = {
    3: "Table 3: single test scale",
    4: "Table 4: several test scales",
    5: "Table 5: dense, multi-crop and both",
    6: "Table 6: fusion of networks",
    **vgg_boxes.TITLES,
}
_COLUMNS: tuple[str, ...] = (
    *("net, S", "Q", "protocol", "paper top-1", "paper top-5"),
    *("our top-1", "our top-5", "on"),
)


def our_errors(row: Row, workdir: Path) -> tuple[float | None, float | None, str]:
    """Return our top-1 and top-5 error in percent and the data set; None where a run is missing."""
    if not all(RunFolder(workdir / run).result.exists() for run, _ in row.stages):
        return None, None, ""
    members = []
    for run, scales in row.stages:
        config = json.loads(RunFolder(workdir / run).config.read_text())
        smallest = SCALES[run.split("_")[-1].replace("fc", "jitter")].smallest
        factor = config["input"]["scale"][0] / smallest
        request = Request(row.protocol, tuple(round(scale * factor) for scale in scales))
        result = evaluate([workdir / run], request)
        members.append(Path(result["posteriors"]))
    if len(members) > 1:
        result = evaluate([], Request(), posteriors=members, out=workdir / "fusion")
    return 100 * result["top1_error"], 100 * result["top5_error"], config["dataset"]["name"]


def table(number: int, workdir: Path) -> str:
    """Return one of the paper's tables as text; it is also written to `table_<number>.txt`.

    `table_<number>.json` has its rows.
    """
    columns: tuple[str, ...]
    rows: list[tuple[str | float | None, ...]]
    if number in vgg_boxes.COLUMNS:
        columns, rows = vgg_boxes.COLUMNS[number], vgg_boxes.rows_of(number, workdir)
    else:
        columns = _COLUMNS
        rows = [
            (*_described(row), row.protocol, row.top1, row.top5, *our_errors(row, workdir))
            for row in ROWS
            if row.table == number
        ]
    text = f"VGG, {_TITLES[number]}; errors in percent\n\n{tables.table(columns, rows)}\n"
    file = workdir / f"table_{number}"
    atomic.write_json(
        file.with_suffix(".json"), [dict(zip(columns, row, strict=True)) for row in rows]
    )
    file.with_suffix(".txt").write_text(text)
    return text


def _described(row: Row) -> tuple[str, str]:
    if row.stages == _SUBMISSION:
        return "submission of 7 nets", "those of Table 4"
    (scales,) = {scales for _, scales in row.stages}
    return " + ".join(_net(run) for run, _ in row.stages), ",".join(map(str, scales))


def _net(run: str) -> str:
    network, _, scale = run.removeprefix("vgg_").upper().replace("A_LRN", "A-LRN").partition("_")
    return f"{network} {scale.replace('JITTER', '[256;512]')}"


def main(_: Sequence[str]) -> None:
    """Evaluate what is missing, then print the tables."""
    unknown = [number for number in TABLES.value if number not in map(str, _TITLES)]
    if unknown:
        raise UserError(
            f"unknown --tables={unknown[0]}; choose from {', '.join(map(str, _TITLES))}"
        )
    for number in TABLES.value:
        print(table(int(number), Path(WORKDIR.value).absolute()))


if __name__ == "__main__":
    WORKDIR = flags.DEFINE_string("workdir", "runs", "Folder of the runs.")
    TABLES = flags.DEFINE_list("tables", ["3"], "Numbers of the paper's tables.")
    command_line.run(main)
