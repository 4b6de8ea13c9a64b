"""Reading compiled programs, on a shortened text of XLA's GPU compiler."""

from pathlib import Path

import pytest

from deepconv.plan.hlo import size_in_bytes
from deepconv.plan.program import parse

MAPS, KERNEL = 2 * 32 * 56 * 56 * 64, 3 * 3 * 64 * 64
MACS = 32 * 56 * 56 * 64 * 9 * 64


@pytest.fixture(scope="module")
def program():
    return parse((Path(__file__).parent / "program.txt").read_text())


def test_operations_with_arithmetic_and_bytes(program):
    assert [(each.kind, each.flops, each.bytes, each.times) for each in program.operations] == [
        ("transpose", 0, (4 + 2) * KERNEL, 1),
        ("convolution, bias, ReLU", 2 * MACS, 2 * MAPS + 2 * KERNEL + 2 * 64 + 128, 1),
        ("max-pooling", 0, MAPS // 2 + MAPS // 2, 1),  # it reads every second row
        ("product", 2 * 32 * 128 * 10, 2 * 128 * (32 + 10) + 4 * 32 * 10, 1),
        ("reduction", 0, MAPS + 4 * 64, 1),
        ("kernel gradient", 2 * MACS, 2 * MAPS + 2 * KERNEL, 1),
        ("input gradient", 2 * MACS, 2 * MAPS + 2 * KERNEL, 1),
        ("copy", 0, 4 * 64, 4),
    ]
    assert program.operations[1].dtype == "bf16"
    assert program.operations[3].source.endswith("fc8/dot_general")
    assert [each.name for each in program.operations if each.backward] == [
        "input_reduce_fusion",
        "cudnn-conv-bw-filter.1",
        "cudnn-conv.5",
    ]


def test_collectives_and_what_runs_beside_them(program):
    first, second = program.collectives
    assert (first.devices, first.bytes, first.gradients_after) == (8, 4 * 64, 2)
    assert [each.kind for each in first.beside] == ["kernel gradient", "input gradient"]
    assert first.sent == 2 * 7 / 8 * 4 * 64
    assert (second.devices, second.bytes, second.beside) == (4, 2 * 4 * 64, ())
    assert second.gradients_after == 0


def test_sizes_of_types():
    assert size_in_bytes("(pred[3]{0}, /*index=1*/bf16[2,3]{1,0:S(5)}, f32[], u8[0]{0})") == 19


def test_a_text_of_something_else():
    with pytest.raises(ValueError, match="it has no ENTRY"):
        parse("module @jit_step {\n}\n")
