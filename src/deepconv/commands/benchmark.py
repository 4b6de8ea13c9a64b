"""Measure how fast a config trains, evaluates, reads its images and compiles.

    deepconv benchmark --config=configs/vgg_d.py --batch=64
    deepconv benchmark --config=configs/alexnet.py:tiny --what=train,forward,pipeline

docs/performance.md explains each figure.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags
from ml_collections import config_flags

from deepconv import atomic
from deepconv.commands import command_line
from deepconv.exceptions import UserError

if TYPE_CHECKING:  # see `measure`
    from deepconv.benchmark.report import Result
    from deepconv.benchmark.session import Others

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


def measure(others: "Others | None" = None) -> "Result":
    """Measure what the flags ask for; see `session.measure`."""
    # Processes that decode import this module anew, and need nothing that trains.
    import jax

    from deepconv.benchmark import session

    options = flags.FLAGS
    # What is compiled here must be compiled, not found on disk.
    jax.config.update("jax_enable_compilation_cache", False)
    request = session.Request(
        config=options.config,
        what=things(options.what),
        batch=options.batch,
        classes=options.classes,
        rounds=options.rounds,
        steps=options.steps,
    )
    result = session.measure(request, others)
    result["config"] = config_flags.get_config_filename(options["config"])
    return result


def main(_: Sequence[str]) -> None:
    """Measure, print the table, and write the JSON file if one is asked for."""
    from deepconv.benchmark import report

    path = command_line.output_file("json", ".json")
    result = measure()
    print(report.text(result))
    if path:
        atomic.write_json(path, result)


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    config_flags.DEFINE_config_file(
        "config",
        None,
        "The file of the configuration, such as configs/vgg_e.py or configs/vgg_e.py:tiny.",
        flag_values=values,
    )

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
    flags.DEFINE_string(
        "json", None, "Also write every figure to this .json file.", flag_values=values
    )
    flags.mark_flag_as_required("config", flag_values=values)


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    command_line.run(main)
