"""The least time that a device's arithmetic, memory and links allow for a compiled program.

bound = of_program(compiled.program, Limits(peaks, bandwidth, link))
bound.seconds, bound.parts

A matrix operation (a convolution or product) takes at least its FLOPs at the matrix peak and its
bytes at the memory's bandwidth, everything else its bytes. Caches, launches and the library's
choice of algorithms are left out, so that a real step takes longer.
"""

import typing
from typing import NamedTuple

from deepconv.plan import devices, program
from deepconv.plan.program import Collective, Operation, Program

ARITHMETIC, MEMORY, LINK = "arithmetic", "memory bandwidth", "collectives"

# XLA's names of the types in which a matrix product's operands are multiplied.
_DTYPES = {"f32": devices.FLOAT32, "bf16": devices.BFLOAT16}


class Limits(NamedTuple):
    """What one device can do at most.

    Attributes:
      peaks: FLOP/s of matrix products by precision, see `devices.Device`.
      bandwidth: bytes per second to and from its memory.
      link: bytes per second that it sends to the others.
    """

    peaks: dict[str, float]
    bandwidth: float
    link: float


class Group(NamedTuple):
    """The operations of one kind.

    Attributes:
      kind: see `program.Kind`.
      times: number of operations executed.
      flops: their FLOPs, if they are matrix operations.
      bytes: what they read and write.
      seconds: the least time for them.
    """

    kind: str
    times: int
    flops: int
    bytes: int
    seconds: float


class Bound(NamedTuple):
    """The least time of a program on one device.

    Attributes:
      groups: the operations by kind; kinds that do not occur are left out.
      parts: seconds by what bounds them; of the collectives, what is not hidden.
    """

    groups: tuple[Group, ...]
    parts: dict[str, float]

    @property
    def seconds(self) -> float:
        """The least time of all."""
        return sum(self.parts.values())

    @property
    def by(self) -> str:
        """What takes the largest part."""
        return max(self.parts, key=lambda name: self.parts[name])


def of_program(compiled: Program, limits: Limits) -> Bound:
    """Return the least time of a compiled program."""
    groups = []
    for kind in typing.get_args(program.Kind):
        of_kind = [each for each in compiled.operations if each.kind == kind]
        if of_kind:
            groups.append(
                Group(
                    kind=kind,
                    times=sum(each.times for each in of_kind),
                    flops=sum(each.times * each.flops for each in of_kind),
                    bytes=sum(each.times * each.bytes for each in of_kind),
                    seconds=sum(seconds(each, limits) for each in of_kind),
                )
            )
    parts = {ARITHMETIC: 0.0, MEMORY: 0.0}
    for each in compiled.operations:
        computing, moving = _times(each, limits)
        parts[ARITHMETIC if computing > moving else MEMORY] += each.times * max(computing, moving)
    parts[LINK] = sum(each.times * exposed(each, limits) for each in compiled.collectives)
    return Bound(tuple(groups), parts)


def seconds(operation: Operation, limits: Limits) -> float:
    """Return the least time of an operation, as often as it is executed."""
    return operation.times * max(_times(operation, limits))


def beside(collective: Collective, limits: Limits) -> float:
    """Return the least time of the operations that can run during a collective, each time."""
    return sum(seconds(each, limits) for each in collective.beside) / collective.times


def exposed(collective: Collective, limits: Limits) -> float:
    """Return the part of a collective's time in which nothing else is scheduled."""
    return max(0.0, collective.sent / limits.link - beside(collective, limits))


def _times(operation: Operation, limits: Limits) -> tuple[float, float]:
    moving = operation.bytes / limits.bandwidth
    if not operation.flops:
        return 0.0, moving
    dtype = _DTYPES.get(operation.dtype, devices.FLOAT32)
    return operation.flops / limits.peaks[devices.arithmetic(limits.peaks, dtype)], moving
