"""One run of the benchmark: everything is compiled, warmed up, and timed in turns."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from deepconv import compilation
from deepconv.benchmark import programs, report, streams, timing
from deepconv.benchmark.programs import Subject, Training
from deepconv.benchmark.report import Result
from deepconv.config import recipe
from deepconv.data.pipeline import Source
from deepconv.exceptions import UserError
from deepconv.models import summary
from deepconv.run import provenance
from deepconv.training.stage import mesh_for, open_dataset

COMPILE = {"forward": programs.compile_forward, "train": programs.compile_training}

# Given the subject and which of "forward" and "train" are timed, returns more contenders, named
# "train, ..." or "forward, ...".
Others = Callable[[Subject, Sequence[str]], Mapping[str, timing.Contender]]

# How jax and PyTorch report it.
OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "out of memory")

# Name of the matrix product among the contenders.
_PEAK = "matrix product"


class Request(NamedTuple):
    """What to measure, and how often.

    Attributes:
      config: see `config.schema.default`; for a recipe, the last stage is measured.
      what: any of "forward", "train", "input", "pipeline" and "compile", in this order.
      batch: images per step; None: the config's batch size.
      classes: number of classes, if no data set is opened.
      rounds: number of rounds, without the warm-up.
      steps: steps of each contender per round.
    """

    config: ConfigDict
    what: tuple[str, ...]
    batch: int | None
    classes: int
    rounds: int
    steps: int


def cores() -> int:
    """Return how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def measure(request: Request, others: Others | None = None) -> Result:
    """Measure, and return the values of the JSON file; `report.text` formats them as a table.

    Args:
      request: what to measure.
      others: makes contenders that take turns with ours.

    Raises:
      UserError: if the config, the batch or the data are invalid, or memory runs out.
    """
    config = recipe.stages(request.config)[-1].config
    if request.batch:
        config.train.batch_size = request.batch
    config.evaluation.batch_size = config.train.batch_size
    mesh = mesh_for(config)
    source, classes = None, request.classes
    if "input" in request.what:
        dataset = open_dataset(config)
        source, classes = dataset.train, len(dataset.class_names)
    try:
        subject = programs.prepare(config, num_classes=classes, mesh=mesh)
        return _measured(request, subject, source, others)
    except RuntimeError as error:
        if not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        raise UserError(
            f"batches of {config.train.batch_size} do not fit in memory: use a smaller --batch, or "
            "more --config.train.microbatches"
        ) from None


def _measured(
    request: Request, subject: Subject, source: Source | None, others: Others | None
) -> Result:
    config, mesh = subject.config, subject.mesh
    timed = [name for name in COMPILE if name in request.what]
    contenders = _ours(subject, request.what, source)
    if others:
        contenders |= others(subject, timed)
    runs = {name: contender.run for name, contender in contenders.items() if contender.run}
    side = programs.MATMUL_SIDE.get(jax.default_backend(), programs.LARGE_MATMUL_SIDE)
    if timed:
        runs[_PEAK] = programs.matmul(mesh, config.model.dtype, side)

    seconds = timing.alternate(runs, rounds=request.rounds, steps=request.steps)

    peak = 2 * side**3 * mesh.size / min(seconds[_PEAK]) if timed else None
    model = subject.functions.model
    work = summary.flops(summary.layer_table(model.layers, model.crop))
    per_image = {"forward": work.forward, "train": work.training}
    batch = config.train.batch_size
    lines = []
    for name, contender in contenders.items():
        thing, _, other = name.partition(", ")
        lines.append(
            report.line(
                name,
                batch=batch,
                seconds=seconds.get(name, ()),
                flops=batch * per_image[thing] if thing in per_image else None,
                peak=peak,
                memory=contender.memory,
                compile_seconds=contender.compile_seconds,
                ours=seconds[thing] if other else (),
            )
        )
    return {
        "network": config.model.name,
        "crop": config.model.crop,
        "classes": subject.classes,
        "batch": batch,
        "dtype": config.model.dtype,
        "devices": f"{mesh.size} x {mesh.devices.flat[0].device_kind}",
        "cores": cores(),
        "rounds": request.rounds,
        "steps": request.steps,
        "flops_per_image": work._asdict(),
        "matrix_side": side if timed else None,
        "peak_flops_per_second": peak,
        "lines": lines,
        "memory_is_of_the_device": bool(timed) and programs.device_peak(mesh) is not None,
        "pipeline_share": _pipeline_share(seconds),
        "settings": config.to_dict(),
        "compiler_options": compilation.compiler_options(jax.default_backend()),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "versions": provenance.versions(),
        "git_revision": provenance.git_revision(Path(__file__).parent),
    }


def _ours(
    subject: Subject, what: Sequence[str], source: Source | None
) -> dict[str, timing.Contender]:
    """Compile our contenders, and run a first step of those that are timed."""
    compiled = {
        name: make(subject) for name, make in COMPILE.items() if {name, "compile"} & {*what}
    }
    runs: dict[str, timing.Run] = {}
    training = Training(subject, compiled["train"]) if "train" in what else None
    if "forward" in what:
        runs["forward"] = programs.forward(subject, compiled["forward"], training)
    if training:
        runs["train"] = training
    contenders = {}
    for name, program in compiled.items():
        run, memory = runs.get(name), None
        if run:
            run(1)
            memory = programs.device_peak(subject.mesh)
        seconds = program.lower_seconds + program.compile_seconds
        contenders[name] = timing.Contender(run, seconds, memory or program.memory)
    if source is not None:
        config = subject.config
        contenders["input"] = timing.Contender(streams.host_input(config, source))
        if training and "pipeline" in what:
            pipeline = streams.into_training(config, source, training, subject.mesh)
            contenders["pipeline"] = timing.Contender(pipeline)
    return contenders


def _pipeline_share(seconds: Mapping[str, list[float]]) -> dict[str, float] | None:
    if "pipeline" not in seconds:
        return None
    shares = timing.shares_of_the_slower(seconds["pipeline"], seconds["input"], seconds["train"])
    return timing.spread(shares)._asdict()
