"""How long a step takes, and what bounds it."""

from typing import NamedTuple


class Machine(NamedTuple):
    """What the devices can do.

    Attributes:
      kind: of the devices, a key of `devices.KINDS`.
      devices: how many.
      rate: FLOP/s of one device in training.
      rate_is: where that figure comes from, in words.
      measured: whether it was measured.
      memory: of one device, in bytes.
      usable: the share of it that jax takes.
      link: bytes a second that a device sends to the others.
      decoded: images a second that one core decodes and crops.
      cores: that decode, over all machines; None: as many as it takes.
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
    cores: int | None


class Step(NamedTuple):
    """The parts of a training step, in seconds.

    Attributes:
      computing: the network's arithmetic.
      exchanging: the towers' maps and their gradients; the next layer waits for them.
      reducing: the sum of the gradients over the devices.
      decoding: the next batch, meanwhile, on the host; 0 where the cores are not given.
      room: of the computing, behind which sums of gradients could hide.
    """

    computing: float
    exchanging: float
    reducing: float
    decoding: float
    room: float

    @property
    def seconds(self) -> float:
        """With the gradients summed after the backward pass, and decoding alongside."""
        return max(self.computing + self.exchanging + self.reducing, self.decoding)

    @property
    def overlapped(self) -> float:
        """With the gradients' sums hidden as far as there is room: the least that it can be."""
        hidden = min(self.reducing, self.room)
        return max(self.computing + self.exchanging + self.reducing - hidden, self.decoding)

    @property
    def bound(self) -> str:
        """What takes the longest."""
        parts = {
            "compute": self.computing,
            "the towers' exchange": self.exchanging,
            "all-reduce": self.reducing,
        }
        if self.decoding > sum(parts.values()):
            return "decoding"
        return max(parts, key=lambda name: parts[name])
