"""Classify pictures: the five best labels of each.

    deepconv predict --weights=vgg16.safetensors cat.jpg photos
    deepconv predict --weights=runs/vgg_d_jitter photos --protocol=ten_crop --json=x.json
    deepconv predict --weights=runs/vgg_d_jitter photos --sheet=sheet.png

Pictures are files, or folders, whose pictures are found at any depth. One that cannot be read is
named on stderr and the others are predicted; the exit status is then 2.
"""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from deepconv import atomic, drawing, naming, parallel, tables
from deepconv.commands import command_line
from deepconv.commands.evaluate import Plan
from deepconv.data import decode
from deepconv.data.pipeline import Source
from deepconv.data.sources import pictures
from deepconv.evaluation.posteriors import fuse
from deepconv.evaluation.protocols import PROTOCOLS
from deepconv.inference import buckets, rows
from deepconv.inference.model import Trained, load
from deepconv.visualize.figures import draw_bars

REQUIRED = ("weights",)
ARGUMENTS = sys.maxsize

BEST = 5
SHEET_COLUMNS = 4
MOST_ON_A_SHEET = 60  # the others stand in the table and the JSON
LONGEST_NAME = 36  # columns over a picture
THUMBNAIL = 200  # shorter side at most, in pixels


class Prediction(NamedTuple):
    """What a network says of a picture.

    Attributes:
      picture: the name of its file, see `naming.decoded`.
      best: (label, posterior) of the five best, best first.
    """

    picture: str
    best: tuple[tuple[str, float], ...]


def log_posteriors(trained: Trained, source: Source, plan: Plan, *, threads: int) -> np.ndarray:
    """Return what a network says of pictures, log p float32 `[N, C]`, as evaluation computes it.

    Those of a picture that cannot be decoded are NaN.

    Args:
      trained: the network, its parameters on all devices.
      source: the pictures.
      plan: how to look at them.
      threads: that decode.

    Raises:
      UserError: if a file's header is no picture's, or the network cannot look like this.
    """
    survey = buckets.survey(source, threads)
    scales = plan.scales or (trained.config.evaluation.scale,)
    # Nothing of this is for keeping, but rows of posteriors go through a file.
    with tempfile.TemporaryDirectory() as folder:
        sheets = [
            rows.score(
                trained,
                view=view,
                scale=scale,
                source=source,
                survey=survey,
                dataset="pictures",
                contents="",
                path=Path(folder) / f"{view}_{scale}.npz",
                mesh=parallel.data_mesh(),
                threads=threads,
                strict=False,
            )
            for view in plan.views
            for scale in scales
        ]
    return fuse([sheet.log_posteriors for sheet in sheets])


def best(says: np.ndarray, names: Sequence[str], class_names: Sequence[str]) -> list[Prediction]:
    """Return the best labels of each picture; of equal ones, the first.

    Args:
      says: log posteriors `[N, C]`.
      names: of the pictures.
      class_names: `[C]`.
    """
    order = np.argsort(-says, axis=1, kind="stable")[:, :BEST]
    return [
        Prediction(name, tuple((class_names[c], float(np.exp(row[c]))) for c in classes))
        for name, row, classes in zip(names, says, order, strict=True)
    ]


def contact_sheet(
    source: Source, says: np.ndarray, predictions: Sequence[Prediction], class_names: Sequence[str]
) -> Figure:
    """Draw the first pictures, the best labels under each.

    Args:
      source: the pictures.
      says: log posteriors `[N, C]`.
      predictions: `[N]`.
      class_names: `[C]`.
    """
    count = min(len(predictions), MOST_ON_A_SHEET)
    rows = -(-count // SHEET_COLUMNS)
    figure = Figure(figsize=(2.4 * SHEET_COLUMNS, 3.3 * rows), dpi=100, layout="constrained")
    grid = figure.subplots(2 * rows, SHEET_COLUMNS, height_ratios=[2, 1] * rows, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    for number in range(count):
        row, column = divmod(number, SHEET_COLUMNS)
        axes = grid[2 * row, column]
        thumbnail, _ = decode.load_crop(source[number]["image"], _thumbnail)
        # Small pictures show their pixels; interpolated they would look out of focus.
        small = min(thumbnail.shape[:2]) < THUMBNAIL
        axes.imshow(thumbnail, interpolation="nearest" if small else None)
        title = naming.shortened(Path(predictions[number].picture).name, LONGEST_NAME, ending=12)
        axes.set_title(title, fontsize=7, **drawing.LITERAL)
        axes.set_anchor("S")
        draw_bars(grid[2 * row + 1, column], says[number], None, class_names)
    return figure


def _thumbnail(height: int, width: int) -> decode.Crop:
    return decode.whole(height, width, min(height, width, THUMBNAIL))


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    command_line.define_weights(values)
    flags.DEFINE_enum(
        "protocol", "dense", [*PROTOCOLS], "How pictures are looked at.", flag_values=values
    )
    flags.DEFINE_list(
        "scales",
        [],
        "The shorter sides Q in pixels, such as 256,384,512; by default the network's own.",
        flag_values=values,
    )
    command_line.define_json(values, "the labels")
    flags.DEFINE_string(
        "sheet", None, "Also draw the pictures to this .png file.", flag_values=values
    )
    command_line.define_threads(values)


def main(options: flags.FlagValues, arguments: Sequence[str]) -> None:
    """Predict, print a table, and write what is asked for."""
    json_file = command_line.output_file(options, "json", ".json")
    sheet_file = command_line.output_file(options, "sheet", ".png")
    source = pictures.open_pictures([Path(name) for name in arguments])
    everywhere = parallel.replicated(parallel.data_mesh())
    trained = load(Path(options.weights), everywhere, which=options.checkpoint)
    plan = Plan(options.protocol, command_line.whole_numbers(options, "scales"))
    for view in plan.views:
        for scale in plan.scales or (trained.config.evaluation.scale,):
            rows.check(trained, view, scale)
    threads = options.threads or os.cpu_count() or 1
    source, refused = pictures.recognized(source, threads)
    says = log_posteriors(trained, source, plan, threads=threads)
    source, kept, damaged = pictures.set_aside(source, np.flatnonzero(np.isnan(says).any(axis=1)))
    says = says[kept]
    names = list(map(naming.decoded, source.file_names))
    predictions = best(says, names, trained.class_names)
    lines = [
        (each.picture, *(f"{label} {posterior:.2f}" for label, posterior in each.best))
        for each in predictions
    ]
    columns = len(predictions[0].best)
    print(tables.table(("picture", "best labels", *[""] * (columns - 1)), lines))
    if json_file:
        listed = [
            {
                "picture": each.picture,
                "best": [{"label": label, "posterior": says} for label, says in each.best],
            }
            for each in predictions
        ]
        atomic.write_json(json_file, listed)
    if sheet_file:
        drawing.save(contact_sheet(source, says, predictions, trained.class_names), sheet_file)
    command_line.complain(refused + damaged)
