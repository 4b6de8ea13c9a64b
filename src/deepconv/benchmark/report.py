"""Benchmark results, as the values of the JSON file and as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from deepconv import tables
from deepconv.benchmark.timing import Spread, ratios, spread

Result = dict[str, Any]

COLUMNS = (
    "",
    "images/s",
    "ms per step",
    "quartiles",
    "GFLOP/s",
    "% of peak",
    "memory MB",
    "compile s",
    "our speedup",
)

PROGRAM_MEMORY = "arguments, results and temporaries, according to the compiler"


def line(
    name: str,
    *,
    batch: int,
    seconds: Sequence[float] = (),
    flops: int | None = None,
    peak: float | None = None,
    memory: int | None = None,
    compile_seconds: float | None = None,
    ours: Sequence[float] = (),
) -> Result:
    """Return one line of the result; values that were not measured are None.

    Args:
      name: what was measured.
      batch: images per step.
      seconds: `[rounds]`, seconds per step.
      flops: FLOPs per step.
      peak: FLOP/s of the matrix product.
      memory: in bytes.
      compile_seconds: including tracing and lowering.
      ours: `[rounds]`, seconds per step of ours, if this line is another framework's.
    """
    steps = spread(seconds) if seconds else None
    rate = flops / steps.median if flops and steps else None
    return {
        "name": name,
        "images_per_second": batch / steps.median if steps else None,
        "seconds": _spread(steps),
        "seconds_by_round": [*seconds],
        "flops_per_second": rate,
        "share_of_peak": rate / peak if rate and peak else None,
        "memory_bytes": memory,
        "compile_seconds": compile_seconds,
        "ours_is_times_as_fast": _spread(spread(ratios(seconds, ours))) if ours else None,
    }


def _spread(values: Spread | None) -> dict[str, float] | None:
    return values and values._asdict()


def text(result: Result) -> str:
    """Return the table, with the conditions of the measurement."""
    head = (
        f"{result['network']}, {result['crop']}x{result['crop']} crops, {result['classes']} "
        f"classes, batches of {result['batch']}, {result['dtype']}, on {result['devices']} with "
        f"{result['cores']} CPU cores; {result['rounds']} rounds of {result['steps']} steps"
    )
    columns = zip(COLUMNS, *(_cells(row) for row in result["lines"]), strict=True)
    known = [column for column in columns if any(cell is not None for cell in column[1:])]
    titles, *rows = zip(*known, strict=True)
    lines = [head, "", tables.table(titles, rows), ""]
    if peak := result["peak_flops_per_second"]:
        side = result["matrix_side"]
        lines.append(
            f"peak: {peak / 1e9:,.1f} GFLOP/s, the best round of a {result['dtype']} product of "
            f"{side}x{side} matrices"
        )
    if any(row["memory_bytes"] for row in result["lines"]):
        of_device = result["memory_is_of_the_device"]
        lines.append("memory: " + ("the peak of a device so far" if of_device else PROGRAM_MEMORY))
    if share := result["pipeline_share"]:
        lines.append(
            f"pipeline: {100 * share['median']:.1f} % (quartiles {100 * share['lower']:.1f} to "
            f"{100 * share['upper']:.1f}) of the slower of input and train alone, within a round"
        )
    return "\n".join(lines)


def _cells(row: Result) -> list[str | float | None]:
    seconds, times = row["seconds"], row["ours_is_times_as_fast"]
    return [
        row["name"],
        row["images_per_second"],
        _scaled(seconds and seconds["median"], 1e3),
        f"{1e3 * seconds['lower']:.1f} to {1e3 * seconds['upper']:.1f}" if seconds else None,
        _scaled(row["flops_per_second"], 1e-9),
        _scaled(row["share_of_peak"], 100),
        _scaled(row["memory_bytes"], 1e-6),
        row["compile_seconds"],
        times_as_fast(times) if times else None,
    ]


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value


def times_as_fast(times: Mapping[str, float]) -> str:
    """Return a ratio's median and quartiles, such as "1.20 (1.10 to 1.30)"."""
    return f"{times['median']:.2f} ({times['lower']:.2f} to {times['upper']:.2f})"
