"""Compiled steps as text and as JSON values."""

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from deepconv import tables
from deepconv.plan import fitting, roofline
from deepconv.plan.compiler import Compiled
from deepconv.plan.fitting import Fit
from deepconv.plan.roofline import Limits
from deepconv.plan.stages import StagePlan
from deepconv.plan.times import Machine

_TITLES = {"train": "Training step", "evaluation": "Evaluation of a batch"}


def text(
    steps: Mapping[str, Compiled], plan: StagePlan, machine: Machine, limits: Limits, fit: Fit
) -> str:
    """Return the report on a stage's compiled steps."""
    jax = importlib.metadata.version("jax")
    head = (
        f"Compiled, not run: {plan.name} for {machine.devices} x {machine.kind}, with XLA's GPU "
        f"compiler\n(jax {jax}); which algorithms are fastest was not measured"
    )
    parts = [head]
    for name, step in steps.items():
        batch = plan.batch if name == "train" else plan.evaluation_batch
        parts += [
            f"{_TITLES[name]}, {batch} images over all devices",
            _memory(name, steps, machine, fit),
            _operations(step, limits),
            _collectives(step, limits),
            _bound(name, step, batch, machine, limits),
        ]
    return "\n\n".join(part for part in parts if part)


def _memory(name: str, steps: Mapping[str, Compiled], machine: Machine, fit: Fit) -> str:
    step, limit = steps[name], fit.limit
    memory = step.memory
    rows = [
        ("arguments", memory.arguments, "parameters, optimizer's state, batch"),
        ("results", memory.outputs - memory.donated, "beyond the arguments they replace"),
        ("temporaries", memory.temporaries, "without library workspaces"),
        ("next batch", step.batch, "queued meanwhile"),
    ]
    told = verdict(fit)
    if name == "evaluation":
        rows[0] = ("arguments", memory.arguments, "parameters, batch")
        rows.append(("optimizer", fitting.state(steps["train"], step), "its state stays there"))
        excess = sum(size for _, size, _ in rows) - limit
        told = "It fits."
        if excess > 0:
            told = f"It does NOT fit: {excess / 1e9:.3f} GB too much; lower evaluation.batch_size."
    rows.append(
        (
            "all",
            sum(size for _, size, _ in rows),
            f"of {limit / 1e9:.3f} GB, {machine.usable:.0%} of the device's",
        )
    )
    cells = [(row, size / 1e9, note) for row, size, note in rows]
    return f"{tables.table(('memory of a device', 'GB', ''), cells, decimals=3)}\n{told}"


def verdict(fit: Fit) -> str:
    """Say whether the training step fits, and if not, what would."""
    if not fit.missing:
        return "It fits."
    lacks = f"It does NOT fit: {fit.missing / 1e9:.3f} GB too much"
    if fit.microbatches is None:
        return f"{lacks}, and no train.microbatches would fit."
    return f"{lacks}; train.microbatches={fit.microbatches} fits (compiled, too)."


def _operations(step: Compiled, limits: Limits) -> str:
    groups = roofline.of_program(step.program, limits).groups
    rows: list[tuple[str | float | None, ...]] = [
        (
            group.kind,
            group.times,
            group.flops / 1e9 if group.flops else None,
            group.bytes / 1e6,
            f"{1e3 * group.seconds:.3f}",
        )
        for group in groups
    ]
    rows.append(
        (
            "all",
            sum(group.times for group in groups),
            sum(group.flops for group in groups) / 1e9,
            sum(group.bytes for group in groups) / 1e6,
            f"{1e3 * sum(group.seconds for group in groups):.3f}",
        )
    )
    return tables.table(("operations of a device", "count", "GFLOP", "MB", "ms at least"), rows)


def _collectives(step: Compiled, limits: Limits) -> str:
    rows = [
        (
            each.kind,
            each.devices,
            each.times,
            each.bytes / 1e6,
            1e3 * each.sent / limits.link,
            1e3 * roofline.beside(each, limits),
            each.gradients_after,
        )
        for each in step.program.collectives
    ]
    if not rows:
        return ""
    columns = ("collective", "devices", "times", "MB", "ms", "ms beside it", "gradients after")
    return (
        f"{tables.table(columns, rows, decimals=3)}\n"
        "beside it: the operations scheduled between its start and its end; gradients after: how "
        "many\nof the convolutions' and products' gradients follow its start"
    )


def _bound(name: str, step: Compiled, batch: int, machine: Machine, limits: Limits) -> str:
    bound = roofline.of_program(step.program, limits)
    parts = ", ".join(
        f"{part} {1e3 * value:.3f} ms" for part, value in bound.parts.items() if value
    )
    decoding = batch / (machine.decoded * machine.cores)
    by = "decoding" if decoding > bound.seconds else bound.by
    return (
        f"At least {1e3 * bound.seconds:.3f} ms; limited by: {parts}.\n"
        f"Decoding {batch} images on {machine.cores} cores takes {1e3 * decoding:.3f} ms. "
        f"Bound by {by}."
    )


def data(steps: Mapping[str, Compiled], limits: Limits, fit: Fit) -> dict[str, Any]:
    """Return the same as JSON values, in bytes, seconds and FLOPs."""
    return {
        "is": "compiled, not run",
        "jax": importlib.metadata.version("jax"),
        "fits": not fit.missing,
        "fit": fit._asdict(),
        "steps": {name: _data(step, limits) for name, step in steps.items()},
    }


def _data(step: Compiled, limits: Limits) -> dict[str, Any]:
    bound = roofline.of_program(step.program, limits)
    return {
        "memory": {**step.memory._asdict(), "peak": step.memory.peak, "next_batch": step.batch},
        "operations": [group._asdict() for group in bound.groups],
        "collectives": [
            {
                "kind": each.kind,
                "devices": each.devices,
                "times": each.times,
                "bytes": each.bytes,
                "sent": each.sent,
                "seconds": each.sent / limits.link,
                "seconds_beside": roofline.beside(each, limits),
                "gradients_after": each.gradients_after,
            }
            for each in step.program.collectives
        ],
        "least_seconds": bound.seconds,
        "seconds_bound_by": bound.parts,
    }
