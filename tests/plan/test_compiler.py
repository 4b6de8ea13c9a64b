"""Compiling for GPUs: what needs no compiler, and, where it is installed, small programs."""

import jax
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from configs import alexnet
from deepconv.config import recipe
from deepconv.exceptions import UserError
from deepconv.models.layers import convolve
from deepconv.plan import compiled_report, compiler, devices, fitting, roofline, stages
from deepconv.plan.compiler import Compiled, Memory
from deepconv.plan.program import Collective, Operation, Program
from deepconv.plan.times import Machine
from tests import gpu_compile

COMPILED_FOR = [kind for kind, device in devices.KINDS.items() if device.chip]
LIMITS = roofline.Limits({"float32": 1e12, "bfloat16": 8e12}, bandwidth=1e11, link=1e10)


def operation(kind, flops, size, times=1, dtype="bf16"):
    return Operation("name", kind, "source", "f32[1]", dtype, flops, size, times)


def all_reduce(size, *beside):
    return Collective("name", "all-reduce", 8, size, 1, beside, len(beside))


def step(temporaries, *operations, collectives=()):
    memory = Memory(arguments=100, outputs=90, donated=80, temporaries=temporaries)
    return Compiled(memory, batch=10, program=Program(operations, collectives))


@pytest.fixture
def installed(monkeypatch):
    """Return the versions that seem to be installed, to be changed."""
    versions = dict.fromkeys(compiler.PACKAGES, jax.lib.__version__)
    monkeypatch.setattr(compiler, "_version", versions.get)
    return versions


def compiled(kind="h100", count=1):
    (stage,) = recipe.stages(alexnet.get_config("tiny"))
    return compiler.compile_steps(stage.config, classes=12, images=3600, kind=kind, devices=count)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"jax-cuda12-plugin": None},
            r"needs jax-cuda12-plugin \(the extra aot\): pip install jax-cuda12-plugin==",
        ),
        ({"jax-cuda12-pjrt": "0.1.0"}, "jax-cuda12-pjrt 0.1.0 does not fit jaxlib .*: pip install"),
        ({"nvidia-cuda-nvcc-cu12": None}, "needs nvidia-cuda-nvcc-cu12"),
    ],
)
def test_a_compiler_that_is_not_installed_or_does_not_fit(installed, changes, words):
    installed.update(changes)
    with pytest.raises(UserError, match=words):
        compiled()


def test_a_kind_without_a_compiler(installed):
    with pytest.raises(UserError, match="does not know --device_kind=gtx_580; one of h100, h200"):
        compiled("gtx_580")


@pytest.mark.parametrize(
    ("status", "log", "words"),
    [
        (-9, "", "has run out of memory, or was killed"),
        (1, "Traceback\nMemoryError\n", "has run out of memory"),
        (-6, "F0000 gpu.cc:1] Check failed: x\n", r"failed \(signal 6\): F0000 gpu.cc:1\] Check"),
        (1, "Traceback\nValueError: no\nmore\n", "ValueError: no"),
        (
            -15,
            "I0000 cudart_stub.cc:31] Could not find cuda drivers\n",
            "signal 15.: it said nothing",
        ),
    ],
)
def test_a_failure_is_one_line(status, log, words):
    message = compiler.failure(status, log)
    assert "\n" not in message
    with pytest.raises(UserError, match=words):
        raise UserError(message)


def test_the_least_time():
    matrix, moved = operation("product", 8e12, 1e10), operation("other", 0, 1e11, times=2, dtype="")
    hidden, late = all_reduce(1e10, moved), all_reduce(1e10)
    bound = roofline.of_program(Program((matrix, moved), (hidden, late)), LIMITS)
    assert bound.parts == {"arithmetic": 1.0, "memory bandwidth": 2.0, "collectives": 1.75}
    assert (bound.seconds, bound.by) == (4.75, "memory bandwidth")
    assert [(group.kind, group.times) for group in bound.groups] == [("product", 1), ("other", 2)]
    in_float32 = operation("product", 8e12, 1e10, dtype="f32")
    assert roofline.seconds(in_float32, LIMITS) == 8.0


