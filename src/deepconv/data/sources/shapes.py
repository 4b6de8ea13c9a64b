"""The embedded data set: twelve classes that differ only in shape or texture.

Every image is drawn, so the set needs neither a download nor TensorFlow; it is a pure function of a
constant seed, the split and the index. Colors, contrast, noise and the area of the foreground have
the same distribution in every class: a network that is better than chance has learned shape.
"""

import io
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

Size = tuple[int, int]
Box = tuple[float, float, float, float]
Region = Callable[[np.ndarray, np.ndarray], np.ndarray]

SEED = 2012
SPLITS = {"train": 3600, "validation": 600}

SHORTER_SIDE = (72, 112)
ASPECT_RATIO = 4 / 3
EXTREME_ASPECT_RATIO = 2.0
EXTREME_SHARE = 0.04

# The largest fraction that the sparsest texture can cover inside the square.
AREA_FRACTION = (0.12, 0.22)
MAX_ROTATION = np.pi / 6
SQUEEZE = (0.88, 1.0)
SUPERSAMPLING = 3

COLOR_RANGE = (30.0, 225.0)
MIN_CONTRAST = 140.0
MAX_GRADIENT = 40.0
MAX_SHADING = 10.0
NOISE_DEVIATION = (2.0, 6.0)
JPEG_QUALITY = 90


def _disk(rng: np.random.Generator) -> Region:
    return lambda x, y: x**2 + y**2 < 1


def _ring(rng: np.random.Generator) -> Region:
    hole = rng.uniform(0.5, 0.7)
    return lambda x, y: (x**2 + y**2 < 1) & (x**2 + y**2 > hole**2)


def _square(rng: np.random.Generator) -> Region:
    return lambda x, y: np.maximum(np.abs(x), np.abs(y)) < np.sqrt(0.5)


def _polygon(points: int, notch: float) -> Region:
    """Return the star with tips at radius 1 and notches at radius `notch` between them."""
    half = np.pi / points

    def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        # Mirroring folds the figure into one half of one tip, where a single edge bounds it.
        angle = np.abs((np.arctan2(y, x) + half) % (2 * half) - half)
        radius = np.hypot(x, y)
        u, v = radius * np.cos(angle), radius * np.sin(angle)
        return np.asarray((u - 1) * notch * np.sin(half) < v * (notch * np.cos(half) - 1))

    return inside


def _triangle(rng: np.random.Generator) -> Region:
    return _polygon(3, np.cos(np.pi / 3))


def _star(rng: np.random.Generator) -> Region:
    return _polygon(5, rng.uniform(0.4, 0.5))


def _cross(rng: np.random.Generator) -> Region:
    thickness = rng.uniform(0.22, 0.32)

    def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        x, y = np.abs(x), np.abs(y)
        return np.asarray((np.minimum(x, y) < thickness) & (np.maximum(x, y) < 0.93))

    return inside


def _crescent(rng: np.random.Generator) -> Region:
    shift, radius = rng.uniform(0.45, 0.6), rng.uniform(0.75, 0.9)
    return lambda x, y: (x**2 + y**2 < 1) & ((x - shift) ** 2 + y**2 > radius**2)


def _heart(rng: np.random.Generator) -> Region:
    def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        # A unit circle whose two halves are raised away from the middle, flipped so that y is down.
        x, y = 1.35 * x, -1.35 * y + 0.2
        return x**2 + (y - 0.8 * np.sqrt(np.abs(x))) ** 2 < 1

    return inside


def _arrow(rng: np.random.Generator) -> Region:
    neck, thickness = rng.uniform(-0.05, 0.15), rng.uniform(0.18, 0.26)

    def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        shaft = (np.abs(y) < thickness) & (x > -0.95) & (x <= neck)
        head = (x > neck) & (np.abs(y) < 0.75 * (1 - x) / (1 - neck))
        return np.asarray(shaft | head)

    return inside


def _patch(rng: np.random.Generator) -> Region:
    """Return an irregular round patch for a texture to fill."""
    depths, phases = rng.uniform(0, 0.08, size=2), rng.uniform(0, 2 * np.pi, size=2)

    def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        angle = np.arctan2(y, x)
        dents = [
            depth * (1 + np.cos(waves * angle + phase))
            for waves, depth, phase in zip((2, 3), depths, phases, strict=True)
        ]
        return np.asarray(np.hypot(x, y) < 1 - sum(dents))

    return inside


def _textured(patch: Region, texture: Region) -> Region:
    return lambda x, y: patch(x, y) & texture(x, y)


def _stripes(rng: np.random.Generator) -> Region:
    period, phase = rng.uniform(0.45, 0.6), rng.uniform()
    return _textured(_patch(rng), lambda x, y: (x / period + phase) % 1 < 0.5)


