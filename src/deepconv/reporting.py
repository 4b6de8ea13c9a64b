"""What a training run says, to people and to other programs.

    write_json(workdir / "versions.json", versions())
    with RunLog(workdir, step=state.step, total_steps=370_000, enabled=is_first_process) as log:
        log.train(40, epoch=0.71, loss=1.9, top1_error=0.61, learning_rate=0.01)
        log.eval(5000, epoch=1.0, loss=1.7, top1_error=0.55, top5_error=0.31, images=50_000)
        log.event(5000, "learning_rate_drop", learning_rate=0.001)
    plot_curves(read_metrics(workdir / "metrics.jsonl"), workdir / "curves.png")

A log entry is a flat dict, a row: its `kind` (`train`, `eval` or `event`), its `step`, and the
fields the caller named. Errors are fractions in a row and percentages wherever a person reads
them. In JSON a NaN or an infinity is `null`, because JSON has no word for either.
"""

import importlib.metadata
import json
import math
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, SupportsFloat

import numpy as np
from numpy.typing import NDArray
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar
from tqdm import tqdm

from deepconv import atomic, drawing, naming

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, Any]
Array = NDArray[np.float64]

_PACKAGES = (
    "deepconv",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "tensorflow-datasets",
    "numpy",
)

# The fields a person watches; the others are only in the files.
_PHRASES = {
    "epoch": "epoch {:.2f}",
    "loss": "loss {:.4f}",
    "top1_error": "top-1 error {:.1%}",
    "top5_error": "top-5 error {:.1%}",
    "images_per_second": "{:,.0f} images/s",
    "images": "{:,} images",
}


class RunLog:
    """Record a run in `metrics.jsonl`, in TensorBoard's files and on standard error.

    Opening a log at step s forgets what an interrupted process wrote after s, so that the files
    read as though the run had never stopped. This holds if what happened at step s is logged
    before the checkpoint of step s is saved.
    """

    def __init__(self, folder: Path, *, step: int, total_steps: int, enabled: bool = True) -> None:
        """Open the log of the run in `folder`, which is made if it is missing.

        Args:
          folder: The run's folder.
          step: The step the run starts from. At 0 the log starts empty.
          total_steps: The step at which the run is complete.
          enabled: Whether to write at all: False on every process but the first.

        Raises:
          ValueError: If the `metrics.jsonl` to resume is damaged before its last line.
        """
        self._sinks: list[_Sink] = []
        if enabled:
            folder.mkdir(parents=True, exist_ok=True)
            self._sinks = [
                _JsonLines(folder / "metrics.jsonl", step),
                _TensorBoard(folder / "tensorboard", step),
                _Progress(step, total_steps),
            ]

    def train(self, step: int, *, epoch: float, **scalars: SupportsFloat) -> None:
        """Record measurements of training, and advance the progress bar to `step`."""
        self._write(kind="train", step=step, epoch=epoch, **scalars)

    def eval(self, step: int, *, epoch: float, **scalars: SupportsFloat) -> None:
        """Record the result of an evaluation of the state at `step`."""
        self._write(kind="eval", step=step, epoch=epoch, **scalars)

    def event(self, step: int, name: str, **fields: Any) -> None:
        """Record that something happened; the fields are anything that JSON can hold."""
        self._write(kind="event", step=step, name=name, **fields)

    def close(self) -> None:
        """Flush and close every file; closing twice does no harm."""
        for sink in self._sinks:
            sink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _write(self, **row: Any) -> None:
        for sink in self._sinks:
            sink.write(row)


class _Sink(Protocol):
    def write(self, row: Row) -> None: ...

    def close(self) -> None: ...


class _JsonLines:
    """One JSON object a line."""

    def __init__(self, path: Path, step: int) -> None:
        earlier = read_metrics(path) if step and path.exists() else []
        kept = [_json(row) + "\n" for row in earlier if row["step"] <= step]
        atomic.write(path, "".join(kept).encode())
        # Line buffering hands each row to the system at once: a killed process loses no more
        # than the row it was writing.
        self._file = path.open("a", buffering=1, encoding="utf-8")

    def write(self, row: Row) -> None:
        self._file.write(_json(row) + "\n")

    def close(self) -> None:
        self._file.close()


class _TensorBoard:
    """Scalars named after the row's kind, such as `eval/top1_error`.

    They are written at once: tensorboardX's own writer leaves it to a thread that goes by the
    wall clock and that an error ends in silence, after which the run would wait for it forever.
    """

    def __init__(self, folder: Path, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # Files are named by the second: a run resumed within it would overwrite its past.
        self._writer = EventsWriter(str(folder / "events"), f".{step:09d}")
        # TensorBoard hides the events of earlier files from this step on.
        purged = SessionLog(status=SessionLog.START)
        self._writer.write_event(Event(step=step + 1 if step else 0, session_log=purged))
        self._writer.flush()

    def write(self, row: Row) -> None:
        if row["kind"] == "event":
            return
        for name, value in row.items():
            if name not in ("kind", "step"):
                summary = scalar(f"{row['kind']}/{name}", float(value))
                self._writer.write_event(
                    Event(step=row["step"], wall_time=time.time(), summary=summary)
                )
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Progress:
    """A bar on a terminal; in a file or a pipe, a line for each report."""

    def __init__(self, step: int, total_steps: int) -> None:
        self._total_steps = total_steps
        self._first: tuple[int, float] | None = None
        self._bar = tqdm(
            initial=step,
            total=total_steps,
            bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}",
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )

    def write(self, row: Row) -> None:
        if row["kind"] == "train":
            self._advance(row["step"], _phrase(row) + self._time_left(row["step"]))
        elif row["kind"] == "eval":
            self._print(row["step"], "evaluation, " + _phrase(row))
        else:
            fields = {name: row[name] for name in row if name not in ("kind", "step", "name")}
            self._print(row["step"], f"{row['name']} {_json(fields)}" if fields else row["name"])

    def close(self) -> None:
        self._bar.close()

    def _advance(self, step: int, text: str) -> None:
        if self._bar.disable:
            self._print(step, text)
        else:
            self._bar.n = step
            self._bar.set_postfix_str(text)

    def _print(self, step: int, text: str) -> None:
        tqdm.write(f"step {step}/{self._total_steps}: {text}", file=sys.stderr)

    def _time_left(self, step: int) -> str:
        now = time.monotonic()
        # Counted from the first report, because compilation comes before it and only once.
        self._first = self._first or (step, now)
        first_step, first_time = self._first
        if step == first_step:
            return ""
        seconds = (now - first_time) / (step - first_step) * (self._total_steps - step)
        return f", {tqdm.format_interval(seconds)} left"