def test_microbatches_are_found_by_compiling():
    tried = []

    def with_parts(parts):
        tried.append(parts)
        return step({4: 600, 8: 350}[parts])

    needed = {"limit": 500.0, "examples": 8, "microbatches": 1, "compiled": with_parts}
    assert fitting.of(step(300), **needed) == (500.0, 0.0, None)
    # 120 bytes besides the temporaries: two halves cannot fit, and four quarters turn out not to.
    assert fitting.of(step(1200), **needed) == (500.0, 820.0, 8)
    assert tried == [4, 8]


def test_the_report():
    machine = Machine(
        "h100", 8, 1e14, "assumed", False, 1e3, 0.75, 1e10, 500.0, 100, "ASSUMED: of a test"
    )
    (stage,) = recipe.stages(alexnet.get_config("tiny"))
    stage.config.train.batch_size = stage.config.evaluation.batch_size = 64
    plan = stages.plan_stage(stage, stages.Sizes(3600, 600, 12), machine)
    trained = step(1200, operation("product", 8e12, 1e10), collectives=[all_reduce(1e10)])
    steps = {"train": trained, "evaluation": step(1, operation("copy", 0, 1e10, dtype=""))}
    fit = fitting.Fit(limit=101.0, missing=580e6, microbatches=8)
    text = compiled_report.text(steps, plan, machine, LIMITS, fit)
    assert text.startswith("Compiled, not run: ")
    assert "It does NOT fit: 0.580 GB too much; train.microbatches=8 fits" in text
    assert "It does NOT fit: 0.000 GB too much; lower evaluation.batch_size." in text
    assert "Bound by collectives." in text
    assert "Bound by decoding." not in text
    assert max(map(len, text.splitlines())) <= 100
    data = compiled_report.data(steps, LIMITS, fit)
    assert data["steps"]["train"]["memory"]["peak"] == 100 + 90 - 80 + 1200
    assert not data["fits"]


def test_what_has_changed_is_told():
    before = {"operations": {"copy": {"count": 26, "bytes": 1000}}, "memory": {"temporaries": 100}}
    now = {"operations": {"copy": {"count": 25, "bytes": 1019}}, "memory": {"temporaries": 103}}
    assert list(gpu_compile.differences(before, now)) == [
        "memory temporaries: 100 -> 103 (+3.0%)",
        "operations copy count: 26 -> 25 (-3.8%)",
    ]
    assert list(gpu_compile.differences(before, {**before, "operations": {}})) == [
        'operations copy: {"count": 26, "bytes": 1000} -> nothing'
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", COMPILED_FOR)
def test_a_convolution_is_compiled_for_every_kind(kind):
    pytest.importorskip("jax_cuda12_plugin", reason="needs the extra aot")
    topology = topologies.get_topology_desc(
        kind, platform="cuda", target_config=devices.target_config(kind), topology="1x1x1"
    )
    everywhere = NamedSharding(Mesh(np.asarray(topology.devices), ("data",)), P())
    maps = jax.ShapeDtypeStruct((8, 16, 16, 32), "bfloat16", sharding=everywhere)
    kernel = jax.ShapeDtypeStruct((3, 3, 32, 32), "bfloat16", sharding=everywhere)
    lowered = jax.jit(lambda x, k: convolve(x, k, padding=(1, 1))).lower(maps, kernel)
    text = lowered.compile(compiler_options=compiler.options()).as_text()
    assert "__cudnn$conv" in text


@pytest.mark.slow
def test_a_config_is_compiled():
    pytest.importorskip("jax_cuda12_plugin", reason="needs the extra aot")
    steps = compiled(count=2)
    net = stages.create_model(alexnet.get_config("tiny"), 12)
    assert list(steps) == ["train", "evaluation"]
    trained = steps["train"].program
    assert [each.devices for each in trained.collectives] == [2] * len(trained.collectives)
    assert trained.collectives
    kinds = [each.kind for each in trained.operations]
    assert kinds.count("kernel gradient") >= sum("conv" in layer.name for layer in net.layers[:5])
    assert {"product", "max-pooling"} & set(kinds)