def _checkerboard(rng: np.random.Generator) -> Region:
    cell, (row, column) = rng.uniform(0.4, 0.5), rng.uniform(0, 2, size=2)

    def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray((np.floor(y / cell + row) + np.floor(x / cell + column)) % 2 == 0)

    return _textured(_patch(rng), inside)


def _dots(rng: np.random.Generator) -> Region:
    spacing, (row, column) = rng.uniform(0.48, 0.56), rng.uniform(size=2)

    def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        v = y / spacing + row
        # Every other row is shifted by half a dot, so that the gaps do not look like stripes.
        u = x / spacing + column + 0.5 * (np.floor(v) % 2)
        return np.asarray((u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < 0.35**2)

    return _textured(_patch(rng), inside)


# A figure draws its proportions at random and returns the test of which points belong to it, with
# coordinates in the unit disk.
_FIGURES: dict[str, Callable[[np.random.Generator], Region]] = {
    "disk": _disk,
    "ring": _ring,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "crescent": _crescent,
    "heart": _heart,
    "arrow": _arrow,
    "stripes": _stripes,
    "checkerboard": _checkerboard,
    "dots": _dots,
}

CLASSES = tuple(_FIGURES)

_UNIT = ((np.arange(128) + 0.5) / 64 - 1).astype(np.float32)


def draw_size(rng: np.random.Generator) -> Size:
    """Draw the size of an image.

    Args:
      rng: the source of randomness.

    Returns:
      (height, width) in pixels: the shorter side is uniform in `SHORTER_SIDE`, the logarithm of
      the aspect ratio is uniform up to `ASPECT_RATIO` either way, and for `EXTREME_SHARE` of the
      images lies between that and `EXTREME_ASPECT_RATIO`.
    """
    shorter = rng.integers(*SHORTER_SIDE, endpoint=True)
    if rng.uniform() < EXTREME_SHARE:
        stretch = rng.uniform(np.log(ASPECT_RATIO), np.log(EXTREME_ASPECT_RATIO))
    else:
        stretch = rng.uniform(0, np.log(ASPECT_RATIO))
    longer = round(shorter * np.exp(stretch))
    return (int(shorter), longer) if rng.uniform() < 0.5 else (longer, int(shorter))


def draw_mask(label: int, size: Size, rng: np.random.Generator) -> np.ndarray:
    """Draw where the figure of a class covers the image.

    The figure is inside the central square and, as far as it fits, in the part that all square
    crops of the shorter side share.

    Args:
      label: the index of the class in `CLASSES`.
      size: (height, width) in pixels.
      rng: the source of randomness.

    Returns:
      float32 `[H, W]`, the covered fraction of each pixel in [0, 1]. It sums to a fraction of the
      central square that is uniform in `AREA_FRACTION` whatever the class.
    """
    figure = _FIGURES[CLASSES[label]](rng)
    region = _posed(
        figure, angle=rng.uniform(-MAX_ROTATION, MAX_ROTATION), squeeze=rng.uniform(*SQUEEZE)
    )
    inside = region(_UNIT[None, :], _UNIT[:, None])
    side = min(size)
    unit_area = 4 * inside.mean()
    scale = side * np.sqrt(rng.uniform(*AREA_FRACTION) / unit_area)
    spans = [_UNIT[np.flatnonzero(inside.any(axis=axis))[[0, -1]]] * scale for axis in (1, 0)]
    starts = [
        _draw_start(length, side, end - begin, rng)
        for length, (begin, end) in zip(size, spans, strict=True)
    ]
    return _rasterize(region, size, spans, starts, scale)


def _posed(figure: Region, angle: float, squeeze: float) -> Region:
    sine, cosine = np.float32(np.sin(angle)), np.float32(np.cos(angle))
    narrow = np.float32(squeeze)
    return lambda x, y: figure(cosine * x + sine * y, (cosine * y - sine * x) / narrow)


def _draw_start(length: int, side: int, extent: float, rng: np.random.Generator) -> float:
    """Draw where the figure begins along one axis of the image."""
    # Square crops begin at 0 ... length - side, and so share [length - side, side].
    slack = max(2 * side - length - extent, 0)
    return (length - extent) / 2 + slack * rng.uniform(-0.5, 0.5)


def _rasterize(
    region: Region,
    size: Size,
    spans: list[np.ndarray],
    starts: list[float],
    scale: float,
) -> np.ndarray:
    """Return the coverage `[H, W]` of a region whose spans begin at the given starts."""
    window, samples = [], []
    for length, (begin, end), start in zip(size, spans, starts, strict=True):
        # The spans are exact only to a step of the unit grid, at most a pixel.
        first = max(int(start) - 1, 0)
        last = min(int(start + end - begin) + 3, length)
        pixels = first + (np.arange((last - first) * SUPERSAMPLING) + 0.5) / SUPERSAMPLING
        samples.append(((pixels - start + begin) / scale).astype(np.float32))
        window.append(slice(first, last))
    y, x = samples
    inside = region(x[None, :], y[:, None])
    mask = np.zeros(size, np.float32)
    mask[tuple(window)] = inside.reshape(
        len(y) // SUPERSAMPLING, SUPERSAMPLING, len(x) // SUPERSAMPLING, SUPERSAMPLING
    ).mean(axis=(1, 3))
    return mask


def paint(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Color a figure and its background.

    The background has a linear gradient, the figure a linear shading with mean 0 and a strength
    independent of its form, and the whole image has noise.

    Args:
      mask: float32 `[H, W]` in [0, 1], the coverage of the figure.
      rng: the source of randomness.

    Returns:
      uint8 `[H, W, 3]`, RGB in 0 ... 255.
    """
    foreground, background = _draw_colors(rng)
    gradient = rng.uniform(-MAX_GRADIENT, MAX_GRADIENT, size=3).astype(np.float32)
    ramp = _ramp(mask.shape, rng)
    shading = rng.uniform(0, MAX_SHADING) * _standardized(_ramp(mask.shape, rng), mask)
    deviation = np.float32(rng.uniform(*NOISE_DEVIATION))
    noise = deviation * rng.standard_normal((*mask.shape, 3), dtype=np.float32)

    behind = background + gradient * (ramp / np.ptp(ramp))[..., None]
    figure = foreground + shading[..., None]
    image = behind + mask[..., None] * (figure - behind) + noise
    return np.asarray(np.clip(np.rint(image), 0, 255).astype(np.uint8))


def _draw_colors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw two float32 RGB colors at least `MIN_CONTRAST` apart."""
    while True:
        colors = rng.uniform(*COLOR_RANGE, size=(2, 3)).astype(np.float32)
        if np.linalg.norm(colors[0] - colors[1]) >= MIN_CONTRAST:
            return colors[0], colors[1]


def _ramp(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Return a linear function `[H, W]` of the position with a random direction and mean 0."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = (np.arange(length, dtype=np.float32) - (length - 1) / 2 for length in size)
    return np.float32(np.sin(angle)) * y[:, None] + np.float32(np.cos(angle)) * x[None, :]


def _standardized(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Shift and scale values to weighted mean 0 and weighted variance 1."""
    total = weights.sum()
    centered = values - (weights * values).sum() / total
    return np.asarray(centered / np.sqrt((weights * centered**2).sum() / total))


def bounding_box(mask: np.ndarray) -> Box:
    """Return the tight box of the pixels that a mask touches.

    Args:
      mask: `[H, W]`, positive where the figure is.

    Returns:
      (ymin, xmin, ymax, xmax), each in [0, 1].
    """
    (ymin, ymax), (xmin, xmax) = (
        np.flatnonzero((mask > 0).any(axis=1 - axis))[[0, -1]] + (0, 1) for axis in (0, 1)
    )
    height, width = mask.shape
    return float(ymin / height), float(xmin / width), float(ymax / height), float(xmax / width)


def draw(label: int, rng: np.random.Generator) -> tuple[np.ndarray, Box]:
    """Draw one image of a class.

    Args:
      label: the index of the class in `CLASSES`.
      rng: the source of randomness.

    Returns:
      The image, uint8 `[H, W, 3]`, RGB in 0 ... 255, and the box (ymin, xmin, ymax, xmax) of its
      figure, each in [0, 1].
    """
    mask = draw_mask(label, draw_size(rng), rng)
    return paint(mask, rng), bounding_box(mask)


def example(split: str, index: int) -> dict[str, Any]:
    """Return one example of the data set, a pure function of the arguments and `SEED`.

    Args:
      split: a name in `SPLITS`.
      index: the position in the split, from 0; the classes take turns.

    Returns:
      `image` as JPEG bytes, `label` as the index in `CLASSES`, `bbox` as
      (ymin, xmin, ymax, xmax) in [0, 1], `file_name`.
    """
    label = index % len(CLASSES)
    rng = np.random.default_rng((SEED, list(SPLITS).index(split), index))
    image, box = draw(label, rng)
    return {
        "image": _jpeg(image),
        "label": label,
        "bbox": tfds.features.BBox(*box),
        "file_name": f"{split}_{index:05d}.jpg",
    }


def _jpeg(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    # Subsampled chroma would blur fine textures more than plain shapes, a cue other than form.
    Image.fromarray(image).save(file, "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4")
    return file.getvalue()


class Shapes(tfds.core.GeneratorBasedBuilder):
    """The data set of `example` for tensorflow_datasets, in the order of the indices."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Drawn images of twelve classes that differ only in shape or texture.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=CLASSES),
                    "bbox": tfds.features.BBoxFeature(),
                    "file_name": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(SPLITS[split]):
            yield index, example(split, index)
