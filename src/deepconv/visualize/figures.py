"""The figures of AlexNet's section 6.1 for any network: Figure 3, and both halves of Figure 4.

figure = kernels(trained)
figure = labels(trained, look_at(trained, drawn(source, 8, seed=0), "fc8"))
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.neighbors import NearestNeighbors

from deepconv import drawing, naming
from deepconv.data import pipeline
from deepconv.data.labels import check_labels
from deepconv.data.pipeline import Source
from deepconv.exceptions import UserError
from deepconv.inference import activations
from deepconv.inference.model import Model
from deepconv.models.layers import Activation, Conv, Layer

KERNEL_COLUMNS = 16  # three rows make one tower of the paper's net
SATURATED = 99.5  # percentile of the absolute weights that is drawn black or white
TEST_IMAGES, BEST = 8, 5
QUERIES, NEIGHBORS = 5, 6
LONGEST_NAME = 22  # columns for the name of a class or run


class Pictures(NamedTuple):
    """The readable crops, and the network's outputs for them.

    Attributes:
      images: uint8 `[N, S, S, 3]`.
      labels: int `[N]`.
      outputs: float32 `[N, D]`, of one layer, flattened.
    """

    images: np.ndarray
    labels: np.ndarray
    outputs: np.ndarray


class _Subset:
    """Some records of a source, in the order given."""

    def __init__(self, source: Source, records: np.ndarray) -> None:
        self._source, self._records = source, records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self._source[int(self._records[number])]


def drawn(source: Source, count: int, seed: int) -> _Subset:
    """Choose `count` records at random without replacement, or all if there are fewer."""
    order = np.random.default_rng(seed).permutation(len(source))
    return _Subset(source, order[:count])


def look_at(trained: Model, source: Source, layer: str) -> Pictures:
    """Cut the central crop of every record and compute one layer's output.

    Raises:
      UserError: if none of the records can be read, or a label is out of range.
    """
    crops = activations.of_central_crops(trained, source, [layer])
    if not len(crops.labels):
        raise UserError(f"{trained.config.dataset.name}: none of {len(source)} records can be read")
    check_labels(
        crops.labels,
        len(trained.class_names),
        dataset=trained.config.dataset.name,
        name_of=lambda place: _name(source, int(crops.records[place])),
    )
    outputs = crops.outputs[layer]
    return Pictures(crops.images, crops.labels, outputs.reshape(len(outputs), -1))


def _name(source: Source, record: int) -> str:
    return pipeline.record_name(source[record], record)


def kernel_tiles(kernel: np.ndarray) -> np.ndarray:
    """Return kernels as images: 0 is gray, and a common scale shows which kernels are weak.

    Args:
      kernel: `[K, K, 3, F]`.

    Returns:
      `[F, K, K, 3]` in 0..1.
    """
    largest = np.percentile(np.abs(kernel), SATURATED) or 1.0
    return np.clip(0.5 + 0.5 * np.moveaxis(kernel, -1, 0) / largest, 0.0, 1.0)


def kernels(trained: Model) -> Figure:
    """Draw the kernels of the first layer, grouped by tower (Figure 3)."""
    layers = trained.network.layers
    tiles = kernel_tiles(np.asarray(trained.params[layers[0].name]["kernel"]))
    towers = max(layer.groups for layer in layers if isinstance(layer, Conv))
    columns = min(KERNEL_COLUMNS, len(tiles) // towers)
    rows = -(-len(tiles) // (towers * columns))
    tile, title = 0.55, 0.3  # inches
    width, height = tile * columns, tile * rows + title
    figure = Figure(figsize=(width, towers * height), dpi=150)
    parts = figure.subfigures(towers, 1, squeeze=False)[:, 0]
    for tower, (part, own) in enumerate(zip(parts, np.split(tiles, towers), strict=True), start=1):
        grid = part.subplots(rows, columns, squeeze=False)
        part.subplots_adjust(0.01, 0.01, 0.99, 1 - title / height, 0.08, 0.08)
        side = own.shape[1]
        words = f"{_short(trained.name)}: {len(own)} kernels of {side}x{side}x3"
        words += f", tower {tower}" if towers > 1 else ""
        middle = 1 - 0.5 * title / height
        part.text(0.5, middle, words, fontsize=9, ha="center", va="center", **drawing.LITERAL)
        for axes in grid.flat:
            axes.axis("off")
        for axes, picture in zip(grid.flat, own, strict=False):
            axes.imshow(picture, interpolation="nearest")
    return figure


def labels(trained: Model, pictures: Pictures) -> Figure:
    """Draw images, each above its five best labels (Figure 4, left).

    Args:
      trained: the network.
      pictures: with the scores as outputs.
    """
    columns = min(4, len(pictures.labels))
    rows = -(-len(pictures.labels) // columns)
    figure = Figure(figsize=(2.4 * columns, 3.6 * rows), dpi=150, layout="constrained")
    grid = figure.subplots(2 * rows, columns, height_ratios=[5, 3] * rows, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    says = np.asarray(jax.nn.log_softmax(pictures.outputs))
    for number, (image, label) in enumerate(zip(pictures.images, pictures.labels, strict=True)):
        row, column = divmod(number, columns)
        picture, bars = grid[2 * row, column], grid[2 * row + 1, column]
        picture.imshow(image)
        name = _short(trained.labels[label])
        picture.set_title(name, y=-0.14, fontsize=10, weight="bold", **drawing.LITERAL)
        draw_bars(bars, says[number], label, trained.labels)
    return figure


def draw_bars(
    axes: Axes, log_posteriors: np.ndarray, label: int | None, class_names: Sequence[str]
) -> None:
    """Draw the five best labels as bars with their posteriors, the correct one in red.

    Args:
      axes: where to draw.
      log_posteriors: `[C]`.
      label: the correct label, if it is known.
      class_names: `[C]`.
    """
    best = np.argsort(-log_posteriors, kind="stable")[:BEST]
    for place, name in enumerate(best):
        color = "#e8837f" if name == label else "#9db8dc"
        axes.barh(place, np.exp(log_posteriors[name]), color=color, height=0.85)
        text = _short(class_names[name])
        axes.text(0.02, place, text, va="center", fontsize=8, **drawing.LITERAL)
        share = f"{np.exp(log_posteriors[name]):.2f}"
        axes.text(0.98, place, share, va="center", ha="right", fontsize=7, color="0.25")
    axes.set(xlim=(0, 1), ylim=(BEST - 0.4, -0.6))
    axes.axis("on")
    axes.set(xticks=[], yticks=[])


def neighbors(trained: Model, queries: Pictures, gallery: Pictures) -> Figure:
    """Draw test images and the training images nearest to each (Figure 4, right).

    Args:
      trained: the network.
      queries: of the test set, with the last hidden layer as outputs.
      gallery: of the training set, likewise.
    """
    nearest = nearest_images(queries.outputs, gallery.outputs)
    rows, columns = nearest.shape[0], nearest.shape[1] + 1
    widths = [1.0, 0.12] + [1.0] * (columns - 1)  # a gap separates the queries
    figure = Figure(figsize=(1.25 * columns + 0.2, 1.45 * rows + 0.4), dpi=150)
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.03, wspace=0.0, hspace=0.0)
    grid = figure.subplots(rows, columns + 1, width_ratios=widths, squeeze=False)
    for row, found in enumerate(nearest):
        _draw_labeled(grid[row, 0], trained, queries, row, same=True)
        grid[row, 1].axis("off")
        for axes, number in zip(grid[row, 2:], found, strict=True):
            same = gallery.labels[number] == queries.labels[row]
            _draw_labeled(axes, trained, gallery, int(number), same=bool(same))
    grid[0, 0].set_title("test image", fontsize=8)
    grid[0, 2].set_title("nearest training images", fontsize=8, loc="left")
    return figure


def nearest_images(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Return the indices of the nearest rows of `gallery` by Euclidean distance, nearest first.

    Args:
      queries: `[Q, D]`.
      gallery: `[N, D]`.

    Returns:
      int `[Q, K]`, K = min(6, N).
    """
    index = NearestNeighbors(n_neighbors=min(NEIGHBORS, len(gallery))).fit(gallery)
    return np.asarray(index.kneighbors(queries, return_distance=False))


def _draw_labeled(
    axes: Axes, trained: Model, pictures: Pictures, number: int, *, same: bool
) -> None:
    axes.imshow(pictures.images[number])
    axes.set(xticks=[], yticks=[])
    name = _short(trained.labels[pictures.labels[number]])
    color = "black" if same else "firebrick"
    axes.set_xlabel(name, fontsize=7, labelpad=2, color=color, **drawing.LITERAL)
    for side in axes.spines.values():
        side.set_visible(False)


def _short(name: str) -> str:
    return naming.shortened(name, LONGEST_NAME)


def last_hidden_layer(layers: Sequence[Layer]) -> str:
    """Return the name of the last hidden layer, after its nonlinearity: relu7, for fc7."""
    return [layer.name for layer in layers if isinstance(layer, Activation)][-1]
