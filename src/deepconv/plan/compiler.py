"""Compile a config's steps for described GPUs with XLA's own compiler; no GPU is needed.

compiled = compile_steps(config, classes=1000, images=1_281_167, kind="h100", devices=8)
compiled["train"].memory.temporaries
compiled["train"].program.operations

The compiler runs in a process of its own: where it fails, it ends its process instead of raising an
error, and jax must look for no driver there.
"""

import importlib.metadata
import json
import logging
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from deepconv.exceptions import UserError
from deepconv.plan import program
from deepconv.plan.devices import target_config
from deepconv.plan.program import Program

_LOG = logging.getLogger(__name__)

STEPS = ("train", "evaluation")

_PLUGINS = ("jax-cuda12-plugin", "jax-cuda12-pjrt")
PACKAGES = (*_PLUGINS, "nvidia-cuda-nvcc-cu12")
# A host has up to this many devices.
_PER_HOST = 8


class Memory(NamedTuple):
    """Memory of a compiled program on one device, in bytes.

    Attributes:
      arguments: its arguments.
      outputs: its results.
      donated: the part of the arguments that the results reuse.
      temporaries: everything else, without the libraries' workspaces.
    """

    arguments: int
    outputs: int
    donated: int
    temporaries: int

    @property
    def peak(self) -> int:
        """What is in use at most while it runs."""
        return self.arguments + self.outputs - self.donated + self.temporaries


class Compiled(NamedTuple):
    """A compiled step.

    Attributes:
      memory: of one device.
      batch: bytes of its batch on one device, part of the arguments.
      program: what it executes.
    """

    memory: Memory
    batch: int
    program: Program


def check_installed() -> None:
    """Check that the compiler is installed, in the version of jax.

    Raises:
      UserError: if it is not.
    """
    wanted = importlib.metadata.version("jaxlib")
    if missing := [name for name in PACKAGES if not _version(name)]:
        exact = [f"{name}=={wanted}" if name in _PLUGINS else name for name in missing]
        raise UserError(
            f"--compile needs {', '.join(missing)} (the extra aot): pip install " + " ".join(exact)
        )
    for name in _PLUGINS:
        if (found := _version(name)) != wanted:
            raise UserError(
                f"{name} {found} does not fit jaxlib {wanted}: pip install "
                + " ".join(f"'{each}=={wanted}'" for each in _PLUGINS)
            )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def compile_steps(
    config: ConfigDict,
    *,
    classes: int,
    images: int,
    kind: str,
    devices: int,
    steps: Sequence[str] = STEPS,
) -> dict[str, Compiled]:
    """Compile a config's steps for a number of GPUs of a kind.

    Args:
      config: the checked config, of one stage.
      classes: outputs of the network.
      images: size of the training set.
      kind: kind of device.
      devices: number of devices.
      steps: which of `STEPS`.

    Returns:
      `{step: compiled}`.

    Raises:
      UserError: if the compiler is not installed, does not know the kind of device, or fails.
    """
    target = target_config(kind)
    check_installed()
    with tempfile.TemporaryDirectory() as folder:
        task = _Task(config, classes, images, kind, target, devices, tuple(steps), folder)
        parts = f", {n} microbatches" if (n := config.train.microbatches) > 1 else ""
        _LOG.info("compiling for %d x %s%s; this may take minutes", devices, kind, parts)
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "2"}
        process = subprocess.run(
            [sys.executable, "-m", "deepconv.plan.compiler"],
            input=pickle.dumps(task),
            capture_output=True,
            env=environment,
            check=False,
        )
        if process.returncode:
            raise UserError(failure(process.returncode, process.stderr.decode(errors="replace")))
        return {step: _read(Path(folder), step) for step in steps}


def _read(folder: Path, step: str) -> Compiled:
    sizes = json.loads((folder / f"{step}.json").read_text())
    text = (folder / f"{step}.txt").read_text()
    return Compiled(Memory(**sizes["memory"]), sizes["batch"], program.parse(text))


def failure(status: int, log: str) -> str:
    """Describe in one line why the compiler's process has failed."""
    # Without a driver, jax begins with notices.
    lines = [
        line for line in map(str.strip, log.splitlines()) if line and "cudart_stub" not in line
    ]
    memory = ("MemoryError", "bad_alloc", "Cannot allocate memory", "RESOURCE_EXHAUSTED")
    if status == -9 or any(word in line for line in lines for word in memory):
        return (
            "XLA's compiler has run out of memory, or was killed; it needs about 1 GB: free "
            "some, or compile on a larger machine"
        )
    told = next((line for line in reversed(lines) if "Error" in line), lines[-1] if lines else "")
    how = f"signal {-status}" if status < 0 else f"status {status}"
    return f"XLA's compiler has failed ({how}): {told or 'it said nothing'}"


