r"""Estimate what a run will need: memory, arithmetic, communication, time.

    deepconv plan --config=vgg_d --devices=8 --device_kind=h200
    deepconv plan --config=vgg_d --devices=8 --device_kind=h200 --compile
    deepconv plan --config=vgg_d --devices=8 --device_kind=a100 --images_per_second=700 \
        --link_gbps=100 --cores=64
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from deepconv import atomic
from deepconv.commands import command_line, config_file
from deepconv.config import recipe
from deepconv.config.schema import create_model
from deepconv.exceptions import UserError
from deepconv.plan import (
    compiled_report,
    compiler,
    devices,
    fitting,
    network,
    report,
    roofline,
    stages,
)
from deepconv.plan.stages import StagePlan
from deepconv.plan.times import Machine

REQUIRED = ("config", "devices", "device_kind")

# On ImageNet's photographs: half the rate of two cores (docs/performance.md, "Input").
DECODED = 524.0

# Flags that must be positive numbers: name, default, help.
FIGURES = (
    (
        "images_per_second",
        None,
        "Measured training speed of one device on the last stage's network; by default "
        f"{devices.ASSUMED_SHARE:.0%} of the peak is assumed.",
    ),
    ("peak_tflops", None, "Peak of one device in 10^12 FLOP/s; by default the published one."),
    ("memory_gb", None, "Memory of one device in 10^9 bytes; by default the published size."),
    (
        "link_gbps",
        None,
        "Link speed from each device to the others in 10^9 bits/s; by default the published one.",
    ),
    ("images_per_second_per_core", DECODED, "Images per second that one core decodes and crops."),
)


def machine(options: flags.FlagValues, last: ConfigDict, classes: int) -> Machine:
    """Return the devices that the flags describe, with published or assumed figures for the rest.

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
            f"the {arithmetic} peak of {options.device_kind} is unknown, unlike "
            f"{', '.join(kind.peaks)}; give --peak_tflops"
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
        cores=options.cores or kind.host_cores * options.devices,
        cores_are="given" if options.cores else f"ASSUMED: {kind.host_cores} per device",
    )


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    config_file.define(values)
    flags.DEFINE_integer(
        "devices", None, "Number of devices, over all machines.", flag_values=values
    )
    flags.DEFINE_string(
        "device_kind",
        None,
        f"Kind of device: one of {', '.join(devices.KINDS)}.",
        flag_values=values,
    )
    for name, default, meaning in FIGURES:
        flags.DEFINE_float(name, default, meaning, flag_values=values)
    flags.DEFINE_enum(
        "arithmetic",
        None,
        [devices.FLOAT32, devices.TF32, devices.BFLOAT16],
        "Precision of matrix products; by default the one that jax uses for model.dtype.",
        flag_values=values,
    )

    def count(name: str, text: str) -> None:
        flags.DEFINE_integer(name, None, text, lower_bound=1, flag_values=values)

    count(
        "cores",
        "Number of cores that decode, over all machines; by default those of a typical host.",
    )
    count("train_images", "Number of training images, if the data set is not a usual one.")
    count("eval_images", "Number of evaluation images, if the data set is not a usual one.")
    count("classes", "Number of classes, if the data set is not a usual one.")
    flags.DEFINE_boolean(
        "compile",
        False,
        "Compile the last stage's steps for such GPUs, and report what the compiler made; needs no "
        "GPU, but the extra aot.",
        flag_values=values,
    )
    command_line.define_json(values, "the plan")


def main(options: flags.FlagValues, _: Sequence[str]) -> None:
    """Print the plan of all stages."""
    jax.config.update("jax_platforms", "cpu")  # a plan uses no device, not even to look at it
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
    text, data = report.text(plans, on), report.data(plans, on)
    if options.compile:
        told, data["compiled"] = _compiled(last, sizes[-1], plans[-1], on, _limits(options, on))
        text += f"\n\n{told}"
    if path:
        atomic.write_json(path, data)
    print(text)


def _limits(options: flags.FlagValues, on: Machine) -> roofline.Limits:
    kind = devices.device(on.kind)
    peak = 1e12 * options.peak_tflops if options.peak_tflops else kind.peaks.get(options.arithmetic)
    peaks = dict.fromkeys(kind.peaks, peak) if peak else kind.peaks
    return roofline.Limits(peaks, kind.bandwidth, on.link)


def _compiled(
    config: ConfigDict, size: stages.Sizes, plan: StagePlan, on: Machine, limits: roofline.Limits
) -> tuple[str, dict[str, Any]]:
    """Compile a stage's steps; return the report as text and as JSON values."""

    def compiled(microbatches: int, steps: Sequence[str]) -> dict[str, compiler.Compiled]:
        changed = config.copy_and_resolve_references()
        changed.train.microbatches = microbatches
        return compiler.compile_steps(
            changed,
            classes=size.classes,
            images=size.train,
            kind=on.kind,
            devices=on.devices,
            steps=steps,
        )

    steps = compiled(plan.microbatches, compiler.STEPS)
    fit = fitting.of(
        steps["train"],
        limit=on.usable * on.memory,
        examples=plan.examples,
        microbatches=plan.microbatches,
        compiled=lambda parts: compiled(parts, ["train"])["train"],
    )
    return (
        compiled_report.text(steps, plan, on, limits, fit),
        compiled_report.data(steps, limits, fit),
    )
