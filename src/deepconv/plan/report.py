"""A plan as text and as JSON values."""

import textwrap
from collections.abc import Sequence
from typing import Any

from deepconv import tables
from deepconv.plan import traffic
from deepconv.plan.stages import StagePlan
from deepconv.plan.times import Machine


def text(plans: Sequence[StagePlan], machine: Machine) -> str:
    """Return the whole report; the details are those of the last stage, the config's own."""
    last = plans[-1]
    copies = f"{machine.devices} x {machine.kind}"
    if last.net.model_devices > 1:
        copies += ", one tower of the network on each"
    return "\n\n".join(
        (
            f"A plan, not a measurement: {copies}\n{_speed(machine)}",
            _schedule(plans, machine),
            f"Last stage, {last.name}: batches of {last.batch}, {last.examples} per device"
            + (f" in {last.microbatches} microbatches" if last.microbatches > 1 else ""),
            _memory(last, machine),
            _step(last, machine),
        )
    )


def _filled(prose: str) -> str:
    return textwrap.fill(prose, 100, break_long_words=False, break_on_hyphens=False)


def _speed(machine: Machine) -> str:
    return (
        f"one device: {machine.rate / 1e12:,.4g} TFLOP/s in training, {machine.rate_is}\n"
        f"link: {machine.link / 1e9:,.4g} GB/s ({8 * machine.link / 1e9:,.4g} Gbit/s) from each "
        "device, at full rate, without latency"
    )


def _schedule(plans: Sequence[StagePlan], machine: Machine) -> str:
    rows: list[tuple[str | float | None, ...]] = [
        (
            plan.name,
            "-".join(str(side) for side in sorted(set(plan.scale))),
            f"{plan.epochs:g}",
            f"{plan.images:,}",
            f"{plan.epoch:,.0f}",
            plan.hours,
            plan.step.bound,
            "yes" if plan.memory.total <= machine.usable * machine.memory else "NO",
        )
        for plan in plans
    ]
    if len(plans) > 1:
        epochs = f"{sum(plan.epochs for plan in plans):g}"
        images = f"{sum(plan.images for plan in plans):,}"
        hours = sum(plan.hours for plan in plans)
        rows.append(("all", None, epochs, images, None, hours, None, None))
    cells = [["-" if cell is None and at != 5 else cell for at, cell in enumerate(r)] for r in rows]
    columns = ("stage", "S", "epochs", "images", "s/epoch", "hours", "bound by", "fits")
    return (
        f"{tables.table(columns, cells)}\n"
        "epochs at most: a plateau may end a stage earlier; times include evaluations"
    )


def _memory(plan: StagePlan, machine: Machine) -> str:
    memory, limit = plan.memory, machine.usable * machine.memory
    rows = [
        ("parameters", memory.parameters, "float32"),
        ("velocity", memory.velocity, "float32"),
        ("gradients", memory.gradients, "float32" + (", twice" if plan.microbatches > 1 else "")),
        ("parameters, cast", memory.casts, "in the network's dtype"),
        ("batches", memory.batch + memory.next_batch, "the current one and the next"),
        ("activations", memory.activations, "estimate, kept for the backward pass"),
        ("temporaries", memory.passing, "estimate, without library workspaces"),
        ("all", memory.total, f"of {_gb(limit)} GB, {machine.usable:.0%} of the device's"),
    ]
    cells = [(name, float(_gb(value)), note) for name, value, note in rows if value]
    told = tables.table(("memory of a device", "GB", ""), cells, decimals=3)
    if memory.total <= limit:
        return f"{told}\nIt fits."
    if plan.fitting is None:
        return f"{told}\nIt does NOT fit with any train.microbatches."
    return f"{told}\nIt does NOT fit; train.microbatches={plan.fitting} would fit."


def _step(plan: StagePlan, machine: Machine) -> str:
    step = plan.step
    reduced, sent = traffic.payload(plan.gradients), traffic.sent(plan.gradients)
    rows: list[tuple[str, float, str]] = [
        (
            "compute",
            1e3 * step.computing,
            f"{plan.flops / 1e12:,.4g} TFLOP over all devices, "
            f"{plan.epoch_flops / 1e15:,.4g} PFLOP per epoch",
        )
    ]
    if plan.gathers:
        rows.append(
            (
                "tower exchange",
                1e3 * step.exchanging,
                f"{_mb(traffic.payload(plan.gathers))} MB of maps and their gradients, each "
                f"device sends {_mb(traffic.sent(plan.gathers))} MB",
            )
        )
    if plan.gradients:
        rows.append(
            (
                "all-reduce",
                1e3 * step.reducing,
                f"{_mb(reduced)} MB of gradients, each device sends {_mb(sent)} MB (ring)",
            )
        )
    rows.append(
        (
            "decoding",
            1e3 * step.decoding,
            f"in parallel, on {machine.cores} cores, {machine.cores_are}",
        )
    )
    rows.append(("all", 1e3 * step.seconds, f"{_count(plan.batch / step.seconds)} images/s"))
    prose = f"Bound by {step.bound}."
    if plan.gradients:
        prose += " This assumes no overlap of the all-reduce with the backward pass."
    wanted = plan.batch / (step.computing + step.exchanging + step.reducing)
    prose += (
        f" At {_count(machine.decoded)} images/s per core, decoding {_count(wanted)} images/s to "
        f"keep the devices busy takes {wanted / machine.decoded:.1f} cores."
    )
    return f"{tables.table(('time per step', 'ms', ''), rows, decimals=2)}\n{_filled(prose)}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _gb(size: float) -> str:
    return f"{size / 1e9:.3f}"


def _mb(size: float) -> str:
    return f"{size / 1e6:,.1f}"


def data(plans: Sequence[StagePlan], machine: Machine) -> dict[str, Any]:
    """Return the same as JSON values, in bytes, seconds and FLOPs."""
    limit = machine.usable * machine.memory
    return {
        "is": "a plan, not a measurement",
        "machine": machine._asdict(),
        "hours": sum(plan.hours for plan in plans),
        "images": sum(plan.images for plan in plans),
        "stages": [
            {
                **{
                    key: value
                    for key, value in plan._asdict().items()
                    if key not in ("net", "gradients", "gathers")
                },
                "parameters": plan.net.parameters,
                "memory": {**plan.memory._asdict(), "total": plan.memory.total},
                "fits": plan.memory.total <= limit,
                "collectives": [
                    {**each._asdict(), "sent": each.sent}
                    for each in (*plan.gradients, *plan.gathers)
                ],
                "step": {
                    **plan.step._asdict(),
                    "seconds": plan.step.seconds,
                    "bound": plan.step.bound,
                },
            }
            for plan in plans
        ],
    }
