"""The mesh of devices, the placement of arrays on it, and the processes that share it."""

import collections
import importlib.util
import itertools
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Self, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from deepconv.exceptions import INTERRUPTED, UserError

T = TypeVar("T")

DATA_AXIS = "data"
MODEL_AXIS = "model"

# A process without a heartbeat for this long is considered dead, and the others exit.
HEARTBEAT_SECONDS = 60

# Parts of the error messages of the collectives' transports and of jax's coordination service when
# another process is lost.
_LOST = ("Gloo", "NCCL", "RCCL", "CoordinationService", "UNAVAILABLE", "Connection closed by peer")

# jax's sync points need increasing numbers across all stages of a recipe.
_asked = itertools.count(1)


def data_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """Return a mesh with the single axis `data` over these devices, by default all."""
    return Mesh(np.asarray(jax.devices() if devices is None else devices), (DATA_AXIS,))


def tower_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """Return a mesh with the axes `data` and `model`, the latter over pairs of these devices.

    Raises:
      UserError: if a process has an odd number of them.
    """
    devices = jax.devices() if devices is None else devices
    by_process = collections.Counter(device.process_index for device in devices)
    if odd := [number for number in by_process.values() if number % 2]:
        raise UserError(
            f"train.model_devices=2 needs an even number of devices in each process, not {odd[0]}"
        )
    return Mesh(np.asarray(devices).reshape(-1, 2), (DATA_AXIS, MODEL_AXIS))


def model_axis(mesh: Mesh | AbstractMesh) -> str | None:
    """Return the axis over which a copy of the network is split, or None."""
    return MODEL_AXIS if MODEL_AXIS in mesh.axis_names else None


def check_batch_size(
    batch_size: int, mesh: Mesh | AbstractMesh, name: str, microbatches: int = 1
) -> None:
    """Raise `UserError` unless every microbatch divides evenly among the devices."""
    shares = mesh.shape[DATA_AXIS]
    if batch_size < 1 or batch_size % (shares * microbatches):
        what = "devices" if model_axis(mesh) is None else "pairs of devices"
        parts = f" times {microbatches} microbatches" if microbatches > 1 else ""
        raise UserError(
            f"{name}={batch_size} is not a positive multiple of the {shares} {what}{parts}"
        )


def described(tree: Any, placement: Any) -> Any:
    """Return `jax.ShapeDtypeStruct`s for a tree's arrays with shardings from a prefix tree."""
    placement = jax.tree.broadcast(placement, tree)
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        tree,
        placement,
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding that gives every device of the mesh a full copy."""
    return NamedSharding(mesh, P())


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Copy a tree of arrays to every device of the mesh."""
    return jax.device_put(tree, replicated(mesh))


def shard_batch(batch: Any, mesh: Mesh) -> Any:
    """Distribute the examples of a batch over the devices.

    Args:
      batch: tree of NumPy arrays, this process's rows `[n, ...]` of the global batch.
      mesh: the mesh.

    Returns:
      The same tree of global arrays `[N, ...]`, split along the first axis.
    """
    sharding = NamedSharding(mesh, P(DATA_AXIS))
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def to_host(array: Any) -> np.ndarray:
    """Return a whole array on the host; if it is distributed, all processes must call this."""
    if isinstance(array, jax.Array) and not (
        array.is_fully_addressable or array.is_fully_replicated
    ):
        return np.asarray(multihost_utils.process_allgather(array, tiled=True))
    return np.asarray(array)