def _phrase(row: Row) -> str:
    return ", ".join(text.format(row[name]) for name, text in _PHRASES.items() if name in row)


def read_metrics(path: Path) -> list[Row]:
    """Read the rows of a `metrics.jsonl`, but for a last line that was never finished.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If a line before the last is not JSON.
    """
    lines = path.read_bytes().splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise ValueError(f"{path}, line {number}, is not JSON: {line[:60]!r}") from error
    return rows


def write_json(path: Path, value: Any) -> None:
    """Write a value as a JSON file that other processes see whole or not at all.

    Raises:
      TypeError: If the value holds what JSON cannot; the file is then as it was.
    """
    atomic.write(path, (_json(value, indent=2) + "\n").encode())


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # The arrays and scalars of NumPy and JAX.
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def plot_curves(metrics: Sequence[Row], path: Path, *, title: str = "") -> None:
    """Plot loss, errors and learning rate against epochs into a PNG file.

    Training is drawn raw and smoothed, and a dotted line marks each drop of the learning rate.
    With nothing measured yet, the figure says so.
    """
    # Imported here because it costs a second, which only a run that plots should pay.
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
    _draw_training(errors, "train top-1", metrics, "top1_error")
    _draw_evaluation(errors, "eval top-1, best {:.1%}", metrics, "top1_error", "C1")
    _draw_evaluation(errors, "eval top-5, best {:.1%}", metrics, "top5_error", "C2")
    epochs, rates = _series(metrics, "train", "learning_rate")
    rate.plot(epochs, rates, color="C3", drawstyle="steps-post", marker=_marker(epochs))

    # A smooth decay has no drops to mark; the papers divide by ten.
    drops = epochs[1:][rates[1:] < rates[:-1] / 1.5]
    for axes, name in ((loss, "loss"), (errors, "error"), (rate, "learning rate")):
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        for epoch in drops:
            axes.axvline(epoch, color="0.35", linestyle=":", linewidth=1)
    for axes in (loss, errors):
        axes.update_datalim([(0, 0)])
        axes.margins(y=0.1)
        axes.set_ylim(bottom=0)
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


def _draw_training(axes: "Axes", label: str, metrics: Sequence[Row], field: str) -> None:
    epochs, values = _series(metrics, "train", field)
    if len(values):
        window = np.ones(1 + len(values) // 100)
        # Near the ends the window holds fewer values, so each sum is divided by how many.
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
    # A line through one point cannot be seen.
    return "." if len(epochs) < 10 else ""


def versions() -> dict[str, str | None]:
    """Return the versions of all that a run's numbers may depend on; None where not installed."""
    return {
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
        "platform": platform.platform(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_revision(path: Path) -> str | None:
    """Return the short hash of the commit checked out at `path`, or None outside a repository.

    It ends in `-dirty` where a tracked file differs from that commit.
    """
    # Excluding every tag leaves the hash alone; without locks a commit by hand never collides.
    describe = ("describe", "--always", "--dirty", "--exclude=*")
    try:
        process = subprocess.run(
            ("git", "--no-optional-locks", "-C", str(path), *describe),
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout.strip()


def table(
    headers: Sequence[str], rows: Sequence[Sequence[str | float | None]], *, decimals: int = 1
) -> str:
    """Lay out rows as plain text in aligned columns, those without a string to the right.

    Args:
      headers: The names of the columns.
      rows: A cell for each column; None is drawn as a dash, a string as `naming.one_line`.
      decimals: How many decimals a float is given.

    Raises:
      ValueError: If a row is longer or shorter than the headers.
    """
    to_the_left = [
        any(isinstance(cell, str) for cell in column) for column in zip(*rows, strict=True)
    ] or [True] * len(headers)
    texts = [list(map(naming.one_line, headers))] + [
        [_cell(cell, decimals) for cell in row] for row in rows
    ]
    widths = [max(map(naming.width, column)) for column in zip(*texts, strict=True)]
    texts.insert(1, ["-" * width for width in widths])
    lines = ("  ".join(map(_padded, line, widths, to_the_left)) for line in texts)
    return "\n".join(line.rstrip() for line in lines)


def _padded(text: str, width: int, to_the_left: bool) -> str:
    spaces = " " * (width - naming.width(text))
    return text + spaces if to_the_left else spaces + text


def _cell(value: str | float | None, decimals: int) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.{decimals}f}"
    return naming.one_line(str(value))
