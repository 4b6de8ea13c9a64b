"""Train a network.

python -m deepconv.main --config=configs/vgg_e.py:tiny --workdir=runs/tiny
python -m deepconv.main --config=configs/vgg_e.py --config.train.epochs=10
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from deepconv import atomic, tables
from deepconv.commands import command_line
from deepconv.config import recipe
from deepconv.run.files import RunFolder
from deepconv.run.workdir import has_begun

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "The file of the configuration, such as configs/vgg_e.py or configs/vgg_e.py:tiny.",
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The folder of the run, or of all runs of a recipe."
)
_JSON = flags.DEFINE_string("json", None, "Also write the result to this file.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0; see docs/distributed.md."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Of the run; 1: this one alone.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
_DEBUG_NANS = flags.DEFINE_bool(
    "debug_nans",
    False,
    "Check every step, and name the layer where the loss ceases to be a number.",
)


def main(_: Sequence[str]) -> None:
    """Train, then print the errors and where everything lies."""
    # Processes that decode import this module anew; they have no use for all that trains.
    from deepconv import parallel
    from deepconv.training import loop
    from deepconv.training.stage import open_all

    parallel.start(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    file = config_flags.get_config_filename(flags.FLAGS["config"])
    path, _, variant = file.partition(":")
    config = _CONFIG.value
    name = "_".join([Path(path).stem, *re.findall(r"\w+", variant)])
    # The runs of a recipe lie side by side, so that two networks can share their first stage.
    default = Path("runs") / name if config.recipe.name == "single" else Path("runs")
    folder = Path(_WORKDIR.value or default).absolute()
    stages = recipe.stages(config)
    sources = [folder / stage.source if stage.source else None for stage in stages]
    configs = [stage.config for stage in stages]
    opened = open_all([*zip(configs, sources, strict=True)])
    if len(stages) > 1 and parallel.is_first():
        print(plan(stages, folder, [len(stage.dataset.train) for stage in opened]), flush=True)
    for stage, ready in zip(stages, opened, strict=True):
        run = folder / stage.name
        result = loop.train_stage(ready, run, debug_nans=_DEBUG_NANS.value)
        if parallel.is_first():
            print(summary(result))
            files = RunFolder(run)
            print(f"run:    {run}\ncurves: {files.curves}\nresult: {files.result}\n")
    if _JSON.value and parallel.is_first():
        atomic.write_json(Path(_JSON.value), result)


def plan(stages: Sequence[recipe.Stage], folder: Path, images: Sequence[int]) -> str:
    """Return a table of the stages to come: what each starts from, sees at most, and its status.

    Args:
      stages: in order.
      folder: where their runs lie.
      images: size of each stage's training set.
    """
    rows = [
        (
            stage.name,
            stage.config.model.name,
            "-".join(map(str, sorted(set(stage.config.input.scale)))),
            f"{stage.config.optimizer.learning_rate:g}",
            stage.source or stage.config.init.checkpoint or "random weights",
            f"{stage.config.train.epochs * size:,.0f}",
            _status(folder / stage.name),
        )
        for stage, size in zip(stages, images, strict=True)
    ]
    columns = ("stage", "network", "S", "learning rate", "starts from", "images to see", "status")
    return f"{tables.table(columns, rows)}\n"


def _status(run: Path) -> str:
    if RunFolder(run).result.exists():
        return "complete"
    return "begun" if has_begun(run) else "to do"


def summary(result: dict[str, Any]) -> str:
    """Return the table of a run's errors, in percent."""
    rows = [
        (name, row["step"], 100 * row["top1_error"], 100 * row["top5_error"], row["images"])
        for name, row in (("best", result["best"]), ("last", result["last"]))
    ]
    head = (
        f"{result['network']} on {result['dataset']}, {result['protocol']}, seed {result['seed']}, "
        f"{result['epochs']:.1f} epochs in {result['seconds']:.0f} s"
    )
    columns = ("checkpoint", "step", "top-1 error %", "top-5 error %", "images")
    return f"\n{head}\n{tables.table(columns, rows, decimals=2)}\n"


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    command_line.run(
        main,
        interrupted="interrupted before training began: nothing new has been saved, and the same "
        "command starts from where it did",
    )
