"""A contact sheet: pictures with their best labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from deepconv import drawing, naming
from deepconv.data import decode
from deepconv.data.pipeline import Source
from deepconv.inference.predict import Prediction
from deepconv.visualize.figures import draw_bars

COLUMNS = 4
MOST_PICTURES = 60  # the others are in the table and the JSON
LONGEST_NAME = 36  # columns above a picture
THUMBNAIL = 200  # maximum of the shorter side, in pixels


def contact_sheet(
    source: Source,
    log_posteriors: np.ndarray,
    predictions: Sequence[Prediction],
    class_names: Sequence[str],
) -> Figure:
    """Draw the first pictures, each above its best labels.

    Args:
      source: the pictures.
      log_posteriors: `[N, C]`.
      predictions: `[N]`.
      class_names: `[C]`.
    """
    count = min(len(predictions), MOST_PICTURES)
    rows = -(-count // COLUMNS)
    figure = Figure(figsize=(2.4 * COLUMNS, 3.3 * rows), dpi=100, layout="constrained")
    grid = figure.subplots(2 * rows, COLUMNS, height_ratios=[2, 1] * rows, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    for number in range(count):
        row, column = divmod(number, COLUMNS)
        axes = grid[2 * row, column]
        thumbnail, _ = decode.load_crop(source[number]["image"], _thumbnail)
        # Interpolated, a small picture would look out of focus.
        small = min(thumbnail.shape[:2]) < THUMBNAIL
        axes.imshow(thumbnail, interpolation="nearest" if small else None)
        title = naming.shortened(Path(predictions[number].picture).name, LONGEST_NAME, ending=12)
        axes.set_title(title, fontsize=7, **drawing.LITERAL)
        axes.set_anchor("S")
        draw_bars(grid[2 * row + 1, column], log_posteriors[number], None, class_names)
    return figure


def _thumbnail(height: int, width: int) -> decode.Crop:
    return decode.whole(height, width, min(height, width, THUMBNAIL))
