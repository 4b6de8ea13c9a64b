"""How long a step takes, and what limits it."""

from typing import NamedTuple


class Machine(NamedTuple):
    """The devices and their speed.

    Attributes:
      kind: kind of the devices, a key of `devices.KINDS`.
      devices: number of devices.
      rate: FLOP/s of one device in training.
      rate_is: where that figure comes from, in words.
      measured: whether it was measured.
      memory: memory of one device, in bytes.
      usable: the share of it that jax uses.
      link: bytes per second that a device sends to the others.
      decoded: images per second that one core decodes and crops.
      cores: number of cores that decode, over all machines.
      cores_are: where that figure comes from, in words.
    """

    kind: str
    devices: int
    rate: float
    rate_is: str
    measured: bool
    memory: float
    usable: float
    link: float
    decoded: float
    cores: int
    cores_are: str


class Step(NamedTuple):
    """The parts of a training step, in seconds.

    Attributes:
      computing: the network's arithmetic.
      exchanging: exchange of the towers' maps and their gradients, which blocks the next layer.
      reducing: all-reduce of the gradients.
      decoding: decoding the next batch on the host, in parallel.
    """

    computing: float
    exchanging: float
    reducing: float
    decoding: float

    @property
    def seconds(self) -> float:
        """Without overlap of the all-reduce with the backward pass; decoding runs in parallel."""
        return max(self.computing + self.exchanging + self.reducing, self.decoding)

    @property
    def bound(self) -> str:
        """The part that takes the longest."""
        parts = {
            "compute": self.computing,
            "tower exchange": self.exchanging,
            "all-reduce": self.reducing,
        }
        if self.decoding > sum(parts.values()):
            return "decoding"
        return max(parts, key=lambda name: parts[name])
