"""The memory of one device."""

from typing import NamedTuple

from deepconv.plan import network
from deepconv.plan.network import FLOAT, Local

# The step's number and the three of the plateau schedule; see `training.state`.
STATE_SCALARS = 4 * 4
# label int32, mask bool, position uint32; see `training.step`.
EXAMPLE = 4 + 1 + 4
OFFSET = 2 * 4  # int32, of the crop; the step reads it only where a mean image is subtracted


class Memory(NamedTuple):
    """What one device holds while it trains, in bytes.

    Attributes:
      parameters: float32.
      velocity: float32.
      gradients: float32; twice with microbatches, the sum and the part's own.
      casts: the parameters in the network's dtype, where that is another.
      batch: uint8 crops, labels and what goes with them.
      next_batch: the one that waits while this one is computed.
      scalars: of the train state.
      activations: estimate of what is kept for the backward pass, of one microbatch.
      passing: estimate of what the backward pass holds in passing.
    """

    parameters: int
    velocity: int
    gradients: int
    casts: int
    batch: int
    next_batch: int
    scalars: int
    activations: int
    passing: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)

    @property
    def arguments(self) -> int:
        """What the compiled step is given: exact."""
        return self.parameters + self.velocity + self.batch + self.scalars

    @property
    def temporaries(self) -> int:
        """What the compiled step takes besides: an estimate."""
        return self.gradients + self.casts + self.activations + self.passing


def needed(net: Local, *, examples: int, microbatches: int, mean_image: bool) -> Memory:
    """Count the memory of a device.

    Args:
      net: what it runs.
      examples: of the batch, on this device.
      microbatches: in how many parts it takes them.
      mean_image: whether a mean image is subtracted.
    """
    parameters = FLOAT * net.parameters
    batch = examples * (3 * net.crop**2 + EXAMPLE + (OFFSET if mean_image else 0))
    part = examples // microbatches
    return Memory(
        parameters=parameters,
        velocity=parameters,
        gradients=parameters * (2 if microbatches > 1 else 1),
        casts=net.itemsize * net.parameters if net.itemsize != FLOAT else 0,
        batch=batch,
        next_batch=batch,
        scalars=STATE_SCALARS,
        activations=part * network.kept(net),
        passing=part * network.passing(net),
    )


def fitting_microbatches(
    net: Local, *, examples: int, mean_image: bool, limit: float
) -> int | None:
    """Return the fewest microbatches that fit into `limit` bytes; None: none do."""
    for parts in range(1, examples + 1):
        if examples % parts == 0:
            memory = needed(net, examples=examples, microbatches=parts, mean_image=mean_image)
            if memory.total <= limit:
                return parts
    return None


class Sharding(NamedTuple):
    """What it would bring to keep the fully connected layers' velocity in parts (ZeRO stage 1).

    Each device updates its part alone: the all-reduce of these gradients becomes a reduce-scatter,
    and an all-gather of the new parameters follows, which together send what the all-reduce does.

    Attributes:
      saved: bytes of memory, on each device.
      examples: how many more of them its activations would have room for.
    """

    saved: int
    examples: int


def sharding(net: Local, data_devices: int) -> Sharding:
    """Count what a device would save with its copies' velocities shared out over the data axis."""
    saved = FLOAT * net.fully_connected * (data_devices - 1) // data_devices
    return Sharding(saved, saved // (network.kept(net) + network.passing(net)))