def start(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Join the other processes of a run, if any. Call this before using jax.

    SLURM, Open MPI, Kubernetes indexed jobs and TPU pods are detected; elsewhere all three
    arguments are required.

    Args:
      coordinator: HOST:PORT of process 0, or None.
      num_processes: number of processes, or None; 1 disables detection.
      process_id: number of this process, from 0, or None.

    Raises:
      UserError: if an argument is missing or invalid, or the others cannot be reached.
    """
    if num_processes == 1:
        return
    method: str | None = "deactivate"
    if (coordinator, num_processes, process_id) == (None, None, None):
        launcher = _launcher(os.environ)
        if launcher is None:
            return
        method = None
    else:
        launcher = coordinator
        if coordinator is None or num_processes is None or process_id is None:
            raise UserError(
                "--coordinator, --num_processes and --process_id must be given together"
            )
        if not coordinator.rpartition(":")[2].isdecimal():
            raise UserError(f"--coordinator={coordinator} is not HOST:PORT")
        if not 0 <= process_id < num_processes:
            raise UserError(
                f"--process_id={process_id} is not in 0..{num_processes - 1} "
                f"(--num_processes={num_processes})"
            )
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            cluster_detection_method=method,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except Exception as error:  # jax, gRPC and Kubernetes' client each raise their own types
        reason = (str(error) or type(error).__name__).splitlines()[0][:300]
        raise UserError(f"cannot join the other processes ({launcher}): {reason}") from None
    if not is_first():
        logging.getLogger("deepconv").setLevel(logging.ERROR)


def _launcher(environment: Mapping[str, str]) -> str | None:
    """Return the launcher that started this process as one of several, or None.

    Not left to jax, whose own detection warns on a single machine of a cluster and may query cloud
    servers for minutes.

    Raises:
      UserError: if the process is one of several, but jax cannot learn of the others.
    """

    def several(variable: str) -> bool:
        return int(environment.get(variable, 1)) > 1

    if "SLURM_STEP_NODELIST" in environment and several("SLURM_NTASKS"):
        return "SLURM"
    if several("OMPI_COMM_WORLD_SIZE"):
        if "OMPI_MCA_orte_hnp_uri" not in environment:  # from version 5 on
            raise UserError(
                "this version of Open MPI does not report where process 0 runs; pass "
                "--coordinator=HOST:PORT "
                "--num_processes=$OMPI_COMM_WORLD_SIZE --process_id=$OMPI_COMM_WORLD_RANK"
            )
        return "Open MPI"
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        if importlib.util.find_spec("kubernetes") is None:
            raise UserError(
                "this is a pod of a Kubernetes indexed job: pip install 'jax[k8s]' to find the "
                "other pods, or pass --coordinator, --num_processes and --process_id (or "
                "--num_processes=1)"
            )
        return "Kubernetes"
    chips = [*Path("/dev").glob("accel[0-9]*"), *Path("/dev").glob("vfio/[0-9]*")]
    if importlib.util.find_spec("libtpu") and chips and environment.get("JAX_PLATFORMS") != "cpu":
        return "TPU"
    return None


def is_first() -> bool:
    """Return whether this is process 0, which writes logs and messages."""
    return jax.process_index() == 0


def gather(value: T) -> list[T]:
    """Return the values passed by all processes, in order; if several, they must be JSON values.

    All processes must call it, in the same order relative to other collectives.
    """
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.int32(len(text)))
    # Each distinct shape is compiled, so round up to keep them few.
    padded = np.zeros(256 * -(-int(lengths.max()) // 256), np.uint8)
    padded[: len(text)] = text
    texts = multihost_utils.process_allgather(padded)
    pairs = zip(texts, lengths.ravel(), strict=True)
    return [json.loads(row[:length].tobytes()) for row, length in pairs]


def on_first(call: Callable[[], T]) -> T:
    """Call on process 0 only; all processes return its result, or raise its `UserError`."""
    outcome: dict[str, Any] = {}
    if is_first():
        try:
            outcome = {"value": call()}
        except UserError as error:
            outcome = {"error": str(error)}
    outcome = gather(outcome)[0]
    if "error" in outcome:
        raise UserError(outcome["error"])
    value: T = outcome["value"]
    return value


def first_then_all(call: Callable[[], T]) -> T:
    """Call on process 0, then on the others, which use the files that it wrote.

    If any process raises a `UserError`, all of them do.
    """
    results: list[T] = []
    on_first(lambda: results.append(call()))
    error = None
    if not results:
        try:
            results.append(call())
        except UserError as raised:
            error = str(raised)
    for process, message in enumerate(gather(error)):
        if message is not None:
            raise UserError(f"process {process}: {message}")
    return results[0]


def tells_of_a_lost_process(error: BaseException) -> bool:
    """Return whether an error means that another process of the run was lost."""
    return jax.process_count() > 1 and any(word in str(error) for word in _LOST)


class Preemption:
    """A context manager that notices when the run should stop: SIGTERM, or SIGINT (Ctrl-C).

    All processes of a run stop at the same step, whichever of them gets the signal. A second
    SIGINT, or one before the first step, ends this process immediately.
    """

    def __init__(self, lost: Callable[[], str]) -> None:
        """Prepare to handle signals.

        Args:
          lost: returns what is lost if this process ends immediately; called from another thread.
        """
        self._lost = lost
        self._noted: int | None = None
        self._stepped = False
        # With several processes, jax's own service handles SIGTERM.
        handled = [signal.SIGINT] if jax.process_count() > 1 else [signal.SIGINT, signal.SIGTERM]
        if threading.current_thread() is not threading.main_thread():
            handled = []
        # Signals that are ignored at the start stay ignored, as in a script's background jobs.
        self._handled = [n for n in handled if signal.getsignal(n) is not signal.SIG_IGN]

    def reached(self) -> bool:
        """Return whether to stop now, after a step; with several processes, all must call it."""
        self._stepped = True
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(next(_asked))
        return self._noted is not None

    def told(self) -> signal.Signals | None:
        """Return a signal that one of the processes has received; all must call it together.

        It does not report SIGTERM with several processes, which only jax's service sees.
        """
        noted = [number for number in gather(self._noted) if number is not None]
        return signal.Signals(noted[0]) if noted else None

    def _note(self, number: int, _: FrameType | None) -> None:
        self._noted = self._noted or number
        if jax.process_count() > 1:
            signal.raise_signal(signal.SIGTERM)  # jax's service notifies the other processes

    def _answer(self, signals: int) -> None:
        """Respond to each SIGINT immediately, whatever the main thread is waiting for.

        Args:
          signals: pipe to which Python writes the number of each signal; closed at the end.
        """
        answered = False
        while number := os.read(signals, 1):
            if number[0] != signal.SIGINT:
                continue
            if answered or not self._stepped:
                try:
                    print(f"deepconv: stopped: {self._lost()}", file=sys.stderr, flush=True)
                finally:
                    os._exit(INTERRUPTED)
            answered = True
            print(
                "deepconv: saving, then stopping; press Ctrl-C again to stop immediately",
                file=sys.stderr,
                flush=True,
            )
        os.close(signals)

    def __enter__(self) -> Self:
        if self._handled:
            signals, self._wakeup = os.pipe()
            os.set_blocking(self._wakeup, False)
            self._thread = threading.Thread(target=self._answer, args=[signals], daemon=True)
            self._thread.start()
            self._earlier_wakeup = signal.set_wakeup_fd(self._wakeup)
            self._earlier = {number: signal.signal(number, self._note) for number in self._handled}
        return self

    def __exit__(self, *_: object) -> None:
        if self._handled:
            for number, handler in self._earlier.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._earlier_wakeup)
            os.close(self._wakeup)
            self._thread.join()
