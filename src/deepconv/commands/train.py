"""Train a network.

    deepconv train --config=vgg_e:tiny --workdir=runs/tiny
    deepconv train --config=configs/vgg_e.py --config.train.epochs=10

After an interruption, run the same command to resume from the last checkpoint.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from deepconv import atomic, parallel, tables
from deepconv.commands import command_line, config_file
from deepconv.config import recipe
from deepconv.run.files import RunFolder
from deepconv.run.workdir import has_begun, require_same_length
from deepconv.training import loop
from deepconv.training.stage import open_all

REQUIRED = ("config",)
INTERRUPTED = (
    "interrupted before training began; nothing new has been saved: run the same command to start "
    "again"
)

# What a run may be judged by.
_COLUMNS = {
    "top1_error": "top-1 error %",
    "top5_error": "top-5 error %",
    "ranking_error": "ranking error %",
    "localization_error": "localization error %",
    "iou": "mean IoU %",
}


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    config_file.define(values)
    flags.DEFINE_string(
        "workdir",
        None,
        "The folder of the run, or of all runs of a recipe; by default in runs/.",
        flag_values=values,
    )
    command_line.define_json(values, "the result")
    flags.DEFINE_string(
        "coordinator",
        None,
        "HOST:PORT of process 0, if several processes train together.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "num_processes",
        None,
        "Number of processes that train together; 1 disables cluster detection.",
        flag_values=values,
    )
    flags.DEFINE_integer("process_id", None, "Index of this process, from 0.", flag_values=values)
    flags.DEFINE_bool(
        "debug_nans",
        False,
        "Check every step, and name the layer where the loss becomes NaN or infinite.",
        flag_values=values,
    )


def main(options: flags.FlagValues, _: Sequence[str]) -> None:
    """Train, then print the errors and the paths of the results."""
    path = command_line.output_file(options, "json", ".json")
    parallel.start(options.coordinator, options.num_processes, options.process_id)
    file, _, variant = config_flags.get_config_filename(options["config"]).partition(":")
    config = options.config
    name = "_".join([Path(file).stem, *re.findall(r"\w+", variant)])
    # The runs of a recipe are side by side, so that two networks can share their first stage.
    default = Path("runs") / name if config.recipe.name == "single" else Path("runs")
    folder = Path(options.workdir or default).absolute()
    stages = recipe.stages(config)
    sources = [folder / stage.source if stage.source else None for stage in stages]
    configs = [stage.config for stage in stages]
    runs = [folder / stage.name for stage in stages]
    for stage, run, later in zip(stages, runs, runs[1:], strict=False):
        require_same_length(run, stage.config, later)
    opened = open_all([*zip(configs, sources, runs, strict=True)])
    if len(stages) > 1 and parallel.is_first():
        print(plan(stages, folder, [len(stage.dataset.train) for stage in opened]), flush=True)
    for run, ready in zip(runs, opened, strict=True):
        result = loop.train_stage(ready, run, debug_nans=options.debug_nans)
        if parallel.is_first():
            print(summary(result))
            files = RunFolder(run)
            print(f"run:    {run}\ncurves: {files.curves}\nresult: {files.result}\n")
    if path and parallel.is_first():
        atomic.write_json(path, result)


def plan(stages: Sequence[recipe.Stage], folder: Path, images: Sequence[int]) -> str:
    """Return a table of the stages: what each starts from, sees at most, and its status.

    Args:
      stages: in order.
      folder: the folder that contains their runs.
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
    return "started" if has_begun(run) else "to do"


def summary(result: dict[str, Any]) -> str:
    """Return the table of a run's errors, in percent."""
    shown = {name: title for name, title in _COLUMNS.items() if name in result["last"]}
    rows = [
        (name, row["step"], *(100 * row[column] for column in shown), row["images"])
        for name, row in (("best", result["best"]), ("last", result["last"]))
    ]
    head = (
        f"{result['network']} on {result['dataset']}, {result['protocol']}, seed {result['seed']}, "
        f"{result['epochs']:.1f} epochs in {result['seconds']:.0f} s"
    )
    columns = ("checkpoint", "step", *shown.values(), "images")
    return f"\n{head}\n{tables.table(columns, rows, decimals=2)}\n"
