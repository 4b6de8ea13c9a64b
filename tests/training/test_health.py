"""Which layer is named."""

import numpy as np

from deepconv.training.health import faulty_layer

RNG = np.random.default_rng(0)
HEALTHY = RNG.normal(size=(8, 4, 4, 3))


def test_nothing_is_wrong_with_activations_that_differ_between_images():
    assert faulty_layer({"conv1": HEALTHY, "fc8": 1e-3 * HEALTHY}) is None


def test_the_first_layer_that_says_the_same_of_every_image_is_named():
    constant = np.ones((8, 4)) + 1e-6 * RNG.normal(size=(8, 4))
    name, reason = faulty_layer({"conv1": HEALTHY, "fc6": constant, "fc7": np.zeros((8, 2))})
    assert name == "fc6"
    assert "vanished" in reason


def test_dead_and_exploded_layers_are_named():
    assert faulty_layer({"relu6": np.zeros((8, 2))})[0] == "relu6"
    assert "exploded" in faulty_layer({"conv1": 1e9 * HEALTHY})[1]
    assert "exploded" in faulty_layer({"conv1": np.full((8, 2), np.nan)})[1]
