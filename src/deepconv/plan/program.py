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

_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_NAME = re.compile(r"%([\w.\-]+)")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_LEFT = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = ")
_OPCODE = re.compile(r"\s*([a-z][\w\-]*)\(")


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


class _Line(NamedTuple):
    name: str
    type: str
    opcode: str
    arguments: str  # the text in its parentheses
    text: str  # all after that

    @property
    def operands(self) -> tuple[str, ...]:
        return tuple(_NAME.findall(self.arguments))

    def attribute(self, name: str) -> str | None:
        found = re.search(rf'\b{name}="?([^",\s}}]+)', self.text)
        return found[1] if found else None

    @property
    def op_name(self) -> str:
        found = re.search(r'op_name="([^"]*)"', self.text)
        return found[1] if found else ""


_Computations = dict[str, dict[str, _Line]]


def parse(text: str) -> Program:
    """Return what a compiled program executes.

    Args:
      text: of the whole module, as `compiled.as_text()` returns it.

    Raises:
      ValueError: if the text has no entry computation.
    """
    computations, entry = _computations(text)
    operations: list[Operation] = []
    collectives: list[Collective] = []
    _walk(computations, entry, 1, operations, collectives)
    return Program(tuple(operations), tuple(collectives))


def size_in_bytes(types: str) -> int:
    """Return the bytes of an array type such as `bf16[32,64]{1,0}`, or of a tuple of them."""
    return sum(_width(dtype) * _count(dims) for dtype, dims in _SHAPE.findall(types))


