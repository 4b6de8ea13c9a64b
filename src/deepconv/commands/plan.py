r"""Estimate a run before it: memory, arithmetic, communication, time.

    deepconv plan --config=vgg_d --devices=8 --device_kind=h200
    deepconv plan --config=vgg_d --devices=8 --device_kind=a100 --images_per_second=700 \
        --link_gbps=100 --cores=64
"""

import math
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict

from deepconv import atomic
from deepconv.commands import command_line, config_file
from deepconv.config import recipe
from deepconv.config.schema import create_model
from deepconv.exceptions import UserError
from deepconv.plan import devices, network, report, stages
from deepconv.plan.times import Machine

REQUIRED = ("config", "devices", "device_kind")

# Of ImageNet's photographs: half of what two cores do together (docs/performance.md, "Input").
DECODED = 524.0

# Flags that are positive numbers: name, default, meaning.
FIGURES = (
    (
        "images_per_second",
        None,
        "Measured: one device's, training the last stage's network. Else the peak is assumed to "
        f"be reached at {devices.ASSUMED_SHARE:.0%}.",
    ),
    ("peak_tflops", None, "Instead of the kind's published peak."),
    ("memory_gb", None, "Of one device, in 10^9 bytes."),
    ("link_gbps", None, "From each device to the others, in 10^9 bits a second."),
    ("images_per_second_per_core", DECODED, "Decoded and cropped by one core."),
)


def machine(options: flags.FlagValues, last: ConfigDict, classes: int) -> Machine:
    """Return what the flags say of the devices, and what is assumed where they do not.

    Args:
      options: the command's flags.
      last: config of the last stage, whose network `--images_per_second` was measured on.
      classes: of that stage.

    Raises:
      UserError: if a figure is not positive, or the kind of device is unknown or has no such
        arithmetic.
    """
    for name, _, _ in FIGURES:
        value = options[name].value
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"--{name}={value:g} must be a positive number")
    kind = devices.device(options.device_kind)
    usual = devices.arithmetic(kind.peaks, last.model.dtype)
    arithmetic = options.arithmetic or usual
    if arithmetic not in kind.peaks and not options.peak_tflops:
        raise UserError(
            f"--arithmetic={arithmetic}: no such peak is known of {options.device_kind}, only "
            f"{', '.join(kind.peaks)}; say --peak_tflops"
        )
    if options.images_per_second:
        alone = network.local(create_model(last, classes), model_devices=1)
        rate = options.images_per_second * network.flops(alone).training
        rate_is = (
            f"from the measured {options.images_per_second:,.4g} images/s of {last.model.name}"
        )
    else:
        peak = 1e12 * options.peak_tflops if options.peak_tflops else kind.peaks[arithmetic]
        rate = devices.ASSUMED_SHARE * peak
        rate_is = (
            f"ASSUMED: {devices.ASSUMED_SHARE:.0%} of {peak / 1e12:,.4g} TFLOP/s, its dense peak "
            f"in {arithmetic}"
        )
    return Machine(
        kind=options.device_kind,
        devices=options.devices,
        rate=rate,
        rate_is=rate_is,
        measured=bool(options.images_per_second),
        memory=1e9 * options.memory_gb if options.memory_gb else kind.memory,
        usable=kind.usable,
        link=1e9 / 8 * options.link_gbps if options.link_gbps else kind.link,
        decoded=options.images_per_second_per_core,
        cores=options.cores,
    )


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    config_file.define(values)
    flags.DEFINE_integer("devices", None, "How many, over all machines.", flag_values=values)
    flags.DEFINE_string(
        "device_kind", None, f"One of {', '.join(devices.KINDS)}.", flag_values=values
    )
    for name, default, meaning in FIGURES:
        flags.DEFINE_float(name, default, meaning, flag_values=values)
    flags.DEFINE_enum(
        "arithmetic",
        None,
        [devices.FLOAT32, devices.TF32, devices.BFLOAT16],
        "What matrix products are computed in; by default what jax does with model.dtype.",
        flag_values=values,
    )

    def count(name: str, text: str) -> None:
        flags.DEFINE_integer(name, None, text, lower_bound=1, flag_values=values)

    count("cores", "That decode, over all machines.")
    count("train_images", "In the training set.")
    count("eval_images", "In the evaluation set.")
    count("classes", "Of the data set.")
    command_line.define_json(values, "the plan")


def main(options: flags.FlagValues, _: Sequence[str]) -> None:
    """Print the plan of all stages."""
    path = command_line.output_file(options, "json", ".json")
    config = options.config
    stages.check_stages(config, options.devices)
    given = {
        "train": options.train_images,
        "evaluation": options.eval_images,
        "classes": options.classes,
    }
    todo = recipe.stages(config)
    sizes = [stages.sizes(stage.config, config.dataset.name, given) for stage in todo]
    last = todo[-1].config
    on = machine(options, last, sizes[-1].classes)
    plans = [stages.plan_stage(stage, size, on) for stage, size in zip(todo, sizes, strict=True)]
    if path:
        atomic.write_json(path, report.data(plans, on))
    print(report.text(plans, on))
