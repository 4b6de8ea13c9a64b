"""Write a copy of a prepared data set with smaller images, which are faster to read and decode.

write_resized(source, target, shorter=512)
print(measure(images, (256, 512), shorter=512))
"""

import functools
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from deepconv.data import decode
from deepconv.data.pipeline import Geometry
from deepconv.data.prepare import shards
from deepconv.exceptions import UserError

DEFAULT_QUALITY = 95


def shrink(data: bytes, shorter: int, quality: int = DEFAULT_QUALITY) -> bytes:
    """Rescale an image file to a shorter side, with the filter that training uses.

    Training at a scale equal to `shorter` therefore sees the same pixels, up to JPEG compression.
    Chroma is kept at full resolution.

    Args:
      data: the contents of the file.
      shorter: the shorter side, in pixels.
      quality: quality of the JPEG.

    Returns:
      A JPEG; or `data` itself if the image is not larger, or cannot be read.
    """
    try:
        image: PIL.Image.Image = PIL.Image.open(io.BytesIO(data))
        if min(image.size) <= shorter:
            return data
        image = decode.decode(data)
    except Exception:  # Pillow's plugins raise anything; training counts unreadable images
        return data
    height, width = decode.rescaled_size(image.height, image.width, shorter)
    file = io.BytesIO()
    image.resize((width, height), PIL.Image.Resampling.BILINEAR).save(
        file, "JPEG", quality=quality, subsampling="4:4:4"
    )
    return file.getvalue()


def write_resized(
    source: Path, target: Path, *, shorter: int, quality: int = DEFAULT_QUALITY
) -> None:
    """Write a copy of a data set with smaller images, or the missing part of it.

    Everything except the images is copied unchanged.

    Args:
      source: the folder of the prepared set.
      target: `<data_dir>/<name>/<version>`.
      shorter: maximum of the shorter side, in pixels.
      quality: quality of the JPEGs.

    Raises:
      UserError: if the source is not a set of images in ArrayRecord or is damaged, the target
        exists with other settings, or there is not enough disk space.
    """
    info = tfds.builder_from_directory(source).info
    if info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise UserError(f"{source} is not in the format array_record")
    if "image" not in info.features:
        raise UserError(f"{source} has no feature 'image'")
    origin = {"source": info.full_name, "shorter": shorter, "quality": quality}
    if shards.is_prepared(target, origin):
        return
    files = {split: [Path(path) for path in part.filepaths] for split, part in info.splits.items()}
    size = sum(path.stat().st_size for paths in files.values() for path in paths)
    shards.require_space(target, size)
    image = tfds.features.Image(encoding_format="jpeg")  # of any size
    plan = shards.Plan(
        name=target.parent.name,
        features=tfds.features.FeaturesDict({**info.features, "image": image}),
        splits={
            split: [
                shards.Shard(length, functools.partial(_records, path, shorter, quality))
                for path, length in zip(files[split], part.shard_lengths, strict=True)
            ]
            for split, part in info.splits.items()
        },
        origin=origin,
        description=f"{info.full_name}, the shorter side at most {shorter}, JPEG of {quality}.",
        homepage=info.homepage,
    )
    shards.write(plan, target)


def _records(path: Path, shorter: int, quality: int) -> Iterator[bytes]:
    for record in shards.read(path):
        example = tf_example_pb2.Example.FromString(record)
        image = example.features.feature["image"].bytes_list.value
        original = image[0]
        image[0] = shrink(original, shorter, quality)
        yield record if image[0] == original else shards.canonical(example)


class Distortion(NamedTuple):
    """How shrinking changed the crops of some images.

    Attributes:
      scale: range that the crops' shorter sides S were drawn from.
      images: number of images read.
      shrunk: number of images that became smaller.
      bytes_before: mean file size before.
      bytes_after: mean file size after.
      difference: mean absolute difference in gray levels, over all images.
      difference_of_shrunk: likewise, over the images that became smaller.
      worst: the largest difference of one image.
    """

    scale: tuple[int, int]
    images: int
    shrunk: int
    bytes_before: float
    bytes_after: float
    difference: float
    difference_of_shrunk: float
    worst: float

    def __str__(self) -> str:
        """Return a one-line summary."""
        return (
            f"S in {list(self.scale)}: crops differ by {self.difference:.2f} gray levels on "
            f"average over {self.images} images, by {self.difference_of_shrunk:.2f} over the "
            f"{self.shrunk} shrunk ones, and by at most {self.worst:.2f}; the mean file size went "
            f"from {self.bytes_before / 1e3:.0f} KB to {self.bytes_after / 1e3:.0f} KB"
        )


def measure(
    images: Iterable[bytes], scale: tuple[int, int], *, shorter: int, quality: int = DEFAULT_QUALITY
) -> Distortion:
    """Compare training crops of images with the same crops of the shrunk images.

    Args:
      images: contents of image files; unreadable ones are skipped.
      scale: range of the crops' shorter side S.
      shorter: as in `shrink`.
      quality: as in `shrink`.
    """
    geometry = Geometry(crop=224, scale=scale)
    rows = []
    for number, data in enumerate(images):
        try:
            original = decode.decode(data)
        except decode.UnreadableImageError:
            continue
        smaller = shrink(data, shorter, quality)
        crop = geometry.random(original.height, original.width, np.random.default_rng(number))
        before, after = (
            decode.resample(image, crop).astype(np.float64)
            for image in (original, decode.decode(smaller))
        )
        rows.append((len(data), len(smaller), smaller != data, np.abs(after - before).mean()))
    if not rows:
        raise UserError("none of the images to measure can be read")
    before, after, shrunk, difference = map(np.array, zip(*rows, strict=True))
    return Distortion(
        scale,
        len(rows),
        int(shrunk.sum()),
        float(before.mean()),
        float(after.mean()),
        float(difference.mean()),
        float(difference[shrunk].mean()) if shrunk.any() else 0.0,
        float(difference.max()),
    )
