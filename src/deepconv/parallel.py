"""The mesh of devices and what lies where on it."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from deepconv.user_error import UserError

DATA_AXIS = "data"
MODEL_AXIS = "model"


def data_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """Return a mesh with the one axis `data` over these devices, by default all there are."""
    return Mesh(np.asarray(jax.devices() if devices is None else devices), (DATA_AXIS,))


def tower_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """Return a mesh with the axes `data` and `model`, the latter over pairs of these devices.

    Raises:
      UserError: if their number is odd.
    """
    devices = jax.devices() if devices is None else devices
    if len(devices) % 2:
        raise UserError(
            f"train.model_devices=2 needs an even number of devices: there are {len(devices)}"
        )
    return Mesh(np.asarray(devices).reshape(-1, 2), (DATA_AXIS, MODEL_AXIS))


def model_axis(mesh: Mesh) -> str | None:
    """Return the axis that a copy of the network is spread over, or None."""
    return MODEL_AXIS if MODEL_AXIS in mesh.axis_names else None


def check_batch_size(batch_size: int, mesh: Mesh, name: str) -> None:
    """Raise `UserError` unless the devices divide the batch."""
    shares = mesh.shape[DATA_AXIS]
    if batch_size < 1 or batch_size % shares:
        what = "devices" if model_axis(mesh) is None else "pairs of devices"
        raise UserError(f"{name}={batch_size} is not a positive multiple of the {shares} {what}")


def described(tree: Any, placement: Any) -> Any:
    """Describe arrays of the tree's shapes that lie as `placement`, a prefix of it, has them."""
    placement = jax.tree.broadcast(placement, tree)
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        tree,
        placement,
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of what every device of the mesh has whole."""
    return NamedSharding(mesh, P())


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Copy a tree of arrays to every device of the mesh."""
    return jax.device_put(tree, replicated(mesh))


def shard_batch(batch: Any, mesh: Mesh) -> Any:
    """Spread the examples of a batch over the devices.

    Args:
      batch: tree of numpy arrays, this process's rows `[n, ...]` of the global batch.
      mesh: the mesh.

    Returns:
      The same tree of global arrays `[N, ...]`, split along the first axis.
    """
    sharding = NamedSharding(mesh, P(DATA_AXIS))
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)
