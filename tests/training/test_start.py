"""What is copied, what stays random, and what does not fit."""

import numpy as np
import pytest

from deepconv.training import start


def params(**kernels):
    return {
        name: {"kernel": np.full(shape, fill), "bias": np.full(shape[-1:], fill)}
        for name, (shape, fill) in kernels.items()
    }


A = params(conv1=((3, 3, 3, 8), 1.0), conv2=((3, 3, 8, 8), 1.0), fc8=((1, 1, 8, 5), 1.0))
DEEPER = params(
    conv1=((3, 3, 3, 8), 0.0),
    conv1b=((3, 3, 8, 8), 0.0),
    fc8=((1, 1, 8, 5), 0.0),
)
SHAPES = {"source": start.shapes_of(A), "target": start.shapes_of(DEEPER)}


def test_selected_layers_are_copied_and_the_others_stay():
    plan = start.plan_transfer(SHAPES["target"], SHAPES["source"], "conv1|fc8")
    assert plan == start.Transfer(("conv1", "fc8"), ("conv1b",), ("conv2",))
    mixed = start.transfer(DEEPER, A, plan)
    assert list(mixed) == list(DEEPER)
    assert mixed["conv1"] is A["conv1"]
    assert mixed["fc8"] is A["fc8"]
    assert mixed["conv1b"] is DEEPER["conv1b"]


def test_the_report_has_every_layer_of_both_with_its_shape():
    plan = start.plan_transfer(SHAPES["target"], SHAPES["source"], "conv1|fc8")
    assert start.report(plan, SHAPES["target"], SHAPES["source"]) == [
        ("conv1", "copied", "3x3x3x8"),
        ("conv1b", "random", "3x3x8x8"),
        ("fc8", "copied", "1x1x8x5"),
        ("conv2", "skipped", "3x3x8x8"),
    ]


def test_a_pattern_matches_whole_names():
    plan = start.plan_transfer(SHAPES["target"], SHAPES["source"], "conv1")
    assert plan.copied == ("conv1",)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (".*", "no layer conv1b; it has conv1, conv2, fc8"),
        ("nothing", "'nothing' matches none of the layers conv1"),
    ],
)
def test_a_layer_that_is_not_there_is_named(layers, words):
    with pytest.raises(ValueError, match=words):
        start.plan_transfer(SHAPES["target"], SHAPES["source"], layers)


def test_a_shape_that_does_not_fit_is_named_with_both():
    other = start.shapes_of(params(fc8=((1, 1, 8, 7), 0.0)))
    with pytest.raises(ValueError, match="fc8 is 1x1x8x5 in the source but 1x1x8x7 here"):
        start.plan_transfer(other, SHAPES["source"], "fc8")
