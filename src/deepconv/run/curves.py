"""The learning curves of a run as a figure.

of_run(Path("runs/vgg_d_256"))  # curves.png in its folder
plot_curves(read_metrics(workdir / "metrics.jsonl"), workdir / "curves.png")
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepconv import drawing, naming
from deepconv.exceptions import UserError
from deepconv.run.files import RunFolder
from deepconv.run.log import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, Any]

# A run has some of them, and of the training records only the first.
_ERRORS = (
    ("top-1", "top1_error", "C1"),
    ("top-5", "top5_error", "C2"),
    ("ranking", "ranking_error", "C1"),
    ("localization", "localization_error", "C1"),
)

# With losses that differ by a larger factor, the axis is logarithmic.
_SPAN = 5.0

Array = NDArray[np.float64]


def of_run(folder: Path, out: Path | None = None) -> Path:
    """Draw the curves of a run so far, whether or not it is complete; return the file's path.

    Args:
      folder: the run's folder.
      out: the PNG file; by default the run's `curves.png`.

    Raises:
      UserError: if it is no run's folder, or its log is damaged.
    """
    files = RunFolder(folder)
    try:
        metrics = read_metrics(files.metrics)
        config = json.loads(files.config.read_text())
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} has no curves: {error.filename} does not exist; they are drawn of "
            "a run that has begun to train"
        ) from None
    except (ValueError, OSError) as error:
        raise UserError(f"the curves of {folder} cannot be drawn: {error}") from None
    path = out or files.curves
    plot_curves(metrics, path, title=f"{config['model']['name']} on {config['dataset']['name']}")
    return path


def plot_curves(metrics: Sequence[Row], path: Path, *, title: str = "") -> None:
    """Plot loss, errors and learning rate against epochs in a PNG file.

    Training values are drawn both raw and smoothed, and a dotted line marks each drop of the
    learning rate. If nothing has been measured yet, the figure says so.
    """
    # Imported here because the import takes a second, which only plotting should cost.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8), dpi=120, layout="constrained")
    figure.suptitle(naming.one_line(title), **drawing.LITERAL)
    if any(row["kind"] in ("train", "eval") for row in metrics):
        _draw_panels(figure, metrics)
    else:
        figure.text(0.5, 0.5, "nothing measured yet", ha="center", va="center", size=16)
    drawing.save(figure, path)


def _draw_panels(figure: "Figure", metrics: Sequence[Row]) -> None:
    loss, errors, rate = figure.subplots(3, sharex=True, height_ratios=(3, 3, 1.4))
    _draw_training(loss, "train", metrics, "loss")
    _draw_evaluation(loss, "eval, best {:.3f}", metrics, "loss", "C1")
    for name, field, color in _ERRORS:
        _draw_training(errors, f"train {name}", metrics, field)
        _draw_evaluation(errors, f"eval {name}, best {{:.1%}}", metrics, field, color)
    epochs, rates = _series(metrics, "train", "learning_rate")
    rate.plot(epochs, rates, color="C3", drawstyle="steps-post", marker=_marker(epochs))

    # A smooth decay has no drops to mark: the rate is constant before a drop, or after it.
    constant = np.concatenate([[False], np.isclose(rates[1:], rates[:-1]), [False]])
    lower = rates[1:] < rates[:-1] / 1.5
    drops = epochs[1:][lower & (constant[:-2] | constant[2:])]
    for axes, name in ((loss, "loss"), (errors, "error"), (rate, "learning rate")):
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        for epoch in drops:
            axes.axvline(epoch, color="0.35", linestyle=":", linewidth=1)
    errors.update_datalim([(0, 0)])
    errors.margins(y=0.1)
    errors.set_ylim(bottom=0)
    _scale_loss(loss)
    for axes in (loss, errors):
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    errors.yaxis.set_major_formatter("{x:.0%}")
    if np.any(rates > 0):
        rate.set_yscale("log")
    rate.minorticks_off()
    rate.margins(x=0.01, y=0.15)
    rate.set_xlim(left=0)
    rate.set_xlabel("epoch")
    figure.align_ylabels()


def _scale_loss(axes: "Axes") -> None:
    """Show the smallest of the smooth curves' losses as well as the largest, by ratio if need be.

    The first values of a new fc8, and single steps, may lie outside.
    """
    from matplotlib.ticker import LogLocator

    smooth = [line.get_ydata() for line in axes.lines if not str(line.get_label()).startswith("_")]
    values = np.concatenate(smooth) if smooth else np.array([])
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        return
    low, high = values.min(), np.percentile(values, 99)
    if high > _SPAN * low:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.3, high * 1.3)
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
    else:
        margin = 0.1 * (high - low) or 0.1 * high
        axes.set_ylim(max(0.0, low - margin), high + margin)


def _draw_training(axes: "Axes", label: str, metrics: Sequence[Row], field: str) -> None:
    epochs, values = _series(metrics, "train", field)
    if len(values):
        window = np.ones(1 + len(values) // 100)
        # Near the ends the window covers fewer values, so each sum is divided by their number.
        count = np.convolve(np.ones_like(values), window, mode="same")
        smooth = np.convolve(values, window, mode="same") / count
        axes.plot(epochs, values, color="C0", alpha=0.25, linewidth=0.8)
        axes.plot(epochs, smooth, color="C0", label=label, marker=_marker(epochs))


def _draw_evaluation(
    axes: "Axes", label: str, metrics: Sequence[Row], field: str, color: str
) -> None:
    epochs, values = _series(metrics, "eval", field)
    if len(values):
        label = label.format(values.min())
        axes.plot(epochs, values, color=color, label=label, marker="o", markersize=3)


def _series(metrics: Sequence[Row], kind: str, field: str) -> tuple[Array, Array]:
    points = [
        (row["epoch"], row[field])
        for row in metrics
        if row["kind"] == kind and row.get(field) is not None
    ]
    epochs, values = np.array(points, dtype=float).reshape(-1, 2).T
    return epochs, values


def _marker(epochs: Array) -> str:
    # A line through a single point is invisible.
    return "." if len(epochs) < 10 else ""
