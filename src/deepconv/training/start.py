"""Parameters from one network to another, by the names of layers.

plan = plan_transfer(shapes_of(params), shapes_of(source), r"conv1_1|fc6")
params = transfer(params, restored, plan)
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

Shapes = Mapping[str, Mapping[str, tuple[int, ...]]]


class Plan(NamedTuple):
    """What becomes of each layer.

    Attributes:
      copied: layers of the new network that take the source's parameters.
      random: its other layers.
      skipped: layers of the source that are not used.
    """

    copied: tuple[str, ...]
    random: tuple[str, ...]
    skipped: tuple[str, ...]


def shapes_of(params: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the shapes of a tree of parameters `{layer: {"kernel": ..., "bias": ...}}`."""
    return {
        layer: {name: tuple(leaf.shape) for name, leaf in leaves.items()}
        for layer, leaves in params.items()
    }


def plan_transfer(target: Shapes, source: Shapes, layers: str) -> Plan:
    """Decide which layers are copied.

    Args:
      target: shapes of the new network's parameters.
      source: shapes of the source's.
      layers: regular expression on the whole names of the layers to copy.

    Raises:
      ValueError: if the expression selects a layer that the source lacks or has in another shape,
        or no layer at all; the message names it, and the shapes.
    """
    wanted = [name for name in target if re.fullmatch(layers, name)]
    if not wanted:
        raise ValueError(f"init.layers={layers!r} selects no layer of {', '.join(target)}")
    for name in wanted:
        if name not in source:
            raise ValueError(f"the source has no layer {name}; it has {', '.join(source)}")
        if source[name] != target[name]:
            raise ValueError(
                f"layer {name} is {_describe(source[name])} in the source and "
                f"{_describe(target[name])} here"
            )
    return Plan(
        copied=tuple(wanted),
        random=tuple(name for name in target if name not in wanted),
        skipped=tuple(name for name in source if name not in wanted),
    )


def transfer(params: Mapping[str, Any], source: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """Return the parameters with the planned layers taken from the source, unchanged otherwise."""
    return {name: source[name] if name in plan.copied else params[name] for name in params}


def report(plan: Plan, target: Shapes, source: Shapes) -> list[tuple[str, str, str]]:
    """Return a row (layer, what becomes of it, shape of its kernel) for every layer of both."""
    rows = [
        (name, "copied" if name in plan.copied else "random", _describe(shapes))
        for name, shapes in target.items()
    ]
    return rows + [(name, "skipped", _describe(source[name])) for name in plan.skipped]


def _describe(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return "x".join(map(str, shapes["kernel"]))
