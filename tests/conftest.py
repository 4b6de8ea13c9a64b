"""Eight fake devices for every test, set before jax starts; a data set and a run, made once."""

import io
import json
import os
import subprocess
import sys

# Most of the tests' time is compiling, and their networks are tiny. Of two values of a flag the
# last one counts: what the user has set stays, but for the number of devices.
os.environ["XLA_FLAGS"] = (
    f"--xla_backend_optimization_level=0 {os.environ.get('XLA_FLAGS', '')} "
    "--xla_force_host_platform_device_count=8"
)
os.environ["JAX_PLATFORMS"] = "cpu"

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tests.faults.processes import PATIENCE_SECONDS, environment_of

GOLDEN = Path(__file__).parent / "weights" / "golden"


# Fixtures with which a test starts processes, or trains.
_SLOW = {"run_main", "kill_at", "narrow_run", "boxes_run"}


def pytest_collection_modifyitems(items):
    for item in items:
        if _SLOW & {*getattr(item, "fixturenames", ())}:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory):
    """Return a data folder in which the embedded data set is built."""
    from deepconv.data.sources.shapes import Shapes

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


@pytest.fixture(scope="session")
def boxes_run(narrow_run, tmp_path_factory, shapes_root):
    """Return the folder of a run for boxes, one for each class, from `narrow_run`."""
    from deepconv.config.check import from_json
    from deepconv.config.recipe import ALL_BUT_FC8
    from deepconv.training import loop

    config = from_json((narrow_run / "config.json").read_text()).unlock()
    config.model.boxes = "per_class"
    config.init.checkpoint, config.init.layers = str(narrow_run), ALL_BUT_FC8
    config.input.color = "inherited"
    config.train.epochs = 64 / 3600
    folder = tmp_path_factory.mktemp("runs") / "boxes"
    loop.train(config.lock(), folder)
    assert json.loads((folder / "result.json").read_text())["steps"] == 4
    return folder


@pytest.fixture(scope="session")
def narrow_file(tmp_path_factory):
    """Return a file of weights: VGG-11 of torchvision, very narrow, five classes, crops of 32."""
    from deepconv.weights import importing

    path = tmp_path_factory.mktemp("files") / "narrow.safetensors"
    importing.write(importing.read(GOLDEN / "vgg11.pth"), path)
    return path


@pytest.fixture
def photos(tmp_path):
    """Return a folder of three pictures of several sizes, one of them below another folder."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in (("a.jpg", (50, 70)), ("b.png", (64, 40)), ("more/c.JPG", (37, 37))):
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture(scope="session")
def run_main():
    """Return a function that runs a command of deepconv and returns what became of it."""

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "deepconv", *map(str, arguments)],
            cwd=Path(__file__).parents[1],
            env=environment_of(devices=1),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def encode():
    """Return a function from pixels to the bytes of an image file."""

    def encode(pixels, kind="JPEG", **options):
        buffer = io.BytesIO()
        PIL.Image.fromarray(pixels).save(buffer, kind, **options)
        return buffer.getvalue()

    return encode


@pytest.fixture(scope="session")
def truncated(encode):
    """Return a JPEG whose header is whole and whose second half is missing."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    data = encode(noise)
    return data[: len(data) // 2]


@pytest.fixture(scope="session")
def shared_data():
    """Return a function from the name of a file of real images to its path, which may skip."""

    def find(name):
        beside = Path(__file__).parents[2] / "shared" / "data"
        file = Path(os.environ.get("DEEPCONV_SHARED_DATA", beside)) / name
        if not file.exists():
            pytest.skip(f"no real images: {file} is not there; see $DEEPCONV_SHARED_DATA")
        return file

    return find
