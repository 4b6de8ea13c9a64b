"""The log of a run: JSON lines, TensorBoard's files, and a progress bar.

    with RunLog(workdir, step=state.step, total_steps=370_000, enabled=is_first_process) as log:
        log.train(40, epoch=0.71, loss=1.9, top1_error=0.61, learning_rate=0.01)
        log.eval(5000, epoch=1.0, loss=1.7, top1_error=0.55, top5_error=0.31, images=50_000)
        log.event(5000, "learning_rate_drop", learning_rate=0.001)
    rows = read_metrics(workdir / "metrics.jsonl")

A log entry, a row, is a flat dict: its `kind` (`train`, `eval` or `event`), its `step`, and the
fields given by the caller. Errors are fractions in a row and percentages in text for people. NaN
and infinity are `null` in JSON, which can represent neither.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self, SupportsFloat

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar
from tqdm import tqdm

from deepconv import atomic, naming
from deepconv.atomic import to_json
from deepconv.run.files import RunFolder

Row = dict[str, Any]


# The fields shown on the terminal; the others are only in the files.
_PHRASES = {
    "epoch": "epoch {:.2f}",
    "loss": "loss {:.4f}",
    "top1_error": "top-1 error {:.1%}",
    "top5_error": "top-5 error {:.1%}",
    "ranking_error": "ranking error {:.1%}",
    "localization_error": "localization error {:.1%}",
    "iou": "mean IoU {:.1%}",
    "images_per_second": "{:,.0f} images/s",
    "images": "{:,} images",
}


# What the terminal says of an event; of others, their name and fields.
_EVENTS = {
    "learning_rate_drop": "the learning rate drops to {learning_rate:g}",
    "training_ends_at_plateau": "training ends: the validation error has stopped improving",
    "unreadable_image": "cannot read {file}",
    "stuck_at_ln_C": (
        "warning: the network has learned nothing; its loss is {loss:.3f}, and that of guessing is "
        "{ln_C:.3f}: {reason}; see --config.model.initializer"
    ),
}

# Of a terminal that does not tell its size.
_COLUMNS = 80
# The bar itself, at its shortest.
_BAR = 8


class RunLog:
    """Record a run in `metrics.jsonl`, in TensorBoard's files and on standard error.

    Opening a log at step s removes what an interrupted process wrote after s, so the files look as
    if the run had never stopped. This requires that everything at step s is logged before the
    checkpoint of step s is saved.
    """

    def __init__(self, folder: Path, *, step: int, total_steps: int, enabled: bool = True) -> None:
        """Open the log of the run in `folder`, creating the folder if necessary.

        Args:
          folder: the run's folder.
          step: the step the run starts from. At 0 the log starts empty.
          total_steps: the step at which the run is complete.
          enabled: whether to write; False on all processes but the first.

        Raises:
          ValueError: if an existing `metrics.jsonl` is damaged before its last line.
        """
        self._sinks: list[_Sink] = []
        if enabled:
            folder.mkdir(parents=True, exist_ok=True)
            files = RunFolder(folder)
            self._sinks = [
                _JsonLines(files.metrics, step),
                _TensorBoard(files.tensorboard, step),
                _Progress(step, total_steps),
            ]

    def train(self, step: int, *, epoch: float, **scalars: SupportsFloat) -> None:
        """Record measurements of training, and advance the progress bar to `step`."""
        self._write(kind="train", step=step, epoch=epoch, **scalars)

    def eval(self, step: int, *, epoch: float, **scalars: SupportsFloat) -> None:
        """Record the result of an evaluation of the state at `step`."""
        self._write(kind="eval", step=step, epoch=epoch, **scalars)

    def event(self, step: int, name: str, **fields: Any) -> None:
        """Record an event; the fields may be any JSON values."""
        self._write(kind="event", step=step, name=name, **fields)

    def compiling(self) -> None:
        """Tell the terminal that the first step is compiled, which can take minutes."""
        for sink in self._sinks:
            if isinstance(sink, _Progress):
                sink.compiling()

    def advance(self, step: int) -> None:
        """Move the progress bar to a step that is done."""
        for sink in self._sinks:
            if isinstance(sink, _Progress):
                sink.advance(step)

    def close(self) -> None:
        """Flush and close all files; may be called twice."""
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
    """One JSON object per line."""

    def __init__(self, path: Path, step: int) -> None:
        earlier = read_metrics(path) if step and path.exists() else []
        kept = [to_json(row) + "\n" for row in earlier if row["step"] <= step]
        atomic.write(path, "".join(kept).encode())
        # Line buffering passes each row to the system at once: a killed process loses at most
        # the row it was writing.
        self._file = path.open("a", buffering=1, encoding="utf-8")

    def write(self, row: Row) -> None:
        self._file.write(to_json(row) + "\n")

    def close(self) -> None:
        self._file.close()


class _TensorBoard:
    """Scalars named after the row's kind, such as `eval/top1_error`.

    They are written immediately. tensorboardX's own writer uses a thread that depends on the wall
    clock and dies silently on an error, after which the run would wait for it forever.
    """

    def __init__(self, folder: Path, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # Files are named by the second; a run resumed within that second would overwrite its own.
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
        self._start, self._total_steps = step, total_steps
        self._first: tuple[int, float] | None = None
        self._compiling = False
        self._bar = tqdm(
            initial=step,
            total=total_steps,
            bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}",
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )

    def write(self, row: Row) -> None:
        if row["kind"] == "train":
            self._report(row["step"], _phrases(row))
        elif row["kind"] == "eval":
            self._print(row["step"], ", ".join(["evaluation", *_phrases(row)]))
        elif row["name"] in _EVENTS:
            self._print(row["step"], naming.one_line(_EVENTS[row["name"]].format_map(row)))
        else:
            fields = {name: row[name] for name in row if name not in ("kind", "step", "name")}
            self._print(row["step"], f"{row['name']} {to_json(fields)}" if fields else row["name"])

    def compiling(self) -> None:
        self._compiling = True
        if self._bar.disable:
            self._print(self._start, "compiling")
        else:
            self._bar.set_postfix_str("compiling")

    def advance(self, step: int) -> None:
        if self._bar.disable:
            return
        if self._compiling:
            self._bar.set_postfix_str("", refresh=False)
            self._compiling = False
        self._bar.update(step - self._bar.n)

    def close(self) -> None:
        self._bar.close()

    def _report(self, step: int, phrases: Sequence[str]) -> None:
        left = self._time_left(step)
        if self._bar.disable:
            self._print(step, ", ".join([*phrases, *left]))
            return
        self._bar.n = step
        count = f"100%|| {self._total_steps}/{self._total_steps}"
        room = _columns() - len(count) - _BAR
        text = ""
        # The time left comes first, because a narrow terminal cuts the end off.
        for phrase in [*left, *phrases]:
            if len(text) + len(phrase) + 2 <= room:
                text += f", {phrase}" if text else phrase
        self._bar.set_postfix_str(text)

    def _print(self, step: int, text: str) -> None:
        tqdm.write(f"step {step}/{self._total_steps}: {text}", file=sys.stderr)

    def _time_left(self, step: int) -> list[str]:
        now = time.monotonic()
        # Measured from the first report, because compilation happens once, before it.
        self._first = self._first or (step, now)
        first_step, first_time = self._first
        if step == first_step:
            return []
        seconds = (now - first_time) / (step - first_step) * (self._total_steps - step)
        return [f"{tqdm.format_interval(seconds)} left"]


def _phrases(row: Row) -> list[str]:
    return [text.format(row[name]) for name, text in _PHRASES.items() if name in row]


def _columns() -> int:
    """Return the width of the terminal that the bar is drawn on."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS
    except (OSError, ValueError):
        return _COLUMNS


def read_metrics(path: Path) -> list[Row]:
    """Read the rows of a `metrics.jsonl`, except an incomplete last line.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if a line before the last is not JSON.
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
