"""What a compiled program executes, from its text in XLA's notation.

program = parse(compiled.as_text())
program.operations      # in the order in which they are scheduled
program.collectives

Counts, shapes and the schedule are facts of the compilation. Bytes are what each operation has to
read and write at least: its results, and of each operand the part that it uses.
"""

import math
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from deepconv.plan import hlo
from deepconv.plan.hlo import Computations, Line, dtype_of, elements, size_in_bytes, sizes

Kind = Literal[
    "convolution, bias, ReLU",
    "convolution, bias",
    "convolution",
    "input gradient",
    "kernel gradient",
    "product",
    "max-pooling",
    "LRN",
    "max-pooling and LRN",
    "transpose",
    "copy",
    "cast",
    "reduction",
    "other",
    "collective",
]

FORWARD: tuple[Kind, ...] = ("convolution, bias, ReLU", "convolution, bias", "convolution")
MATRIX: tuple[Kind, ...] = (*FORWARD, "input gradient", "kernel gradient", "product")

# Scopes that `models.layers` names, in the metadata of what they became.
_POOLING, _LRN = "max_pool", "local_response_norm"

_COLLECTIVES = (
    "all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all",
    "collective-broadcast",
)  # fmt: skip

# Opcodes that execute nothing.
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "replica-id", "opt-barrier", "add-dependency",
}  # fmt: skip
# Opcodes that move values without arithmetic.
_MOVES = _FREE | {
    "copy", "slice", "dynamic-slice", "dynamic-update-slice", "concatenate", "pad", "reshape",
    "broadcast", "reverse", "convert", "transpose", "fusion",
}  # fmt: skip


class Operation(NamedTuple):
    """An operation, as executed by every device.

    Attributes:
      name: its name in the text.
      kind: what it is.
      source: the operation in the program's source that it, or its last part, comes from.
      result: types of its results.
      dtype: type of the operands of a convolution or product, else "".
      flops: FLOPs of convolutions and products, including taps on padding; 0 for the rest.
      bytes: read and written, each time.
      times: how often it is executed; more than once in a loop over microbatches.
    """

    name: str
    kind: Kind
    source: str
    result: str
    dtype: str
    flops: int
    bytes: int
    times: int

    @property
    def backward(self) -> bool:
        """Whether it belongs to the backward pass."""
        return "transpose(jvp" in self.source


class Collective(NamedTuple):
    """A collective operation.

    Attributes:
      name: its name in the text.
      kind: `all-reduce`, `all-gather`, ...
      devices: number of devices that take part.
      bytes: size of the whole arrays.
      times: how often it is executed.
      beside: the operations scheduled between its start and its end, which can run meanwhile.
      gradients_after: number of gradients of convolutions and matrix products that are scheduled
        after its start; 0 if it starts when the backward pass is over.
    """

    name: str
    kind: str
    devices: int
    bytes: int
    times: int
    beside: tuple[Operation, ...]
    gradients_after: int

    @property
    def sent(self) -> float:
        """Bytes that each device sends with a ring algorithm, each time."""
        rounds = 2 if self.kind == "all-reduce" else 1
        return rounds * (self.devices - 1) / self.devices * self.bytes


class Program(NamedTuple):
    """A compiled program.

    Attributes:
      operations: all operations that are no collectives, in the order of the schedule.
      collectives: likewise.
    """

    operations: tuple[Operation, ...]
    collectives: tuple[Collective, ...]


def parse(text: str) -> Program:
    """Return what a compiled program executes.

    Args:
      text: of the whole module, as `compiled.as_text()` returns it.

    Raises:
      ValueError: if the text has no entry computation.
    """
    computations, entry = hlo.read(text)
    operations: list[Operation] = []
    collectives: list[Collective] = []
    _walk(computations, entry, 1, operations, collectives)
    return Program(tuple(operations), tuple(collectives))


