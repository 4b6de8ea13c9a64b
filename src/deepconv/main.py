"""Train a network.

python -m deepconv.main --config=configs/vgg_a.py:tiny --workdir=runs/vgg_a_tiny
python -m deepconv.main --config=configs/vgg_e.py --config.train.epochs=10
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from deepconv import command_line, reporting

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "The file of the configuration, such as configs/vgg_e.py or configs/vgg_e.py:tiny.",
)
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder; by default runs/<config>.")
_JSON = flags.DEFINE_string("json", None, "Also write the result to this file.")


def main(_: Sequence[str]) -> None:
    """Train, then print the errors and where everything lies."""
    # Processes that decode import this module anew; they have no use for all that trains.
    from deepconv.training import loop

    file = config_flags.get_config_filename(flags.FLAGS["config"])
    path, _, variant = file.partition(":")
    name = "_".join([Path(path).stem, *re.findall(r"\w+", variant)])
    folder = Path(_WORKDIR.value or Path("runs") / name).absolute()
    result = loop.train(_CONFIG.value, folder)
    if _JSON.value:
        reporting.write_json(Path(_JSON.value), result)
    print(summary(result))
    print(f"run:    {folder}\ncurves: {folder / 'curves.png'}\nresult: {folder / 'result.json'}")


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
    return f"\n{head}\n{reporting.table(columns, rows, decimals=2)}\n"


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    command_line.run(main)
