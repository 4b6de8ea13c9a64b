"""Contact sheets: pictures with their best labels, by posterior or by the scores of an SVM.

figure = contact_sheet(source, log_posteriors, predictions, class_names)
figure = score_sheet([Scored("cat.jpg", pixels, [("dog", 0.2), ("cat", -0.7)], ["cat"])])
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deepconv import drawing, naming
from deepconv.data import decode
from deepconv.data.pipeline import Source
from deepconv.inference.predict import Prediction
from deepconv.visualize.figures import BEST, draw_bars

COLUMNS = 4
MOST_PICTURES = 60  # the others are in the table and the JSON
LONGEST_NAME = 36  # columns above a picture
LONGEST_CLASS = 24  # columns of a class's name below it
THUMBNAIL = 200  # maximum of the shorter side, in pixels


class Scored(NamedTuple):
    """A picture and the classes that score best in it.

    Attributes:
      title: such as the file's name.
      picture: uint8 `[H, W, 3]`.
      best: (class, score), best first.
      true: names of its true classes, if they are known.
    """

    title: str
    picture: np.ndarray
    best: Sequence[tuple[str, float]]
    true: Sequence[str] = ()


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
    figure, places = _grid(min(len(predictions), MOST_PICTURES))
    for number, (above, below) in enumerate(places):
        thumbnail = picture(source, number)
        _draw_picture(above, thumbnail, [Path(predictions[number].picture).name])
        draw_bars(below, log_posteriors[number], None, class_names)
    return figure


def score_sheet(pictures: Sequence[Scored]) -> Figure:
    """Draw the first pictures, each below its true classes and above those that score best.

    A score is on no scale, so there are no bars as of posteriors. True classes are red.
    """
    figure, places = _grid(min(len(pictures), MOST_PICTURES))
    for own, (above, below) in zip(pictures, places, strict=False):
        true = [f"true: {', '.join(own.true)}"] if own.true else []
        _draw_picture(above, own.picture, [own.title, *true])
        _list_scores(below, own)
    return figure


def picture(source: Source, record: int, *, shorter: int = THUMBNAIL) -> np.ndarray:
    """Return a record's picture, the shorter side at most `shorter`, uint8 `[H, W, 3]`."""
    pixels, _ = decode.load_crop(
        source[record]["image"],
        lambda height, width: decode.whole(height, width, min(height, width, shorter)),
    )
    return pixels


def _grid(count: int) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """Return a figure, and for each picture where it is drawn and what is below it."""
    rows = -(-count // COLUMNS)
    figure = Figure(figsize=(2.4 * COLUMNS, 3.3 * rows), dpi=100, layout="constrained")
    grid = figure.subplots(2 * rows, COLUMNS, height_ratios=[2, 1] * rows, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    places = (divmod(number, COLUMNS) for number in range(count))
    return figure, [(grid[2 * row, column], grid[2 * row + 1, column]) for row, column in places]


def _draw_picture(axes: Axes, pixels: np.ndarray, title: Sequence[str]) -> None:
    # Interpolated, a small picture would look out of focus.
    small = min(pixels.shape[:2]) < THUMBNAIL
    axes.imshow(pixels, interpolation="nearest" if small else None)
    lines = [naming.shortened(line, LONGEST_NAME, ending=12) for line in title]
    axes.set_title("\n".join(lines), fontsize=7, **drawing.LITERAL)
    axes.set_anchor("S")


def _list_scores(axes: Axes, own: Scored) -> None:
    lines = own.best[:BEST]
    style: dict[str, Any] = {"va": "center", "fontsize": 8, "clip_on": True, "in_layout": False}
    for place, (name, score) in enumerate(lines):
        if name in own.true:
            axes.barh(place, 1, color="#e8837f", height=0.85)
        axes.text(0.02, place, naming.shortened(name, LONGEST_CLASS), **style, **drawing.LITERAL)
        axes.text(0.98, place, f"{score:.2f}", ha="right", **style)
    axes.set(xlim=(0, 1), ylim=(BEST - 0.4, -0.6), xticks=[], yticks=[])
    axes.axis("on")
