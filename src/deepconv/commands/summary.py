"""Print a network layer by layer: shapes, parameters, arithmetic.

    deepconv summary --config=vgg_e
    deepconv summary --config=alexnet --config.model.towers=1 --classes=10184

Multiply-accumulates (MACs) are those of the kernels, including taps on padding but not the biases.
"""

from collections.abc import Sequence

from absl import flags

from deepconv import atomic
from deepconv.commands import command_line, config_file
from deepconv.config.check import check_config
from deepconv.config.schema import create_model
from deepconv.models import summary

REQUIRED = ("config",)


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    config_file.define(values)
    flags.DEFINE_integer("classes", 1000, "Number of classes.", 1, flag_values=values)
    command_line.define_json(values, "the table")


def main(options: flags.FlagValues, _: Sequence[str]) -> None:
    """Print the table of the config's network."""
    path = command_line.output_file(options, "json", ".json")
    config = options.config
    check_config(config)
    network = create_model(config, options.classes)
    rows = summary.layer_table(network.layers, network.crop)
    totals = summary.totals(rows)
    if path:
        result = {
            "network": config.model.name,
            "crop": network.crop,
            "classes": options.classes,
            "layers": [{**row._asdict(), "parameters": row.parameters} for row in rows],
            "totals": totals._asdict(),
        }
        atomic.write_json(path, result)
    crop = f"{network.crop}x{network.crop}"
    print(f"{config.model.name}, {crop} crop, {options.classes} classes\n\n{summary.text(rows)}")
