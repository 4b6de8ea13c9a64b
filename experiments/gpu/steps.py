"""Training and evaluation steps of every network, precision and batch size; their memory.

Each case is `deepconv benchmark --what=train,forward` in a process of its own, so that the peak
memory of the device is that of the case. The peak of the arithmetic is that of a matrix product in
the case's precision. The first batch size of all networks comes before the second.
"""

from collections.abc import Mapping
from typing import Any

import jax

from deepconv.benchmark import session
from deepconv.benchmark.report import PROGRAM_MEMORY
from experiments.gpu import networks, planned
from experiments.gpu.report import markdown

SECONDS, LEAST = 390.0, 25.0

# By the beginning of the network's name, the most important first.
BATCHES = {"vgg": (64, 256, 16), "alexnet": (256, 1024, 64), "cifar10": (128, 1024, 4096)}
REHEARSED = 8


def cases(rehearse: bool) -> dict[str, dict[str, Any]]:
    """Return the arguments of each case."""
    found = {}
    for index in range(1 if rehearse else 3):
        for precision in networks.PRECISIONS:
            for name in networks.names(rehearse):
                kind = next(kind for kind in BATCHES if name.startswith(kind))
                batch = REHEARSED if rehearse else BATCHES[kind][index]
                found[f"{name}, {precision}, {batch}"] = {
                    "network": name,
                    "precision": precision,
                    "batch": batch,
                    "rehearse": rehearse,
                }
    return found


def measure(network: str, precision: str, batch: int, rehearse: bool) -> dict[str, Any]:
    """Time one case; see `session.measure`.

    Returns:
      Its result, with the `precision` and the `planned_bytes` of the training step.

    Raises:
      UserError: if the batch does not fit in memory.
    """
    config = networks.load(network, rehearse=rehearse, batch=batch, precision=precision)
    classes = networks.classes(network)
    # Compilation is timed.
    jax.config.update("jax_enable_compilation_cache", False)
    request = session.Request(
        config=config,
        what=("forward", "train"),
        batch=batch,
        classes=classes,
        rounds=2 if rehearse else 3,
        steps=2 if rehearse else 10,
    )
    with jax.default_matmul_precision(networks.PRECISIONS[precision].matmul):
        result = session.measure(request)
    return {
        **result,
        "precision": precision,
        "planned_bytes": planned.training_bytes(config, classes),
    }


def text(results: Mapping[str, Any]) -> str:
    """Return a table of times, and one of memory."""
    times, memory = [], []
    of_device = all(result["memory_is_of_the_device"] for result in results.values())
    for result in results.values():
        lines = {line["name"]: line for line in result["lines"]}
        name = (result["network"], result["precision"], str(result["batch"]))
        cells: list[str | float | None] = []
        for what in ("train", "forward"):
            line = lines[what]
            share = line["share_of_peak"]
            cells += [1e3 * line["seconds"]["median"], line["images_per_second"], f"{share:.1%}"]
        compiling = sum(line["compile_seconds"] for line in lines.values())
        times.append((*name, *cells, result["peak_flops_per_second"] / 1e12, compiling))
        measured, plan = lines["train"]["memory_bytes"], result["planned_bytes"]
        if measured:
            memory.append((*name, measured / 1e9, plan / 1e9, measured / plan))
    case = ("network", "precision", "batch")
    units = ("ms", "images/s", "of the peak")
    columns = [f"{what}, {unit}" for what in ("train", "forward") for unit in units]
    tables = [
        markdown((*case, *columns, "peak, TFLOP/s", "compiling both, s"), times),
        markdown((*case, "memory of training, GB", "planned, GB", "ratio"), memory),
        "memory: " + ("the peak of the device" if of_device else PROGRAM_MEMORY),
    ]
    return "\n\n".join(tables)
