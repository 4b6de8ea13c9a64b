"""A sheet of pictures with boxes, and under each which box has which class and score.

figure = box_sheet([Boxed("cat.jpg", pixels, boxes, ["tabby"], [7.5], true_boxes)])
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from deepconv import drawing, naming

COLUMNS = 4
WIDTH, LIST_HEIGHT = 2.4, 1.0  # of a picture and of the list under it, in inches
MOST_UPRIGHT = 1.4  # height over width; taller pictures are drawn narrower
MOST_PICTURES = 60
MOST_BOXES = 5
LONGEST_TITLE = 32  # columns over a picture
LONGEST_NAME = 29  # columns of a class's name
# Told apart by people who are color-blind too (Okabe and Ito); the true boxes' green is not used.
COLORS = ("#e69f00", "#56b4e9", "#cc79a7", "#f0e442", "#d55e00")
TRUE_COLOR = "#00d060"
TAG = 0.055  # size of a box's number, as a fraction of the picture's longer side

_TRUE: dict[str, Any] = {"color": TRUE_COLOR, "linewidth": 1.8, "linestyle": (0, (3, 1.5))}


class Boxed(NamedTuple):
    """A picture and boxes in it, (xmin, ymin, xmax, ymax) as fractions of width and height.

    Attributes:
      title: such as the file's name.
      picture: uint8 `[H, W, 3]`.
      boxes: `[B, 4]`, best first; a NaN box is only listed.
      names: of their classes, `[B]`.
      scores: `[B]`.
      true_boxes: `[T, 4]`, if they are known.
    """

    title: str
    picture: np.ndarray
    boxes: np.ndarray
    names: Sequence[str]
    scores: Sequence[float]
    true_boxes: np.ndarray | None = None


def box_sheet(pictures: Sequence[Boxed]) -> Figure:
    """Draw the first pictures with their five best boxes, and list names and scores under each.

    Boxes of one object lie over each other, and so would their names. Therefore a box has only a
    color and a number, which are explained under the picture.

    Raises:
      ValueError: if there are no pictures, or not as many names or scores as boxes.
    """
    if not pictures:
        raise ValueError("there are no pictures to draw")
    for own in pictures:
        if not len(own.boxes) == len(own.names) == len(own.scores):
            raise ValueError(
                f"{own.title}: {len(own.boxes)} boxes, {len(own.names)} names,"
                f" {len(own.scores)} scores"
            )
    shown = pictures[:MOST_PICTURES]
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    heights = []
    for row in range(rows):
        of_row = [own.picture.shape for own in shown[columns * row : columns * (row + 1)]]
        tallest = min(max(shape[0] / shape[1] for shape in of_row), MOST_UPRIGHT)
        heights += [WIDTH * tallest + 0.2, LIST_HEIGHT]
    figure = Figure(figsize=(WIDTH * columns, sum(heights) + 0.3), dpi=150, layout="constrained")
    grid = figure.subplots(2 * rows, columns, height_ratios=heights, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for number, own in enumerate(shown):
        row, column = divmod(number, columns)
        _draw_picture(grid[2 * row, column], own)
        _list_boxes(grid[2 * row + 1, column], own)
    kinds = [Line2D([], [], color="0.3", linewidth=1.8, label="predicted")]
    if any(own.true_boxes is not None for own in shown):
        kinds.append(Line2D([], [], **_TRUE, label="true"))
    figure.legend(handles=kinds, loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    return figure


def _draw_picture(axes: Axes, own: Boxed) -> None:
    height, width = own.picture.shape[:2]
    axes.imshow(own.picture, extent=(0, width, height, 0))
    axes.set_title(
        naming.shortened(own.title, LONGEST_TITLE, ending=12), fontsize=7, **drawing.LITERAL
    )
    axes.set_anchor("S")
    size = np.array([width, height] * 2)
    boxes = np.clip(own.boxes[:MOST_BOXES], 0.0, 1.0) * size
    tags = _corners(boxes, width, height)
    # The best box lies over the others, and the true ones, dashed, over all of them.
    for place in reversed(range(len(boxes))):
        if not np.isnan(boxes[place]).any():
            _outline(axes, boxes[place], color=COLORS[place], linewidth=1.8)
            _tag(axes, tags[place], place)
    for box in [] if own.true_boxes is None else np.clip(own.true_boxes, 0.0, 1.0):
        _outline(axes, box * size, **_TRUE)


def _outline(axes: Axes, box: np.ndarray, **line: Any) -> None:
    """Draw a box in pixels, with a dark edge that shows it on any picture."""
    xmin, ymin, xmax, ymax = box
    edge = patheffects.withStroke(linewidth=line["linewidth"] + 1.2, foreground="#00000090")
    axes.add_patch(
        Rectangle(
            (xmin, ymin),
            xmax - xmin,
            ymax - ymin,
            fill=False,
            clip_on=False,
            path_effects=[edge],
            **line,
        )
    )


def _corners(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return where each box's number is written, `[B, 2]` in pixels, none over another.

    It is the upper left corner, or beside it, toward the picture's middle, where a better box has
    its number.
    """
    side = TAG * max(width, height)
    corners: np.ndarray = np.minimum(boxes[:, :2], [width - side, height - side])
    for place, corner in enumerate(corners):
        step = side / 4 if corner[0] < width / 2 else -side / 4
        while (np.abs(corners[:place] - corner) < side).all(axis=1).any():
            corner[0] += step
    return corners


def _tag(axes: Axes, corner: np.ndarray, place: int) -> None:
    axes.annotate(
        str(place + 1),
        (corner[0], corner[1]),
        xytext=(2.5, -2.5),
        textcoords="offset points",
        ha="left",
        va="top",
        fontsize=6,
        bbox={"facecolor": COLORS[place], "edgecolor": "none", "pad": 1.2},
    )


def _list_boxes(axes: Axes, own: Boxed) -> None:
    lines = list(zip(own.names, own.scores, COLORS, strict=False))[:MOST_BOXES]
    for place, (name, score, color) in enumerate(lines):
        axes.barh(place, 0.07, color=color, height=0.85)
        # A name of wide letters ends at its score, and makes no picture smaller.
        style: dict[str, Any] = {"va": "center", "fontsize": 7, "clip_on": True, "in_layout": False}
        axes.text(0.035, place, str(place + 1), ha="center", **style)
        text = naming.shortened(name, LONGEST_NAME)
        axes.text(0.09, place, text, **style, **drawing.LITERAL)
        number = f"{score:.3g}" if np.isfinite(score) else "no box"
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axes.text(1.0, place, number, ha="right", bbox=ground, **style)
    axes.set(xlim=(0, 1), ylim=(MOST_BOXES - 0.4, -0.6))