def _walk(
    computations: Computations,
    name: str,
    times: int,
    operations: list[Operation],
    collectives: list[Collective],
) -> None:
    """Append what a computation executes, with what it calls."""
    lines = computations[name]
    started: dict[str, int] = {}  # the number of operations when a collective starts ...
    finished: dict[str, int] = {}  # ... and when it is waited for
    for line in lines.values():
        base = line.opcode.removesuffix("-start").removesuffix("-done")
        if base in _COLLECTIVES:
            if line.opcode.endswith("-done"):
                finished[line.operands[0]] = len(operations)
            else:
                started[line.name] = len(operations)
        elif line.opcode in ("while", "call", "conditional", "async-start"):
            loops = re.search(r'"known_trip_count":\{"n":"(\d+)"', line.text)
            repeated = times * (int(loops[1]) if loops else 1)
            for called in _called(line):
                _walk(computations, called, repeated, operations, collectives)
        elif line.opcode not in _FREE and not line.opcode.endswith("-done"):
            operations.append(_operation(computations, lines, line, times))
    for start_name, start in started.items():
        line = lines[start_name]
        end = start if '"is_sync":true' in line.text else finished.get(start_name, start)
        collectives.append(_collective(lines, line, times, operations[start:], end - start))


def _collective(
    lines: dict[str, Line], line: Line, times: int, after: list[Operation], beside: int
) -> Collective:
    """Describe a collective; of the operations `after` its start, the first ones are beside it."""
    kind = line.opcode.removesuffix("-start")
    devices = _group_size(line.text)
    whole = sum(size_in_bytes(lines[operand].type) for operand in line.operands)
    gradients = ("input gradient", "kernel gradient", "product")
    return Collective(
        name=line.name,
        kind=kind,
        devices=devices,
        bytes=whole * (devices if kind == "all-gather" else 1),
        times=times,
        beside=tuple(after[:beside]),
        gradients_after=sum(each.backward and each.kind in gradients for each in after),
    )


def _called(line: Line) -> Iterator[str]:
    if line.opcode == "conditional":
        listed = re.search(r"branch_computations=\{([^}]*)\}", line.text)
        if listed:
            yield from hlo.names(listed[1])
        yield from re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", line.text)
    else:
        yield from re.findall(r"\b(?:body|to_apply|calls)=%?([\w.\-]+)", line.text)


def _group_size(attributes: str) -> int:
    """Return how many devices take part, from the ways in which XLA's versions write it."""
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
        return len(found[1].split(","))
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]<=", attributes):
        return int(found[1])
    if found := re.search(r"replica_groups=mesh\[(.*?)\] \{(.*?)\}", attributes):
        sizes = dict(re.findall(r"('\w+')=(\d+)", found[1]))
        return math.prod(int(sizes[axis]) for axis in found[2].split(","))
    return 1


def _operation(
    computations: Computations, lines: dict[str, Line], line: Line, times: int
) -> Operation:
    body = list(_body(computations, line))
    kind, flops, dtype = _matrix_work(computations, lines, line, body) or (
        _other_kind(line, body),
        0,
        "",
    )
    return Operation(
        name=line.name,
        kind=kind,
        source=line.op_name or next((each.op_name for each in body[::-1] if each.op_name), ""),
        result=re.sub(r"\{[^}]*\}|/\*.*?\*/", "", line.type),
        dtype=dtype,
        flops=flops,
        bytes=_read(computations, lines, line) + size_in_bytes(line.type),
        times=times,
    )


def _body(computations: Computations, line: Line) -> Iterator[Line]:
    """Yield the instructions of a fusion, and of the fusions in it; or the instruction itself."""
    called = line.attribute("calls") if line.opcode == "fusion" else None
    if called is None:
        yield line
        return
    for each in computations[called.removeprefix("%")].values():
        yield each
        if each.opcode == "fusion":
            yield from _body(computations, each)


def _matrix_work(
    computations: Computations, lines: dict[str, Line], line: Line, body: list[Line]
) -> tuple[Kind, int, str] | None:
    """Return the kind, FLOPs and operands' type of a convolution or product; None if it is none."""
    target = line.attribute("custom_call_target") or ""
    if target.startswith("__cudnn$conv"):
        return _cudnn_convolution(target, lines, line)
    if "cublas" in target:
        return "product", _cublas_flops(lines, line), dtype_of(lines[line.operands[0]].type)
    for each in body:
        if each.opcode in ("dot", "convolution"):
            scope = next(
                scope for scope in (lines, *computations.values()) if scope.get(each.name) is each
            )
            left, right = (scope[operand].type for operand in each.operands[:2])
            if each.opcode == "dot":
                contracted = _dims(each.text, r"lhs_contracting_dims=\{([\d,]*)\}")
                flops = 2 * elements(each.type) * _contracted(left, contracted)
                return "product", flops, dtype_of(left)
            flops = 2 * elements(each.type) * elements(right) // _outputs(each.text, right)
            return _convolution_kind(each), flops, dtype_of(left)
    return None


