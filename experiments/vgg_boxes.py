"""VGG's Tables 8 and 9, localization, with our errors next to the paper's; see `vgg_tables`.

The runs are those of `configs/localization.py`: `<network>_<scale>_boxes_<kind>`, with `_fc` where
only the fully connected layers train. The classifier is the net of the same scale; of the fusion
the one at 384.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from deepconv.config.recipe import SCALES
from deepconv.localization.evaluate import Request, evaluate
from deepconv.run.files import RunFolder


class Row(NamedTuple):
    """A row of one of the paper's tables on localization.

    Attributes:
      table: its number.
      described: the row's own columns.
      boxes: our runs, with the scales Q at which each is evaluated.
      classifier: our run that says which classes; empty where the class is given.
      paper: the paper's error in percent on ILSVRC's validation set.
    """

    table: int
    described: tuple[str, str]
    boxes: tuple[tuple[str, tuple[int, ...]], ...]
    classifier: str
    paper: float


_BEST = "vgg_d_{}_boxes_per_class"
ROWS = (
    Row(8, ("fc6 and fc7", "SCR"), (("vgg_d_384_boxes_single_fc", (384,)),), "", 36.4),
    Row(8, ("fc6 and fc7", "PCR"), (("vgg_d_384_boxes_per_class_fc", (384,)),), "", 34.3),
    Row(8, ("all", "PCR"), ((_BEST.format(384), (384,)),), "", 33.1),
    Row(9, ("256", "256"), ((_BEST.format(256), (256,)),), "vgg_d_256", 29.5),
    Row(9, ("384", "384"), ((_BEST.format(384), (384,)),), "vgg_d_384", 28.2),
    Row(9, ("384", "352, 384"), ((_BEST.format(384), (352, 384)),), "vgg_d_384", 27.5),
    Row(
        9,
        ("256 and 384", "256; 352, 384"),
        ((_BEST.format(256), (256,)), (_BEST.format(384), (352, 384))),
        "vgg_d_384",
        26.9,
    ),
)
TITLES = {
    8: "Table 8: the box of the true class, center crop, S = 384",
    9: "Table 9: top-5 localization, dense with merging",
}
COLUMNS = {
    8: ("layers trained", "boxes", "paper", "ours", "on"),
    9: ("S", "Q", "paper", "ours", "on"),
}


def rows_of(number: int, workdir: Path) -> list[tuple[str | float | None, ...]]:
    """Return the rows of a table, with our error where the runs are complete."""
    return [
        (*row.described, row.paper, *our_error(row, workdir)) for row in ROWS if row.table == number
    ]


def our_error(row: Row, workdir: Path) -> tuple[float | None, str]:
    """Return our error in percent and the data set; None where a run is missing."""
    names = [run for run, _ in row.boxes] + ([row.classifier] if row.classifier else [])
    if not all(RunFolder(workdir / run).result.exists() for run in names):
        return None, ""
    runs = [workdir / run for run, _ in row.boxes]
    settings = [json.loads(RunFolder(run).config.read_text()) for run in runs]
    scales = tuple(
        _in_proportion(of_run, config["input"]["scale"][0], run)
        for (run, of_run), config in zip(row.boxes, settings, strict=True)
    )
    protocol = "dense" if row.classifier else "center"
    classifier = workdir / row.classifier if row.classifier else None
    result = evaluate(runs, classifier, Request(protocol, scales_of=scales)).about
    key = "top5_localization_error" if row.classifier else "localization_error"
    return 100 * result[key], settings[0]["dataset"]["name"]


def _in_proportion(scales: Sequence[int], smallest: int, run: str) -> tuple[int, ...]:
    """Return the paper's scales in the proportion of a run whose own scale is another."""
    factor = smallest / SCALES[run.split("_")[2]].smallest
    return tuple(round(scale * factor) for scale in scales)
