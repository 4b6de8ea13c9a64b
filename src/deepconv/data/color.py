"""The colors of a training set: mean RGB, mean image, principal components.

statistics = of_training_set(source, scale=256)
magnitudes = pca_magnitudes(statistics.eigenvalues, "lambda")
"""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepconv import atomic
from deepconv.data import decode
from deepconv.data.pipeline import Geometry, Source
from deepconv.exceptions import UserError

_LOG = logging.getLogger(__name__)


class ColorStatistics(NamedTuple):
    """What the papers compute over the pixels of a training set.

    Attributes:
      mean_rgb: `[3]` float64, 0..255.
      eigenvalues: `[3]` float64, of the covariance of RGB in 0..1, largest first.
      eigenvectors: `[3, 3]` float64, rows R, G, B, columns components.
      mean_image: `[S, S, 3]` float32, 0..255, of the central squares; None if unknown.
    """

    mean_rgb: np.ndarray
    eigenvalues: np.ndarray
    eigenvectors: np.ndarray
    mean_image: np.ndarray | None


# ImageNet's statistics from public code: the mean from the readme of the released VGG nets, the
# components from fb.resnet.torch and its descendants. Neither paper prints them.
IMAGENET = ColorStatistics(
    mean_rgb=np.array([123.68, 116.779, 103.939]),
    eigenvalues=np.array([0.2175, 0.0188, 0.0045]),
    eigenvectors=np.array(
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    ),
    mean_image=None,
)


def pca_magnitudes(eigenvalues: np.ndarray, convention: str) -> np.ndarray:
    """Return the factors of the components' Gaussian random numbers, in 0..255 units.

    Args:
      eigenvalues: `[3]`, of pixels in 0..1.
      convention: "lambda", the eigenvalue itself as in AlexNet section 4.1, computed on 0..1 pixels
        (on 0..255 it would shift ImageNet by 800 gray levels), or "sqrt", the standard deviation,
        which the released code's variable name suggests.

    Raises:
      ValueError: for another convention.
    """
    if convention == "lambda":
        return 255.0 * eigenvalues
    if convention == "sqrt":
        return np.asarray(255.0 * np.sqrt(eigenvalues))
    raise ValueError(f"unknown augment.pca_magnitude {convention!r}; must be lambda or sqrt")


def principal_components(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a `[3, 3]` covariance's eigenvalues, largest first, and eigenvectors as columns.

    An eigenvector's sign is arbitrary; here its largest entry is positive.
    """
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return values, vectors * np.sign(largest)


def of_training_set(source: Source, scale: int, threads: int | None = None) -> ColorStatistics:
    """Compute the statistics over all images' central squares, rescaled to side `scale`.

    Every image has the same weight. The sums are of integers and stay below 2^53 for a set of
    ImageNet's size, so they are exact in float64 and independent of the order. Unreadable images
    are skipped.

    Args:
      source: the training set.
      scale: side S of the squares, in pixels.
      threads: number of decoding threads; by default the number of cores.

    Raises:
      UserError: if no image can be read.
    """
    geometry = Geometry(crop=scale, scale=(scale, scale), square=True)

    def one(record: int) -> np.ndarray | None:
        try:
            return decode.load_crop(source[record]["image"], geometry.central)[0]
        except decode.UnreadableImageError:
            return None

    total = np.zeros((scale, scale, 3))
    products = np.zeros((3, 3))
    images = 0
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        for start in range(0, len(source), 1024):
            for pixels in pool.map(one, range(start, min(start + 1024, len(source)))):
                if pixels is None:
                    continue
                images += 1
                total += pixels
                flat = pixels.reshape(-1, 3).astype(np.float64)
                products += flat.T @ flat
    if not images:
        raise UserError("no image of the training set can be read")
    count = images * scale * scale
    mean = total.sum(axis=(0, 1)) / count
    covariance = (products / count - np.outer(mean, mean)) / 255.0**2
    return ColorStatistics(
        mean, *principal_components(covariance), (total / images).astype(np.float32)
    )


def stored(source: Source, scale: int, path: Path) -> ColorStatistics:
    """Return `of_training_set`, cached in the file `path` (`.npz`) if that can be written."""
    if path.exists():
        return load(path)
    statistics = of_training_set(source, scale)
    try:
        save(statistics, path)
    except OSError as error:
        _LOG.warning(
            "the color statistics are not cached: cannot write %s (%s)", path, error.strerror
        )
    return statistics


def save(statistics: ColorStatistics, path: Path) -> None:
    """Write statistics to a `.npz` file, atomically."""
    known = {name: value for name, value in statistics._asdict().items() if value is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(path) as file:
        np.savez(file, **known)


def load(path: Path) -> ColorStatistics:
    """Read a file written by `save`.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it contains something else.
    """
    with np.load(path, allow_pickle=False) as arrays:
        if missing := {*ColorStatistics._fields} - {"mean_image"} - {*arrays}:
            raise ValueError(f"{path} has no array {missing.pop()!r}")
        return ColorStatistics(**{"mean_image": None, **arrays})
