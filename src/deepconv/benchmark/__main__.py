"""Measure how fast a config trains, scores, reads and compiles, and how fast PyTorch does.

    python -m deepconv.benchmark --config=configs/vgg_d.py --batch=64
    python -m deepconv.benchmark --config=configs/alexnet.py:tiny --what=train,forward,pipeline
    python -m deepconv.benchmark --config=configs/alexnet.py --compare=torch --json=alexnet.json

What each figure counts is in docs/performance.md.
"""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from deepconv import command_line, reporting
from deepconv.user_error import UserError

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
            "--compare=torch needs PyTorch, which is not installed: pip install -e '.[torch]'"
        ) from None


def main(_: Sequence[str]) -> None:
    """Measure, print the table, and write what is asked for."""
    options = flags.FLAGS
    what = things(options.what, options.compare)
    path = options.json and Path(options.json)
    if path and (path.suffix != ".json" or not path.absolute().parent.is_dir()):
        raise UserError(f"--json={path} is not a .json file in a folder that exists")
    if options.compare:
        # Both are read at the first import or use: jax would take most of the GPU's memory, and
        # torch.compile would find on disk what an earlier run has compiled.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        os.environ.setdefault("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
        require_torch()

    # Processes that decode import this module anew; they have no use for all that trains.
    from deepconv.benchmark import report, session

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
        reporting.write_json(path, result)


if __name__ == "__main__":
    config_flags.DEFINE_config_file(
        "config",
        None,
        "The file of the configuration, such as configs/vgg_e.py or configs/vgg_e.py:tiny.",
    )
    flags.DEFINE_list("what", ["train", "forward"], f"What to measure, of {', '.join(THINGS)}.")
    flags.DEFINE_enum("compare", None, ["torch"], "Let another framework take turns.")
    flags.DEFINE_integer("batch", None, "Images of a step; by default the config's.", 1)
    flags.DEFINE_integer("classes", 1000, "The number of classes, where no data are opened.", 1)
    flags.DEFINE_integer("rounds", 5, "Rounds that count.", 1)
    flags.DEFINE_integer("steps", 10, "Steps of each contender in a round.", 1)
    flags.DEFINE_string("json", None, "Also write every figure to this .json file.")
    flags.mark_flag_as_required("config")
    command_line.run(main)
