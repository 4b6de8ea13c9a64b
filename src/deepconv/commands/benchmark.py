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

# They are made in this order, so that a device's memory grows from one to the next.
THINGS = ("forward", "train", "input", "pipeline", "compile")


def things(asked: Sequence[str]) -> tuple[str, ...]:
    """Return what to measure, in order; `pipeline` is compared with `train` and `input` alone.

    Raises:
      UserError: if one of them does not exist, or there are none.
    """
    if unknown := [name for name in asked if name not in THINGS]:
        raise UserError(f"--what={unknown[0]} is none of {', '.join(THINGS)}")
    wanted = {*asked, *(("train", "input") if "pipeline" in asked else ())}
    if not wanted:
        raise UserError(f"--what names nothing; there are {', '.join(THINGS)}")
    return tuple(name for name in THINGS if name in wanted)


def measure(options: flags.FlagValues, others: "Others | None" = None) -> "Result":
    """Measure what the flags ask for; see `session.measure`."""
    what = things(options.what)
    # Processes that decode import this module anew, and need nothing that trains.
    import jax

    from deepconv.benchmark import session

    # What is compiled here must be compiled, not found on disk.
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
    """Measure, print the table, and write the JSON file if one is asked for."""
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

    count("batch", None, "Images of a step; by default the config's.")
    count("classes", 1000, "The number of classes, where no data are opened.")
    count("rounds", 5, "Rounds that count.")
    count("steps", 10, "Steps of each contender in a round.")
    flags.DEFINE_list(
        "what",
        ["train", "forward"],
        f"What to measure, of {', '.join(THINGS)}.",
        flag_values=values,
    )
    command_line.define_json(values, "every figure")
