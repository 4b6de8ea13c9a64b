"""Comparing a file's network with an independent computation."""

import numpy as np
import pytest

from deepconv.inference import model
from deepconv.weights import importing


@pytest.fixture
def assert_parity(tmp_path):
    """Return a function that imports a file and compares every activation, to 1e-4 of its largest.

    It is given the file, uint8 pixels [N, H, W, 3], the expected outputs {name: [N, C, H, W]}, and
    options of `importing.read`; it returns what was imported and the network.
    """

    def check(path, pixels, expected, /, **options):
        imported = importing.read(path, **options)
        importing.write(imported, tmp_path / "ours.safetensors")
        net = model.open_model(tmp_path / "ours.safetensors")
        outputs = net.network.apply(
            {"params": net.params},
            pixels - net.central_mean,
            method="activations",
        )
        assert {name for name in outputs if not name.startswith("drop")} == set(expected)
        for name, there in expected.items():
            here = np.moveaxis(outputs[name], -1, 1)
            assert here.shape == there.shape
            assert np.abs(there).max() > 0
            assert np.abs(here - there).max() <= 1e-4 * np.abs(there).max(), name
        return imported, net

    return check