def _convolution_kind(line: Line) -> Kind:
    if "transpose(jvp" not in line.op_name:
        return "convolution"
    labels = line.attribute("dim_labels") or ""
    # A kernel's gradient sums over the batch, which takes the place of the features.
    return "kernel gradient" if labels.startswith("f") else "input gradient"


def _cudnn_convolution(target: str, lines: dict[str, Line], line: Line) -> tuple[Kind, int, str]:
    left, right = (lines[operand].type for operand in line.operands[:2])
    result = line.type  # its first array; the other one is the workspace
    if "BackwardFilter" in target:
        flops = 2 * elements(right) * elements(result) // _outputs(line.text, result)
        return "kernel gradient", flops, dtype_of(left)
    if "BackwardInput" in target:
        flops = 2 * elements(left) * elements(right) // _outputs(line.text, right)
        return "input gradient", flops, dtype_of(left)
    flops = 2 * elements(result) * elements(right) // _outputs(line.text, right)
    # With groups, the gradient of the input is computed as a convolution, too.
    kind = _convolution_kind(line)
    if "BiasActivation" in target:
        plain = '"activation_mode":"kNone"' in line.text
        kind = "convolution, bias" if plain else "convolution, bias, ReLU"
    return kind, flops, dtype_of(left)


def _cublas_flops(lines: dict[str, Line], line: Line) -> int:
    contracted = _dims(line.text, r'"lhs_contracting_dimensions":\[([\d,"]*)\]')
    return 2 * elements(line.type) * _contracted(lines[line.operands[0]].type, contracted)


def _dims(text: str, pattern: str) -> list[int]:
    found = re.search(pattern, text)
    return [int(dim) for dim in re.findall(r"\d+", found[1])] if found else []


def _contracted(left: str, dims: list[int]) -> int:
    return math.prod(sizes(left)[dim] for dim in dims)


def _outputs(attributes: str, kernel: str) -> int:
    """Return the number of output channels of a convolution's kernel."""
    labels = re.search(r"dim_labels=\w+_(\w+)->", attributes)
    return sizes(kernel)[labels[1].index("o")] if labels else 1


def _other_kind(line: Line, body: list[Line]) -> Kind:
    names = [line.op_name, *(each.op_name for each in body)]
    pooling, lrn = (any(scope in name for name in names) for scope in (_POOLING, _LRN))
    if pooling and lrn:
        return "max-pooling and LRN"
    if pooling or lrn:
        return "max-pooling" if pooling else "LRN"
    opcodes = {each.opcode.removesuffix("-start") for each in body}
    if "transpose" in opcodes:
        return "transpose"
    if opcodes <= _MOVES:
        return "cast" if "convert" in opcodes else "copy"
    return "reduction" if "reduce" in opcodes else "other"


def _read(computations: Computations, lines: dict[str, Line], line: Line) -> int:
    """Return the bytes that an operation reads: of each operand, the part that it uses."""
    parameters: dict[int, int] = {}
    called = line.attribute("calls") if line.opcode == "fusion" else None
    if called is not None:
        inside = computations[called.removeprefix("%")]
        for each in inside.values():
            if each.opcode == "parameter":
                parameters[int(each.arguments)] = _used(inside, each)
    total = 0
    for operand in dict.fromkeys(line.operands):
        whole = size_in_bytes(lines[operand].type)
        used = [
            parameters.get(number, whole)
            for number, name in enumerate(line.operands)
            if name == operand
        ]
        total += min(whole, sum(used))
    return total


def _used(lines: dict[str, Line], value: Line) -> int:
    """Return the bytes of a value that its users read: all, or their slices."""
    whole = size_in_bytes(value.type)
    total = 0
    for user in (each for each in lines.values() if value.name in each.operands):
        if user.opcode in ("slice", "dynamic-slice"):
            total += size_in_bytes(user.type)
        elif user.opcode in ("bitcast", "reshape"):
            total += _used(lines, user)
        else:
            return whole
    return min(whole, total)
