"""Our side of the benchmark: a config's own functions on random pixels, compiled without a cache.

subject = prepare(config, num_classes=1000, mesh=mesh)
program = compile_training(subject)
run = training(subject, program)
seconds = run(10)  # of one step
"""

import time
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from deepconv import parallel
from deepconv.benchmark.timing import Run
from deepconv.data import color
from deepconv.data.decode import Crop
from deepconv.training.build import Functions, build, task_of
from deepconv.training.step import Batch

# Side of the square matrices whose product measures the peak, by jax's platform name.
MATMUL_SIDE = {"cpu": 2048}
LARGE_MATMUL_SIDE = 8192

# Training set size: large enough that the learning rate does not drop during the benchmark.
_IMAGES = 1_000_000


class Subject(NamedTuple):
    """What is measured.

    Attributes:
      config: the checked config; everything uses its `train.batch_size`.
      classes: number of classes.
      functions: the config's functions, as in a run.
      colors: ImageNet's statistics, with a mean image in case the config subtracts one.
      pixels: the random training batch, on the host.
      batch: the same batch on the devices.
      mesh: the devices.
    """

    config: ConfigDict
    classes: int
    functions: Functions
    colors: color.ColorStatistics
    pixels: Batch
    batch: Batch
    mesh: Mesh


class Program(NamedTuple):
    """A compiled step.

    Attributes:
      call: the compiled function.
      lower_seconds: time to trace and lower it to StableHLO.
      compile_seconds: time to compile that, without a cache.
      memory: bytes of arguments, results and temporaries on one device, according to the compiler;
        None if it does not report them.
    """

    call: Any
    lower_seconds: float
    compile_seconds: float
    memory: int | None


def prepare(config: ConfigDict, *, num_classes: int, mesh: Mesh) -> Subject:
    """Build a config's functions, and draw a random batch for them.

    Args:
      config: the checked config.
      num_classes: number of classes.
      mesh: the devices, over which the batch is divided.

    Raises:
      UserError: as `build` does.
    """
    scale = config.evaluation.scale
    mean_image = np.broadcast_to(color.IMAGENET.mean_rgb, (scale, scale, 3)).astype(np.float32)
    colors = color.IMAGENET._replace(mean_image=mean_image)
    functions = build(config, colors, num_classes=num_classes, images=_IMAGES, mesh=mesh)
    pixels = _drawn(config, num_classes)
    batch = parallel.shard_batch(pixels, mesh)
    return Subject(config, num_classes, functions, colors, pixels, batch, mesh)


def _drawn(config: ConfigDict, num_classes: int) -> Batch:
    rng = np.random.default_rng(0)
    count, crop = config.train.batch_size, config.model.crop
    spare = min(config.evaluation.scale, config.input.scale[0]) - crop
    return {
        "image": rng.integers(0, 256, (count, crop, crop, 3), np.uint8),
        "target": _target(config, rng.integers(0, num_classes, count, np.int32)),
        "mask": np.ones(count, np.bool_),
        "offset": rng.integers(0, spare, (count, 2), np.int32, endpoint=True),
        "position": np.arange(count, dtype=np.uint32),
    }


def _target(config: ConfigDict, labels: np.ndarray) -> Batch:
    """Return the targets of a batch; the boxes, if there are any, are whole crops."""
    target = task_of(config).target
    crop = config.model.crop
    window = Crop(crop, crop, 0, 0, crop, crop)
    whole = np.array([[0.0, 0.0, 1.0, 1.0]])
    each = [target.of({"label": label, "boxes": whole}, window) for label in labels]
    return {name: np.stack([one[name] for one in each]) for name in each[0]}


def compile_training(subject: Subject) -> Program:
    """Compile the training step."""
    functions = subject.functions
    state = parallel.described(jax.eval_shape(functions.initial_state), functions.placement)
    return compiled(functions.train_step, state, subject.batch)


def compile_forward(subject: Subject) -> Program:
    """Compile the evaluation of a batch."""
    functions = subject.functions
    state = parallel.described(jax.eval_shape(functions.initial_state), functions.placement)
    return compiled(functions.eval_step, state.params, _without_position(subject.batch))


def compiled(function: Any, *arguments: Any) -> Program:
    """Lower and compile a jitted function for arguments, or descriptions of arguments."""
    start = time.perf_counter()
    lowered = function.lower(*arguments)
    lower_end = time.perf_counter()
    call = lowered.compile()
    end = time.perf_counter()
    return Program(call, lower_end - start, end - lower_end, _memory(call))


def _memory(call: Any) -> int | None:
    sizes = call.memory_analysis()
    if sizes is None:
        return None
    results = sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    total: int = sizes.argument_size_in_bytes + results + sizes.temp_size_in_bytes
    return total


def _without_position(batch: Batch) -> Batch:
    return {key: value for key, value in batch.items() if key != "position"}


class Training:
    """The training step of a run, with its state."""

    def __init__(self, subject: Subject, program: Program) -> None:
        self.state = subject.functions.initial_state()
        self.program, self.batch = program, subject.batch

    def step(self, batch: Batch) -> Any:
        """Run one update, and return its metrics without waiting for them."""
        self.state, metrics = self.program.call(self.state, batch)
        return metrics

    def __call__(self, steps: int) -> float:
        """Run updates on the random batch; see `timing.Run`."""
        jax.block_until_ready(self.state)
        start = time.perf_counter()
        for _ in range(steps):
            metrics = self.step(self.batch)
        jax.block_until_ready((self.state, metrics))
        return (time.perf_counter() - start) / steps


def forward(subject: Subject, program: Program, training: Training | None) -> Run:
    """Return a function that scores the random batch and counts its errors.

    Args:
      subject: what is measured.
      program: see `compile_forward`.
      training: whose parameters it shares, to keep a single copy; None: it has its own.
    """
    batch = _without_position(subject.batch)
    own = None if training else subject.functions.initial_state().params

    def run(steps: int) -> float:
        params = training.state.params if training else own
        jax.block_until_ready(params)
        start = time.perf_counter()
        counts = [program.call(params, batch) for _ in range(steps)]
        jax.block_until_ready(counts)
        return (time.perf_counter() - start) / steps

    return run


def matmul(mesh: Mesh, dtype: str, side: int) -> Run:
    """Return a function that multiplies square matrices on all devices; a step is one product.

    Args:
      mesh: the devices.
      dtype: dtype of the matrices.
      side: side of the matrices; a step is 2 side^3 FLOPs on each device.
    """
    everywhere = P(mesh.axis_names)
    product = jax.jit(
        jax.shard_map(
            lambda a, b: (a[0] @ b[0])[None],
            mesh=mesh,
            in_specs=(everywhere, everywhere),
            out_specs=everywhere,
        )
    )
    sharding = jax.sharding.NamedSharding(mesh, everywhere)
    # Random numbers: a GPU multiplies constants at less power and therefore faster.
    shape = (mesh.size, side, side)
    key = jax.random.key(0, impl="rbg")
    factor = jax.jit(
        lambda: jax.random.normal(key, shape, dtype=dtype) / side**0.5, out_shardings=sharding
    )()

    def run(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            last = product(factor, factor)
        jax.block_until_ready(last)
        return (time.perf_counter() - start) / steps

    return run


def device_peak(mesh: Mesh) -> int | None:
    """Return the peak memory of any device so far, in bytes; None if devices do not report it."""
    statistics = [device.memory_stats() for device in mesh.local_devices]
    if not all(statistics):
        return None
    peak: int = max(each["peak_bytes_in_use"] for each in statistics)
    return peak