class _Task(NamedTuple):
    config: ConfigDict
    classes: int
    images: int
    kind: str
    target: str
    devices: int
    steps: tuple[str, ...]
    folder: str


def _main() -> None:
    """Do a task, in the compiler's process: write each step's sizes and text into its folder."""
    task: _Task = pickle.load(sys.stdin.buffer)
    try:
        for step, (lowered, batch) in _lowered(task).items():
            compiled = lowered.compile(compiler_options=options())
            sizes = compiled.memory_analysis()
            memory = Memory(
                arguments=sizes.argument_size_in_bytes,
                outputs=sizes.output_size_in_bytes,
                donated=sizes.alias_size_in_bytes,
                temporaries=sizes.temp_size_in_bytes,
            )
            written = {"memory": memory._asdict(), "batch": batch}
            (Path(task.folder) / f"{step}.json").write_text(json.dumps(written))
            (Path(task.folder) / f"{step}.txt").write_text(compiled.as_text())
    except UserError as error:
        sys.exit(f"Error: {error}")


def options() -> dict[str, str]:
    """Return the compiler's options: where its tools are, and that nothing is to be timed."""
    import nvidia.cuda_nvcc

    (cuda,) = nvidia.cuda_nvcc.__path__
    return {"xla_gpu_cuda_data_dir": cuda, "xla_gpu_autotune_level": "0"}


def _lowered(task: _Task) -> dict[str, Any]:
    """Return `{step: (lowered step, bytes of a device's batch)}`."""
    import jax
    import numpy as np
    from jax.experimental import topologies

    from deepconv import parallel
    from deepconv.data.color import IMAGENET
    from deepconv.training.build import build

    config = task.config
    hosts = max(1, task.devices // _PER_HOST) if task.devices % _PER_HOST == 0 else 1
    topology = topologies.get_topology_desc(
        task.kind,
        platform="cuda",
        target_config=task.target,
        topology=f"1x{hosts}x{task.devices // hosts}",
    )
    towers = config.train.model_devices == 2
    mesh = (parallel.tower_mesh if towers else parallel.data_mesh)(list(topology.devices))
    side = config.evaluation.scale
    colors = IMAGENET._replace(mean_image=np.zeros((side, side, 3), np.float32))
    functions: Any = build(config, colors, num_classes=task.classes, images=task.images, mesh=mesh)
    state = parallel.described(jax.eval_shape(functions.initial_state), functions.placement)

    def batch(count: int) -> Any:
        shapes = _batch(config, count, task.classes)
        spec = jax.sharding.PartitionSpec(parallel.DATA_AXIS)
        return parallel.described(shapes, jax.sharding.NamedSharding(mesh, spec))

    def size(shapes: Any) -> int:
        whole = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes))
        return int(whole // mesh.shape[parallel.DATA_AXIS])

    lowered = {}
    if "train" in task.steps:
        given = batch(config.train.batch_size)
        lowered["train"] = functions.train_step.lower(state, given), size(given)
    if "evaluation" in task.steps:
        given = {k: v for k, v in batch(config.evaluation.batch_size).items() if k != "position"}
        lowered["evaluation"] = functions.eval_step.lower(state.params, given), size(given)
    return lowered


def _batch(config: ConfigDict, count: int, classes: int) -> Any:
    """Return the shapes of a training batch."""
    import jax
    import numpy as np

    from deepconv.data.decode import Crop
    from deepconv.training.build import task_of

    crop = config.model.crop
    record = {
        "label": 0,
        "labels": np.zeros(classes, np.int8),
        "boxes": np.array([[0.0, 0.0, 1.0, 1.0]]),
    }
    target = task_of(config).target.of(record, Crop(crop, crop, 0, 0, crop, crop))
    one = {
        "image": np.zeros((crop, crop, 3), np.uint8),
        "target": target,
        "mask": np.bool_(True),
        "offset": np.zeros(2, np.int32),
        "position": np.uint32(0),
    }
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), one)


if __name__ == "__main__":
    _main()
