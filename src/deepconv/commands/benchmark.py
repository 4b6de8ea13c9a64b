"""Measure how fast a config trains, evaluates, reads its images and compiles.

    deepconv benchmark --config=vgg_d --batch=64
    deepconv benchmark --config=alexnet:tiny --what=train,forward,pipeline --json=alexnet.json

docs/performance.md explains each figure.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags
from ml_collections import config_flags

from deepconv import atomic
from deepconv.commands import command_line, config_file
from deepconv.exceptions import UserError

if TYPE_CHECKING:  # see `measure`
    from deepconv.benchmark.report import Result
    from deepconv.benchmark.session import Others

REQUIRED = ("config",)

# In order of memory use: a device reports only the peak since the process began.
THINGS = ("forward", "train", "input", "pipeline", "compile")


def things(asked: Sequence[str]) -> tuple[str, ...]:
    """Return what to measure, in order; `pipeline` adds `train` and `input`, to compare with.

    Raises:
      UserError: if a name is unknown, or none is given.
    """
    if unknown := [name for name in asked if name not in THINGS]:
        raise UserError(f"unknown --what={unknown[0]}; choose from {', '.join(THINGS)}")
    wanted = {*asked, *(("train", "input") if "pipeline" in asked else ())}
    if not wanted:
        raise UserError(f"--what is empty; choose from {', '.join(THINGS)}")
    return tuple(name for name in THINGS if name in wanted)


def measure(options: flags.FlagValues, others: "Others | None" = None) -> "Result":
    """Measure what the flags ask for; see `session.measure`."""
    what = things(options.what)
    # Worker processes that decode images import this module too, and do not need jax.
    import jax

    from deepconv.benchmark import session

    # Compilation is timed, so programs must not come from the cache on disk.
    jax.config.update("jax_enable_compilation_cache", False)
    request = session.Request(
        config=options.config,
        what=what,
        batch=options.batch,
        classes=options.classes,
        rounds=options.rounds,
        steps=options.steps,
    )
    result = session.measure(request, others)
    result["config"] = config_flags.get_config_filename(options["config"])
    return result


def main(options: flags.FlagValues, _: Sequence[str]) -> None:
    """Measure, print the table, and write the JSON file if requested."""
    path = command_line.output_file(options, "json", ".json")
    result = measure(options)
    from deepconv.benchmark import report

    print(report.text(result))
    if path:
        atomic.write_json(path, result)


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    config_file.define(values)

    def count(name: str, default: int | None, text: str) -> None:
        flags.DEFINE_integer(name, default, text, lower_bound=1, flag_values=values)

    count("batch", None, "Images per step; by default the config's batch size.")
    count("classes", 1000, "Number of classes, if no data set is opened.")
    count("rounds", 5, "Number of timed rounds.")
    count("steps", 10, "Steps per round of everything that is timed.")
    flags.DEFINE_list(
        "what",
        ["train", "forward"],
        f"What to measure: any of {', '.join(THINGS)}.",
        flag_values=values,
    )
    command_line.define_json(values, "every figure")
