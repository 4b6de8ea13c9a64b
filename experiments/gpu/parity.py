"""A network's activations and one update, on the GPU in three precisions and on the CPU in float32.

Parameters, pixels, flips, color jitter and dropout masks are the same. The activations are those of
the evaluation, and the update is compared by its velocity, which rounding to the parameters' size
does not affect. `bounds` says how far they may differ.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from deepconv import parallel
from deepconv.benchmark import programs
from deepconv.config.schema import create_model
from experiments.gpu import bounds, networks
from experiments.gpu.report import markdown

SECONDS, LEAST = 330.0, 60.0


def cases(rehearse: bool) -> dict[str, dict[str, Any]]:
    """Return the arguments of each case."""
    return {
        name: {"network": name, "batch": 2 if rehearse else 4, "rehearse": rehearse}
        for name in networks.names(rehearse)
    }


def measure(network: str, batch: int, rehearse: bool) -> dict[str, Any]:
    """Compare one network's results in every precision with those of the CPU.

    Returns:
      By precision: `activations` and `update`, the errors by layer and by parameter with their
      `bounds`, and whether all are `within` them.
    """
    cpu, device = jax.devices("cpu")[0], jax.devices()[0]
    with jax.default_device(cpu), jax.default_matmul_precision("highest"):
        config = networks.load(network, rehearse=rehearse, batch=batch, precision="float32")
        start, expected = _results(config, networks.classes(network), cpu)
    found = {}
    for name, precision in networks.PRECISIONS.items():
        config = networks.load(network, rehearse=rehearse, batch=batch, precision=name)
        with jax.default_matmul_precision(precision.matmul):
            _, results = _results(config, networks.classes(network), device, start)
        found[name] = _compared(results, expected, _bounds(config, network, precision.roundoff))
    return found


def _bounds(config: Any, network: str, roundoff: float) -> bounds.Bounds:
    return bounds.bounds(create_model(config, networks.classes(network)), roundoff)


def _results(
    config: Any, classes: int, device: jax.Device, start: Any = None
) -> tuple[Any, dict[str, dict[str, np.ndarray]]]:
    """Return the initial state, its activations, and its velocity after one update."""
    subject = programs.prepare(config, num_classes=classes, mesh=parallel.data_mesh([device]))
    functions = subject.functions
    # Drawn once, since devices draw differently.
    start = jax.device_get(functions.initial_state()) if start is None else start
    state = jax.device_put(start, functions.placement)
    batch = {name: value for name, value in subject.batch.items() if name != "position"}
    activations = jax.device_get(functions.activations(state.params, batch))
    updated, _ = functions.train_step(state, subject.batch)
    velocity = jax.device_get(updated.opt_state)
    update = {
        f"{layer}/{part}": value
        for layer, parts in velocity.items()
        for part, value in parts.items()
    }
    return start, {"activations": activations, "update": update}


def _compared(
    found: dict[str, dict[str, np.ndarray]],
    expected: dict[str, dict[str, np.ndarray]],
    largest: bounds.Bounds,
) -> dict[str, Any]:
    errors = {
        kind: {name: bounds.error(found[kind][name], value) for name, value in arrays.items()}
        for kind, arrays in expected.items()
    }
    limits = {
        "activations": largest.activations,
        "update": dict.fromkeys(errors["update"], largest.update),
    }
    within = all(
        error <= limits[kind][name] for kind in errors for name, error in errors[kind].items()
    )
    return {**errors, "bounds": limits, "within": within}


def text(results: Mapping[str, Any]) -> str:
    """Return the errors that are the largest share of their bound."""
    rows = []
    for network, by_precision in results.items():
        for precision, one in by_precision.items():
            worst = [_worst(one[kind], one["bounds"][kind]) for kind in ("activations", "update")]
            rows.append((network, precision, *worst, "yes" if one["within"] else "NO"))
    columns = ("network", "precision", "activations: error / bound", "update: error / bound")
    return markdown((*columns, "within all bounds"), rows)


def _worst(errors: Mapping[str, float | None], limits: Mapping[str, float]) -> str:
    if bad := [name for name, error in errors.items() if error is None]:
        return f"{bad[0]}: not finite"
    name = max(errors, key=lambda name: (errors[name] or 0.0) / limits[name])
    return f"{name}: {errors[name]:.1e} / {limits[name]:.1e}"
