"""The memory of one device."""

from typing import NamedTuple

from deepconv.plan import network
from deepconv.plan.network import FLOAT, Local

# The step's number and the three of the plateau schedule; see `training.state`.
STATE_SCALARS = 4 * 4
# label int32, mask bool, position uint32; see `training.step`.
EXAMPLE = 4 + 1 + 4
OFFSET = 2 * 4  # the crop's offset, int32; used by the step only if a mean image is subtracted


class Memory(NamedTuple):
    """Memory used by one device during training, in bytes.

    Attributes:
      parameters: float32.
      velocity: float32.
      gradients: float32; counted twice with microbatches (the sum, and one microbatch's own).
      casts: the parameters in the network's dtype, if it is not float32.
      batch: uint8 crops, labels, masks and positions.
      next_batch: the batch queued while this one is computed.
      scalars: the scalars of the train state.
      activations: estimate of what one microbatch keeps for the backward pass.
      passing: estimate of the backward pass's temporaries.
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
        """The sum of all parts."""
        return sum(self)

    @property
    def arguments(self) -> int:
        """Size of the compiled step's arguments: exact."""
        return self.parameters + self.velocity + self.batch + self.scalars

    @property
    def temporaries(self) -> int:
        """Size of the compiled step's temporaries: an estimate."""
        return self.gradients + self.casts + self.activations + self.passing


def needed(net: Local, *, examples: int, microbatches: int, mean_image: bool) -> Memory:
    """Count the memory that one device needs.

    Args:
      net: the network that the device runs.
      examples: number of the batch's examples on this device.
      microbatches: number of parts in which it processes them.
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
    """Return the fewest microbatches that fit into `limit` bytes, or None if none do."""
    for parts in range(1, examples + 1):
        if examples % parts == 0:
            memory = needed(net, examples=examples, microbatches=parts, mean_image=mean_image)
            if memory.total <= limit:
                return parts
    return None
