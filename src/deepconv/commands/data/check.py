"""Read a prepared data set from end to end and report what is wrong with it.

    deepconv data check --name=imagenet2012

Every record is read, so that checksums and labels are verified, and one image of each shard is
decoded. For ImageNet, the counts, the order of the classes and the label of every file are compared
with the published ones. Each problem is printed on a line of its own; the exit status is then 2.
"""

import re
from collections.abc import Sequence

from absl import flags

from deepconv import atomic
from deepconv.commands import command_line
from deepconv.data.prepare import check, imagenet
from deepconv.data.sources import datasets
from deepconv.exceptions import UserError

REQUIRED = ("name",)


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    flags.DEFINE_string("name", None, "Name of the prepared data set.", flag_values=values)
    command_line.define_data_dir(values)
    command_line.define_json(values, "what was found")


def main(options: flags.FlagValues, _: Sequence[str]) -> None:
    """Print what the set contains and what is wrong with it."""
    name = options.name
    path = command_line.output_file(options, "json", ".json")
    folder = datasets.require_prepared(name, options.data_dir)
    is_imagenet = re.fullmatch(rf"{imagenet.NAME}(_s\d+)?", name)
    found = check.findings(folder, imagenet.published() if is_imagenet else None)
    for line in (f"{name} in {folder}", *found.facts, *(f"wrong: {line}" for line in found.faults)):
        print(line)
    if path:
        atomic.write_json(path, {"name": name, "folder": str(folder), **found._asdict()})
    if found.faults:
        raise UserError(f"problems found in {name}: {len(found.faults)}")
    print("no problems found")