def _width(dtype: str) -> int:
    if dtype == "pred":
        return 1
    bits = re.match(r"[a-z]+(\d+)", dtype)  # f8e4m3fn has 8
    return max(1, int(bits[1]) // 8) if bits else 0  # a token has none


def _count(dims: str) -> int:
    return math.prod(int(size) for size in dims.split(",") if size)


def _computations(text: str) -> tuple[_Computations, str]:
    found: _Computations = {}
    entry = None
    current: dict[str, _Line] = {}
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = found[head[2]] = {}
            entry = head[2] if head[1] else entry
        elif left := _LEFT.match(line):
            current[left[1]] = _line(left[1], line[left.end() :])
    if entry is None:
        raise ValueError("this is not the text of a compiled program: it has no ENTRY")
    return found, entry


def _line(name: str, right: str) -> _Line:
    end = _closed(right, 0) if right.startswith("(") else right.index(" ")
    opcode = _OPCODE.match(right, end)
    if opcode is None:
        raise ValueError(f"this is not an instruction of XLA's: {name} = {right}")
    last = _closed(right, opcode.end() - 1)
    return _Line(name, right[:end], opcode[1], right[opcode.end() : last - 1], right[last:])


def _closed(text: str, start: int) -> int:
    """Return the place after the parenthesis that closes the one at `start`."""
    depth = 0
    for found in re.compile(r"[()]").finditer(text, start):
        depth += 1 if found[0] == "(" else -1
        if depth == 0:
            return found.end()
    raise ValueError(f"an open parenthesis: {text}")


def _walk(
    computations: _Computations,
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
    for name_of, start in started.items():
        line = lines[name_of]
        kind = line.opcode.removesuffix("-start")
        devices = _group_size(line.text)
        whole = sum(size_in_bytes(lines[operand].type) for operand in line.operands)
        own_end = start if '"is_sync":true' in line.text else finished.get(name_of, start)
        after = [
            each
            for each in operations[start:]
            if each.backward and each.kind in ("input gradient", "kernel gradient", "product")
        ]
        collectives.append(
            Collective(
                name=name_of,
                kind=kind,
                devices=devices,
                bytes=whole * (devices if kind == "all-gather" else 1),
                times=times,
                beside=tuple(operations[start:own_end]),
                gradients_after=len(after),
            )
        )


def _called(line: _Line) -> Iterator[str]:
    if line.opcode == "conditional":
        listed = re.search(r"branch_computations=\{([^}]*)\}", line.text)
        if listed:
            yield from _NAME.findall(listed[1])
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
    computations: _Computations, lines: dict[str, _Line], line: _Line, times: int
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


def _body(computations: _Computations, line: _Line) -> Iterator[_Line]:
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
    computations: _Computations, lines: dict[str, _Line], line: _Line, body: list[_Line]
) -> tuple[Kind, int, str] | None:
    """Return the kind, FLOPs and operands' type of a convolution or product; None if it is none."""
    target = line.attribute("custom_call_target") or ""
    if target.startswith("__cudnn$conv"):
        return _cudnn_convolution(target, lines, line)
    if "cublas" in target:
        return "product", _cublas_flops(lines, line), _dtype(lines[line.operands[0]].type)
    for each in body:
        if each.opcode in ("dot", "convolution"):
            scope = next(
                scope for scope in (lines, *computations.values()) if scope.get(each.name) is each
            )
            left, right = (scope[operand].type for operand in each.operands[:2])
            if each.opcode == "dot":
                contracted = _dims(each.text, r"lhs_contracting_dims=\{([\d,]*)\}")
                flops = 2 * _elements(each.type) * _contracted(left, contracted)
                return "product", flops, _dtype(left)
            flops = 2 * _elements(each.type) * _elements(right) // _outputs(each.text, right)
            return _convolution_kind(each), flops, _dtype(left)
    return None


def _convolution_kind(line: _Line) -> Kind:
    if "transpose(jvp" not in line.op_name:
        return "convolution"
    labels = line.attribute("dim_labels") or ""
    # A kernel's gradient sums over the batch, which takes the place of the features.
    return "kernel gradient" if labels.startswith("f") else "input gradient"


def _cudnn_convolution(target: str, lines: dict[str, _Line], line: _Line) -> tuple[Kind, int, str]:
    left, right = (lines[operand].type for operand in line.operands[:2])
    result = line.type.split("}", 1)[0]  # the other result is the workspace
    if "BackwardFilter" in target:
        flops = 2 * _elements(right) * _elements(result) // _outputs(line.text, result)
        return "kernel gradient", flops, _dtype(left)
    if "BackwardInput" in target:
        flops = 2 * _elements(left) * _elements(right) // _outputs(line.text, right)
        return "input gradient", flops, _dtype(left)
    flops = 2 * _elements(result) * _elements(right) // _outputs(line.text, right)
    kind: Kind = "convolution"
    if "BiasActivation" in target:
        plain = '"activation_mode":"kNone"' in line.text
        kind = "convolution, bias" if plain else "convolution, bias, ReLU"
    return kind, flops, _dtype(left)


def _cublas_flops(lines: dict[str, _Line], line: _Line) -> int:
    contracted = _dims(line.text, r'"lhs_contracting_dimensions":\[([\d,"]*)\]')
    result = line.type.split("}", 1)[0]
    return 2 * _elements(result) * _contracted(lines[line.operands[0]].type, contracted)


def _dims(text: str, pattern: str) -> list[int]:
    found = re.search(pattern, text)
    return [int(dim) for dim in re.findall(r"\d+", found[1])] if found else []


def _contracted(left: str, dims: list[int]) -> int:
    sizes = _sizes(left)
    return math.prod(sizes[dim] for dim in dims)


def _sizes(array: str) -> list[int]:
    found = _SHAPE.search(array)
    return [int(size) for size in found[2].split(",") if size] if found else []


def _elements(array: str) -> int:
    return math.prod(_sizes(array))


def _dtype(array: str) -> str:
    found = _SHAPE.search(array)
    return found[1] if found else ""


def _outputs(attributes: str, kernel: str) -> int:
    """Return the number of output channels of a convolution's kernel."""
    labels = re.search(r"dim_labels=\w+_(\w+)->", attributes)
    return _sizes(kernel)[labels[1].index("o")] if labels else 1


def _other_kind(line: _Line, body: list[_Line]) -> Kind:
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


def _read(computations: _Computations, lines: dict[str, _Line], line: _Line) -> int:
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


def _used(lines: dict[str, _Line], value: _Line) -> int:
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
