"""The instructions of a compiled program, from its text in XLA's notation (HLO).

computations, entry = read(compiled.as_text())
for line in computations[entry].values(): ...
"""

import math
import re
from typing import NamedTuple

_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_NAME = re.compile(r"%([\w.\-]+)")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_LEFT = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = ")
_OPCODE = re.compile(r"\s*([a-z][\w\-]*)\(")


class Line(NamedTuple):
    """An instruction.

    Attributes:
      name: its name.
      type: of its result.
      opcode: what it does.
      arguments: the text in its parentheses.
      text: everything after that.
    """

    name: str
    type: str
    opcode: str
    arguments: str
    text: str

    @property
    def operands(self) -> tuple[str, ...]:
        """The names of its operands."""
        return names(self.arguments)

    def attribute(self, name: str) -> str | None:
        """Return the value of an attribute, if it is a single word."""
        found = re.search(rf'\b{name}="?([^",\s}}]+)', self.text)
        return found[1] if found else None

    @property
    def op_name(self) -> str:
        """The operation in the program's source that it comes from."""
        found = re.search(r'op_name="([^"]*)"', self.text)
        return found[1] if found else ""


# The instructions of each computation by name, in the order of the schedule.
Computations = dict[str, dict[str, Line]]


def names(text: str) -> tuple[str, ...]:
    """Return the names of instructions or computations in a text."""
    return tuple(_NAME.findall(text))


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


def read(text: str) -> tuple[Computations, str]:
    """Return the computations of a module, and the name of the one that it begins with.

    Raises:
      ValueError: if the text is something else.
    """
    found: Computations = {}
    entry = None
    current: dict[str, Line] = {}
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = found[head[2]] = {}
            entry = head[2] if head[1] else entry
        elif left := _LEFT.match(line):
            current[left[1]] = _line(left[1], line[left.end() :])
    if entry is None:
        raise ValueError("this is not the text of a compiled program: it has no ENTRY")
    return found, entry


def _line(name: str, right: str) -> Line:
    end = _closed(right, 0) if right.startswith("(") else right.index(" ")
    opcode = _OPCODE.match(right, end)
    if opcode is None:
        raise ValueError(f"this is not an instruction of XLA's: {name} = {right}")
    last = _closed(right, opcode.end() - 1)
    return Line(name, right[:end], opcode[1], right[opcode.end() : last - 1], right[last:])


def _closed(text: str, start: int) -> int:
    """Return the place after the parenthesis that closes the one at `start`."""
    depth = 0
    for found in re.compile(r"[()]").finditer(text, start):
        depth += 1 if found[0] == "(" else -1
        if depth == 0:
            return found.end()
    raise ValueError(f"an open parenthesis: {text}")


def sizes(array: str) -> list[int]:
    """Return the sizes of an array type, or of the first of a tuple."""
    found = _SHAPE.search(array)
    return [int(size) for size in found[2].split(",") if size] if found else []


def elements(array: str) -> int:
    """Return the number of elements of an array type, or of the first of a tuple."""
    return math.prod(sizes(array))


def dtype_of(array: str) -> str:
    """Return the type of the elements, such as `bf16`."""
    found = _SHAPE.search(array)
    return found[1] if found else ""
