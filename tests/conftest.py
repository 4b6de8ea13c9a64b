"""Eight fake devices for every test, set before jax starts; the embedded data set, built once."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import pytest


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory):
    """Return a data folder in which the embedded data set is built."""
    from deepconv.data.shapes import Shapes

    root = tmp_path_factory.mktemp("tfds")
    Shapes(data_dir=root, file_format="array_record").download_and_prepare()
    return root
