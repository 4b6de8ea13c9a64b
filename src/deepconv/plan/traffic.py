"""What the devices send to each other in a step."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from deepconv.models.layers import Conv, Dropout
from deepconv.plan.network import FLOAT, Local, flows

Kind = Literal["all-reduce", "all-gather", "reduce-scatter"]

# The number of unmasked examples, the loss and the number of errors; see `training.step`.
METRICS = 3 * 4


class Collective(NamedTuple):
    """A collective operation.

    Attributes:
      kind: which operation.
      devices: number of devices that take part.
      bytes: size of the whole array.
      times: number of times per step.
    """

    kind: Kind
    devices: int
    bytes: int
    times: int = 1

    @property
    def sent(self) -> float:
        """Bytes that each device sends, and receives, per step with a ring algorithm.

        2 (n - 1) / n of the array for an all-reduce, half of that for a gather or a scatter.
        """
        rounds = 2 if self.kind == "all-reduce" else 1
        return self.times * rounds * (self.devices - 1) / self.devices * self.bytes


def gradients(net: Local, data_devices: int) -> list[Collective]:
    """Return the all-reduces at the end of a step: those of the gradients and of the metrics."""
    everyone = data_devices * net.model_devices
    own, shared = FLOAT * (net.parameters - net.shared), FLOAT * net.shared
    sums = [
        Collective("all-reduce", data_devices, own),
        Collective("all-reduce", everyone, shared + METRICS),
    ]
    return [each for each in sums if each.devices > 1 and each.bytes]


def gathers(net: Local, *, examples: int, microbatches: int) -> list[Collective]:
    """Return the exchanges between two towers: of maps in the forward pass, of gradients backward.

    Args:
      net: the network on one device.
      examples: number of the batch's examples on the device.
      microbatches: number of parts in which it processes them.
    """
    part = examples // microbatches
    wholes = [
        part * inputs * net.itemsize
        for layer, inputs, _ in flows(net)
        if isinstance(layer, Conv | Dropout) and layer.gather
    ]
    kinds: tuple[Kind, ...] = ("all-gather", "reduce-scatter")
    return [
        Collective(kind, net.model_devices, whole, microbatches)
        for whole in wholes
        for kind in kinds
    ]


def payload(collectives: Iterable[Collective]) -> int:
    """Return the total size of the arrays in a step, in bytes."""
    return sum(each.bytes * each.times for each in collectives)


def sent(collectives: Iterable[Collective]) -> float:
    """Return the bytes that each device sends per step."""
    return sum(each.sent for each in collectives)
