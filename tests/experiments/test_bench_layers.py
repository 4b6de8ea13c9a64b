"""That what is timed is the convolutions of the network, and the same of both frameworks."""

import numpy as np
import pytest

from deepconv import models
from experiments import bench_layers

ALEXNET = list(bench_layers.places(models.create("alexnet")))


def test_convolutions_of_a_network_with_what_comes_in():
    assert [(place.layer.name, place.input) for place in ALEXNET] == [
        ("conv1", (224, 224, 3)),
        ("conv2", (27, 27, 96)),
        ("conv3", (13, 13, 256)),
        ("conv4", (13, 13, 384)),
        ("conv5", (13, 13, 384)),
    ]


@pytest.mark.parametrize("place", ALEXNET[:2], ids=["strided", "grouped"])
def test_both_frameworks_compute_the_same(place):
    pytest.importorskip("torch")
    ours, theirs = (side(place, 1) for side in (bench_layers.ours, bench_layers.theirs))

    def close(found, expected):
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-2)

    close(ours["forward"](), theirs["forward"]().permute(0, 2, 3, 1))
    close(ours["kernel's gradient"]()[0], theirs["kernel's gradient"]()[1].permute(2, 3, 1, 0))
    if place.input[2] > 3:
        close(ours["input's gradient"]()[0], theirs["input's gradient"]()[0].permute(0, 2, 3, 1))
