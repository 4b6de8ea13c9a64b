"""The input pipeline feeding a training step: `deepconv benchmark --what=pipeline`.

VGG-D and AlexNet read drawn JPEG files of the size of ImageNet's photographs (500x375 pixels, some
90 kB): smooth noise, which decodes about as fast. The quickstart reads its own data.
"""

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from configs import quickstart
from deepconv.benchmark import session
from experiments.gpu import networks
from experiments.gpu.report import markdown

SECONDS, LEAST = 100.0, 40.0

TRAINING, HELD_OUT = 1024, 16


def cases(rehearse: bool) -> dict[str, dict[str, Any]]:
    """Return the arguments of each case."""
    batches = {"quickstart": 64, "vgg_d": 128, "alexnet": 256}
    if rehearse:
        batches = {"quickstart": 16, "vgg_d": 16}
    return {
        name: {"network": name, "batch": batch, "rehearse": rehearse}
        for name, batch in batches.items()
    }


def measure(network: str, batch: int, rehearse: bool) -> dict[str, Any]:
    """Time the step, the input and both together, in bfloat16; see `session.measure`."""
    with tempfile.TemporaryDirectory() as folder:
        if network == "quickstart":
            config = quickstart.get_config()
            if rehearse:
                config.model.width = 1 / 32
        else:
            write_pictures(Path(folder), 64 if rehearse else TRAINING)
            config = networks.load(network, rehearse=rehearse, batch=batch, precision="bfloat16")
            config.dataset.name = f"folder:{folder}"
            config.input.color = "imagenet"
            config.input.mean = "rgb"  # a mean image would first be computed over the pictures
        config.model.dtype = "bfloat16"
        return session.measure(
            session.Request(
                config=config,
                what=("train", "input", "pipeline"),
                batch=batch,
                classes=networks.classes(network),
                rounds=2 if rehearse else 3,
                steps=2 if rehearse else 16,
            )
        )


def write_pictures(folder: Path, count: int) -> None:
    """Write a folder of two classes of JPEG pictures, `count` to train on and some held out."""
    rng = np.random.default_rng(0)
    pictures = [_picture(rng) for _ in range(16)]
    for split, number in (("train", count), ("val", HELD_OUT)):
        for index in range(number):
            path = folder / split / f"class_{index % 2}" / f"{index:04d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pictures[index % len(pictures)])


def _picture(rng: np.random.Generator) -> bytes:
    coarse = rng.integers(0, 256, (94, 125, 3), np.uint8)
    picture = PIL.Image.fromarray(coarse).resize((500, 375), PIL.Image.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()


def text(results: Mapping[str, Any]) -> str:
    """Return the rates, and the share of the slower of the two."""
    rows = []
    for network, result in results.items():
        rates = {line["name"]: line["images_per_second"] for line in result["lines"]}
        share = result["pipeline_share"]["median"]
        parts = (rates[name] for name in ("train", "input", "pipeline"))
        rows.append((network, str(result["batch"]), *parts, f"{share:.1%}"))
    columns = ("network", "batch", "step alone, images/s", "input alone, images/s")
    return markdown((*columns, "together, images/s", "of the slower"), rows)
