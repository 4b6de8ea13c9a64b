"""CIFAR-10 from its published binary files, by a builder that needs no TensorFlow."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

from deepconv.exceptions import UserError

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
FOLDER = "cifar-10-batches-bin"
# The md5 sums of the published files.
FILES = {
    "train": {
        "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
        "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
        "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
        "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
        "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    },
    "test": {"test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d"},
}
_RECORD = 1 + 3 * 32 * 32


def read_batch(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Parse one of the published files: for each image a label, then its R, G and B planes.

    Returns:
      uint8 `[N, 32, 32, 3]` images and uint8 `[N]` labels.

    Raises:
      ValueError: if the length is not a multiple of a record's.
    """
    if len(data) % _RECORD:
        raise ValueError(f"{len(data)} bytes is not a multiple of the record size, {_RECORD}")
    rows = np.frombuffer(data, np.uint8).reshape(-1, _RECORD)
    return rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), rows[:, 0]


with tfds.core.registered.skip_registration():  # tfds' own builder of this name needs TensorFlow

    class Cifar10(tfds.core.GeneratorBasedBuilder):
        """The 50,000 training and 10,000 test images, under tfds' own names and splits."""

        name = "cifar10"
        VERSION = tfds.core.Version("3.0.2")
        MANUAL_DOWNLOAD_INSTRUCTIONS = (
            "unpack cifar-10-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html there"
        )

        def _info(self) -> tfds.core.DatasetInfo:
            return tfds.core.DatasetInfo(
                builder=self,
                description="CIFAR-10: 60,000 color images of 32x32 pixels in 10 classes.",
                features=tfds.features.FeaturesDict(
                    {
                        "id": tfds.features.Text(),
                        "image": tfds.features.Image(shape=(32, 32, 3), encoding_format="png"),
                        "label": tfds.features.ClassLabel(names=list(CLASSES)),
                    }
                ),
                supervised_keys=("image", "label"),
                homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
            )

        def _split_generators(
            self, dl_manager: Any
        ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
            folder = Path(dl_manager._manual_dir) / FOLDER
            return {split: self._generate_examples(folder, files) for split, files in FILES.items()}

        def _generate_examples(
            self, folder: Path, files: dict[str, str]
        ) -> Iterator[tuple[str, dict[str, Any]]]:
            split = "test" if "test_batch.bin" in files else "train"
            number = 0
            for name, digest in files.items():
                for image, label in zip(*read_batch(_verified(folder / name, digest)), strict=True):
                    yield (
                        f"{split}_{number:05d}",
                        {"id": f"{split}_{number:05d}", "image": _png(image), "label": int(label)},
                    )
                    number += 1


def _verified(path: Path, digest: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror}): unpack cifar-10-binary.tar.gz from "
            f"https://www.cs.toronto.edu/~kriz/cifar.html into {path.parent.parent}"
        ) from None
    if hashlib.md5(data, usedforsecurity=False).hexdigest() != digest:
        raise UserError(f"{path} is not the published file: its md5 sum is not {digest}")
    return data


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
