"""The table of a network's layers, row by row against the papers' arithmetic."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from deepconv import models
from deepconv.models import summary
from tests.faults.processes import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]
PAPER = json.loads((ROOT / "tests" / "paper_tables.json").read_text())

NETWORKS = [
    ("alexnet", {}, PAPER["alexnet"]["layers_grouped"], PAPER["alexnet"]["counts"]["grouped"]),
    (
        "alexnet",
        {"towers": 1},
        PAPER["alexnet"]["layers_one_tower"],
        PAPER["alexnet"]["counts"]["one_tower"],
    ),
    (
        "alexnet",
        {"towers": 1, "half": True},
        PAPER["alexnet"]["layers_one_gpu_half"],
        PAPER["alexnet"]["counts"]["one_gpu_half"],
    ),
] + [
    (
        f"vgg_{letter.lower().replace('-', '_')}",
        {},
        PAPER["vgg"]["layers"][letter],
        PAPER["vgg"]["counts"][letter],
    )
    for letter in ("A", "A-LRN", "B", "C", "D", "E")
]


def table(name, *args, **options):
    network = models.create(name, *args, **options)
    return network, summary.layer_table(network.layers, network.crop)


@pytest.mark.parametrize(("name", "options", "layers", "counts"), NETWORKS)
def test_rows_and_totals_are_the_papers(name, options, layers, counts):
    _, rows = table(name, **options)
    rows = [row for row in rows if not row.kind.startswith("LRN")]
    for row, expected in zip(rows, layers, strict=True):
        assert row.name == expected["name"]
        assert row.weights == expected.get("weights", 0)
        assert row.biases == expected.get("biases", 0)
        assert row.parameters == expected["params"]
        assert row.macs == expected["macs"]
        assert (row.field, row.stride) == (expected["rf"], expected["jump"])
        output = expected["out"]
        assert row.output == (tuple(output) if len(output) == 3 else (1, 1, *output))
    assert summary.totals(rows)._asdict() == {
        "parameters": counts["params"],
        **{key: counts[key] for key in ("weights", "biases", "macs")},
    }


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in models.NETWORKS]
    + [
        ("alexnet", {"width": 0.25, "crop": 64}),
        ("alexnet", {"width": 0.3, "towers": 1, "crop": 227}),
        ("vgg_c", {"width": 0.1, "crop": 48}),
        ("cifar10_11pct", {"crop": 32}),
    ],
)
def test_kernels_and_maps_are_those_of_the_network_itself(name, options):
    network, rows = table(name, 10, **options)
    crop = jax.ShapeDtypeStruct((1, network.crop, network.crop, 3), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), crop)
    outputs = jax.eval_shape(lambda v, x: network.apply(v, x, method="activations"), params, crop)
    for row in rows:
        assert (1, *row.output) == outputs[row.name].shape
    assert {row.name: row.kernel for row in rows if row.kernel} == {
        layer: leaves["kernel"].shape for layer, leaves in params["params"].items()
    }
    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert summary.totals(rows).parameters == parameters


def test_local_convolutions():
    _, rows = table("cifar10_13pct", 10)
    local = next(row for row in rows if row.name == "local3")
    assert local.kind == "local conv 3x3 / 1"
    assert local.macs == local.weights == 36 * 9 * 64 * 32
    assert local.biases == 36 * 32
    assert local.field == 1 + 4 + 2 + 4 * 2 + 2 * 2 + 2 * 4
    assert summary.totals(rows).parameters == 1_116_490


def test_kinds():
    _, rows = table("alexnet")
    kinds = {row.name: row.kind for row in rows}
    assert kinds["conv1"] == "conv 11x11 / 4"
    assert kinds["norm1"] == "LRN, 5 channels"
    assert kinds["pool1"] == "max pool 3x3 / 2"
    assert kinds["conv2"] == "conv 5x5 / 1, 2 groups"
    assert kinds["fc6"] == kinds["fc8"] == "fully connected"


@pytest.mark.parametrize("name", ["alexnet", "vgg_e", "cifar10_11pct"])
def test_the_text_fits_a_hundred_columns(name):
    _, rows = table(name)
    lines = summary.text(rows).splitlines()
    assert max(map(len, lines)) <= 100
    assert len({len(line) for line in lines[: 2 + len(rows)]}) == 1  # the last column lines up


def test_a_crop_that_is_too_small():
    with pytest.raises(ValueError, match="layer fc6"):
        summary.layer_table(models.create("vgg_a").layers, 96)


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "deepconv", "summary", *arguments],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@pytest.mark.slow
def test_the_command(tmp_path):
    file = tmp_path / "vgg_e.json"
    process = command("--config=configs/vgg_e.py", "--classes=10", f"--json={file}")
    assert (process.returncode, process.stderr) == (0, "")
    _, rows = table("vgg_e", 10)
    assert process.stdout == f"vgg_e, 224x224 crop, 10 classes\n\n{summary.text(rows)}\n"
    assert "139,611,210 parameters" in process.stdout
    result = json.loads(file.read_text())
    assert result["totals"] == summary.totals(rows)._asdict()
    assert [layer["name"] for layer in result["layers"]] == [row.name for row in rows]
    assert result["layers"][0]["kernel"] == [3, 3, 3, 64]


@pytest.mark.slow
def test_a_network_that_cannot_be():
    process = command("--config=configs/alexnet.py", "--config.model.towers=3")
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == "deepconv: model.towers must be 1 or 2, not 3\n"


def flops_of(net):
    return summary.flops(summary.layer_table(net.layers, net.crop))


def test_flops_are_those_of_the_papers_counts():
    # Two towers, 224: README's 724,406,816 multiply-accumulates; conv1 makes 55x55x96 of 11x11x3.
    macs, first = 724_406_816, 55 * 55 * 96 * 11 * 11 * 3
    assert flops_of(models.create("alexnet")) == (2 * macs, 2 * (3 * macs - first))
    macs, first = 15_470_264_320, 224 * 224 * 64 * 3 * 3 * 3
    assert flops_of(models.create("vgg_d")) == (2 * macs, 2 * (3 * macs - first))


def test_flops_of_local_convolutions():
    net = models.create("cifar10_13pct", 10)
    conv1, conv2 = 24 * 24 * 64 * 5 * 5 * 3, 12 * 12 * 64 * 5 * 5 * 64
    local3, local4, fc10 = 36 * 32 * 9 * 64, 36 * 32 * 9 * 32, 36 * 32 * 10
    macs = conv1 + conv2 + local3 + local4 + fc10
    assert flops_of(net) == (2 * macs, 2 * (3 * macs - conv1))
