"""One run of the benchmark: everything made, warmed up, and timed in turns."""

import importlib.metadata
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
from ml_collections import ConfigDict

from deepconv import compilation
from deepconv.benchmark import programs, report, streams, timing
from deepconv.benchmark.programs import Program, Subject, Training
from deepconv.benchmark.report import Result
from deepconv.config import recipe
from deepconv.data.pipeline import Source
from deepconv.exceptions import UserError
from deepconv.models import summary
from deepconv.run import provenance
from deepconv.training.stage import mesh_for, open_dataset

if TYPE_CHECKING:  # it imports PyTorch, which need not be there
    from deepconv.benchmark.torch_peer import Entrant

COMPILE = {"forward": programs.compile_forward, "train": programs.compile_training}

# What jax says, and what PyTorch says.
OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "out of memory")

# What the matrix product is called among the contenders.
_PEAK = "matrix product"


class Request(NamedTuple):
    """What is wanted.

    Attributes:
      config: see `config.default`; of a recipe, its last stage is measured.
      what: of "forward", "train", "input", "pipeline" and "compile", in this order.
      with_torch: whether PyTorch takes part.
      batch: images of a step; None: the config's.
      classes: of the network, unless data are opened.
      rounds: how many count.
      steps: of each contender in a round.
    """

    config: ConfigDict
    what: tuple[str, ...]
    with_torch: bool
    batch: int | None
    classes: int
    rounds: int
    steps: int


def cores() -> int:
    """Return how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def measure(request: Request) -> Result:
    """Measure; the values of the JSON file, which `report.text` makes a table.

    Raises:
      UserError: if the config, the batch or the data are wrong, or the memory is not enough.
    """
    config = recipe.stages(request.config)[-1].config
    if request.batch:
        config.train.batch_size = request.batch
    config.evaluation.batch_size = config.train.batch_size
    mesh = mesh_for(config)
    if request.with_torch and mesh.size > 1:
        raise UserError(
            f"--compare=torch compares on one device, and here are {mesh.size}: show one "
            "(CUDA_VISIBLE_DEVICES=0)"
        )
    source, classes = None, request.classes
    if "input" in request.what:
        dataset = open_dataset(config)
        source, classes = dataset.train, len(dataset.class_names)
    try:
        subject = programs.prepare(config, num_classes=classes, mesh=mesh)
        return _measured(request, subject, source)
    except RuntimeError as error:
        if not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        raise UserError(
            f"the memory does not hold batches of {config.train.batch_size}: try a smaller "
            "--batch, or --config.train.microbatches"
        ) from None


def _measured(request: Request, subject: Subject, source: Source | None) -> Result:
    config, mesh, what = subject.config, subject.mesh, request.what
    compiled = {
        name: make(subject) for name, make in COMPILE.items() if {name, "compile"} & {*what}
    }
    timed = [name for name in compiled if name in what]
    contenders, device_peaks = _ours(subject, compiled, what, source)
    entrants, failures = _torch(subject, timed) if request.with_torch else ({}, {})
    contenders |= {name: entrant.run for name, entrant in entrants.items()}
    side = programs.MATMUL_SIDE.get(jax.default_backend(), programs.LARGE_MATMUL_SIDE)
    if timed:
        contenders[_PEAK] = programs.matmul(mesh, config.model.dtype, side)

    seconds = timing.alternate(contenders, rounds=request.rounds, steps=request.steps)

    peak = 2 * side**3 * mesh.size / min(seconds[_PEAK]) if timed else None
    model = subject.functions.model
    work = summary.flops(summary.layer_table(model.layers, model.crop))
    per_image = {"forward": work.forward, "train": work.training}
    batch = config.train.batch_size
    names = dict.fromkeys([*compiled, *what, *entrants])
    lines = []
    for name in (name for name in names if name != "compile"):
        thing, _, mode = name.partition(", ")
        entrant, program = entrants.get(name), None if mode else compiled.get(name)
        memory = entrant.memory if entrant else device_peaks.get(name)
        compile_seconds = None
        if program:
            memory = memory or program.memory
            compile_seconds = program.lower_seconds + program.compile_seconds
        elif entrant and "compile" in mode:
            compile_seconds = entrant.first_seconds
        lines.append(
            report.line(
                name,
                batch=batch,
                seconds=seconds.get(name, ()),
                flops=batch * per_image[thing] if thing in per_image else None,
                peak=peak,
                memory=memory,
                compile_seconds=compile_seconds,
                ours=seconds[thing] if mode else (),
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
        "memory_is_of_the_device": bool(device_peaks),
        "fastest_of_torch": report.fastest_of_torch(seconds, timed),
        "pipeline_share": _pipeline_share(seconds),
        "not_measured": failures,
        "settings": config.to_dict(),
        "compiler_options": compilation.compiler_options(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "versions": provenance.versions() | (_torch_version() if request.with_torch else {}),
        "git_revision": provenance.git_revision(Path(__file__).parent),
    }


def _ours(
    subject: Subject,
    compiled: Mapping[str, Program],
    what: tuple[str, ...],
    source: Source | None,
) -> tuple[dict[str, timing.Run], dict[str, int]]:
    """Return our contenders, and the device's peak of memory after a first step of each."""
    contenders: dict[str, timing.Run] = {}
    training = Training(subject, compiled["train"]) if "train" in what else None
    if "forward" in what:
        contenders["forward"] = programs.forward(subject, compiled["forward"], training)
    if training:
        contenders["train"] = training
    peaks = {}
    for name, run in contenders.items():
        run(1)
        if (peak := programs.device_peak(subject.mesh)) is not None:
            peaks[name] = peak
    if source is not None:
        contenders["input"] = streams.host_input(subject.config, source)
        if training and "pipeline" in what:
            contenders["pipeline"] = streams.into_training(
                subject.config, source, training, subject.mesh
            )
    return contenders, peaks


def _torch(subject: Subject, timed: list[str]) -> tuple[dict[str, "Entrant"], dict[str, str]]:
    from deepconv.benchmark import torch_peer

    params = jax.device_get(subject.functions.initial_state().params)
    return torch_peer.enter(subject, params, timed, torch_peer.use_device(cores()))


def _torch_version() -> dict[str, str]:
    return {"torch": importlib.metadata.version("torch")}


def _pipeline_share(seconds: Mapping[str, list[float]]) -> dict[str, float] | None:
    if "pipeline" not in seconds:
        return None
    shares = timing.shares_of_the_slower(seconds["pipeline"], seconds["input"], seconds["train"])
    return timing.spread(shares)._asdict()
