"""Measure how fast a config trains, scores, reads and compiles, beside PyTorch.

    deepconv benchmark --config=vgg_d --batch=64
    deepconv benchmark --config=alexnet:tiny --what=train,forward,pipeline
    deepconv benchmark --config=alexnet --compare=torch --json=alexnet.json

What each figure counts is in docs/performance.md.
"""

import importlib
import os
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from deepconv import atomic
from deepconv.commands import command_line, config_file
from deepconv.exceptions import UserError

REQUIRED = ("config",)

# In this order they are made, so that a device's memory grows from one to the next.
THINGS = ("forward", "train", "input", "pipeline", "compile")
COMPILED = ("forward", "train")


def things(asked: Sequence[str], compare: str | None) -> tuple[str, ...]:
    """Return what to measure, in order; `pipeline` is compared with `train` and `input` alone.

    Raises:
      UserError: if one of them does not exist, or there is nothing to compare.
    """
    if unknown := [name for name in asked if name not in THINGS]:
        raise UserError(f"--what={unknown[0]} is none of {', '.join(THINGS)}")
    wanted = {*asked, *(("train", "input") if "pipeline" in asked else ())}
    if not wanted:
        raise UserError(f"--what names nothing; there are {', '.join(THINGS)}")
    if compare and not wanted & {*COMPILED}:
        raise UserError(f"--compare={compare} compares train and forward: --what has neither")
    return tuple(name for name in THINGS if name in wanted)


def require_torch() -> None:
    """Raise `UserError` unless PyTorch is installed."""
    try:
        importlib.import_module("torch")
    except ImportError:
        raise UserError(
            "the comparison needs PyTorch, which is not installed: pip install -e '.[torch]'"
        ) from None


def main(options: flags.FlagValues, _: Sequence[str]) -> None:
    """Measure, print the table, and write what is asked for."""
    what = things(options.what, options.compare)
    path = command_line.output_file(options, "json", ".json")
    if options.compare:
        # Both are read at the first import or use: jax would take most of the GPU's memory, and
        # torch.compile would find on disk what an earlier run has compiled.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        os.environ.setdefault("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
        require_torch()

    import jax

    from deepconv.benchmark import report, session

    # What is compiled here is to be compiled, and not found on disk.
    jax.config.update("jax_enable_compilation_cache", False)
    request = session.Request(
        config=options.config,
        what=what,
        with_torch=options.compare == "torch",
        batch=options.batch,
        classes=options.classes,
        rounds=options.rounds,
        steps=options.steps,
    )
    result = session.measure(request)
    result["config"] = config_flags.get_config_filename(options["config"])
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
    flags.DEFINE_enum(
        "compare", None, ["torch"], "Let another framework take turns.", flag_values=values
    )
    command_line.define_json(values, "every figure")
