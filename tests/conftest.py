"""Eight fake devices for every test, set before jax starts; a data set and a run, made once."""

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


@pytest.fixture(scope="session")
def narrow_run(tmp_path_factory, shapes_root):
    """Return the folder of a run of two steps on the embedded data; tests leave it as it is."""
    from configs import quickstart
    from deepconv.training import loop

    config = quickstart.get_config()
    config.update_from_flattened_dict(
        {
            "model.crop": 32,
            "model.width": 1 / 32,
            "input.scale": (36, 40),
            "evaluation.scale": 36,
            "train.batch_size": 16,
            "train.epochs": 32 / 3600,
            "evaluation.batch_size": 200,
            "dataset.data_dir": str(shapes_root),
        }
    )
    folder = tmp_path_factory.mktemp("runs") / "narrow"
    loop.train(config, folder)
    return folder
