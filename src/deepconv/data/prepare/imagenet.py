"""ImageNet of 2012 from its two published archives, without TensorFlow and without unpacking.

    folder = prepare(Path("/archives"), Path("~/tensorflow_datasets").expanduser())

The result is the same as that of tfds' own builder: name and version, features, labels and splits,
and the same records in the same order, so `train[:90%]` means the same images. Files are copied
byte for byte except for the 23 that are not RGB or gray JPEGs (22 are CMYK, one is a PNG); as with
tfds, those become RGB JPEGs of quality 100.
"""

import contextlib
import dataclasses
import functools
import hashlib
import io
import itertools
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import PIL.Image
import tensorflow_datasets as tfds
from tqdm import tqdm

from deepconv.data import decode
from deepconv.data.prepare import shards
from deepconv.exceptions import UserError

NAME = "imagenet2012"
VERSION = "5.1.0"
ARCHIVES = {"train": "ILSVRC2012_img_train.tar", "validation": "ILSVRC2012_img_val.tar"}

# A reader keeps the files of all shards open. tfds' own 1024 + 64 shards exceed the default limit
# of 1024 files per process.
SHARDS = {"train": 256, "validation": 16}

_QUALITY = 100


@dataclasses.dataclass(frozen=True)
class Edition:
    """The known contents of the archives.

    Attributes:
      synsets: the classes in the order of their labels.
      train_images: number of training images.
      validation_labels: the synset of each validation image, in the order of their numbers.
    """

    synsets: tuple[str, ...]
    train_images: int
    validation_labels: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of images of each split."""
        return {"train": self.train_images, "validation": len(self.validation_labels)}

    @property
    def validation_names(self) -> list[str]:
        """Return the files' names in the order of their numbers."""
        count = len(self.validation_labels)
        return [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, count + 1)]

    def label(self, file_name: str) -> int | None:
        """Return the label of a file, or None if the set has no such file."""
        return self._labels.get(self._validation.get(file_name) or file_name.partition("_")[0])

    @functools.cached_property
    def _validation(self) -> dict[str, str]:
        return dict(zip(self.validation_names, self.validation_labels, strict=True))

    @functools.cached_property
    def _labels(self) -> dict[str, int]:
        return {synset: label for label, synset in enumerate(self.synsets)}


@functools.cache
def published() -> Edition:
    """Return the contents of the challenge's data set, with its 1000 classes."""

    def lines(name: str) -> tuple[str, ...]:
        return tuple(tfds.core.tfds_path(f"datasets/imagenet2012/{name}").read_text().split())

    return Edition(lines("labels.txt"), 1_281_167, lines("validation_labels.txt"))


class Picture(NamedTuple):
    """The location of an image in an archive.

    Attributes:
      file_name: its file name, without folders.
      offset: offset of its first byte.
      size: size in bytes.
    """

    file_name: str
    offset: int
    size: int


def prepare(
    tars: Path,
    data_dir: Path,
    *,
    edition: Edition | None = None,
    shard_counts: Mapping[str, int] = SHARDS,
) -> Path:
    """Write the data set, or the missing part of it.

    Args:
      tars: the folder of the two archives.
      data_dir: the folder of all data sets.
      edition: the archives' expected contents; by default the published ones.
      shard_counts: number of shards of each split.

    Returns:
      The folder of the data set.

    Raises:
      UserError: if an archive is missing, truncated or not the published one, or there is not
        enough disk space.
    """
    edition = edition or published()
    folder = data_dir / NAME / VERSION
    if shards.is_prepared(folder, origin={}):
        return folder
    archives = {split: tars / name for split, name in ARCHIVES.items()}
    missing = [archive.name for archive in archives.values() if not archive.is_file()]
    if missing:
        raise UserError(
            f"{tars} does not contain {' and '.join(missing)}; both archives are needed: register "
            "at https://image-net.org/download-images to download them"
        )
    sizes = {archive.name: archive.stat().st_size for archive in archives.values()}
    shards.require_space(folder, sum(sizes.values()))
    features = tfds.features.FeaturesDict(
        {
            "file_name": tfds.features.Text(),
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=list(edition.synsets)),
        }
    )
    pictures = {
        "train": train_pictures(archives["train"], edition),
        "validation": validation_pictures(archives["validation"], edition),
    }
    plan = shards.Plan(
        name=NAME,
        features=features,
        splits={
            split: [
                shards.Shard(
                    len(part),
                    functools.partial(_records, archives[split], part, features, edition),
                )
                for part in dealt(split, pictures[split], shard_counts[split])
            ]
            for split in ARCHIVES
        },
        origin=sizes,
        description="The ImageNet large scale visual recognition challenge of 2012.",
        homepage="https://image-net.org/",
    )
    shards.write(plan, folder)
    return folder


def train_pictures(archive: Path, edition: Edition) -> list[Picture]:
    """List the images of the training archive, an archive of one per class, without reading them.

    Raises:
      UserError: if it is incomplete, or not the published archive.
    """
    pictures: list[Picture] = []
    with _described(archive), tarfile.open(archive, "r:") as classes:
        found = {PurePosixPath(member.name).stem: member for member in classes if member.isreg()}
        _require_same(archive, "classes", edition.synsets, list(found))
        for synset in tqdm(edition.synsets, desc=archive.name, unit=" classes", disable=None):
            with (
                _described(f"{archive}, in {synset}.tar,"),
                tarfile.open(fileobj=classes.extractfile(found[synset]), mode="r:") as members,
            ):
                of_class = _pictures(members, found[synset].offset_data)
            for picture in of_class:
                if not picture.file_name.startswith(f"{synset}_"):
                    raise UserError(f"{archive}: {picture.file_name} is in {synset}.tar")
            pictures += of_class
    names = {picture.file_name for picture in pictures}
    if {len(names), len(pictures)} != {edition.train_images}:
        raise UserError(
            f"{archive} has {len(pictures):,} images, {len(names):,} of them distinct, not "
            f"{edition.train_images:,}: it is incomplete, or not the published archive"
        )
    return pictures


def validation_pictures(archive: Path, edition: Edition) -> list[Picture]:
    """List the validation images without reading them.

    Raises:
      UserError: if the archive is incomplete, or not the published one.
    """
    with _described(archive), tarfile.open(archive, "r:") as members:
        pictures = _pictures(members, 0)
    names = [picture.file_name for picture in pictures]
    _require_same(archive, "images", edition.validation_names, names)
    return pictures


def dealt(split: str, pictures: Sequence[Picture], count: int) -> list[list[Picture]]:
    """Order the images as tfds does, by a hash of their names, and divide them into `count` shards.

    Every shard, and every part of a split, is then a random sample of the classes.
    """

    def place(picture: Picture) -> bytes:
        return hashlib.md5(f"{split}{picture.file_name}".encode(), usedforsecurity=False).digest()

    ordered = sorted(pictures, key=place)
    ends = [round(len(ordered) * part / count) for part in range(count + 1)]
    return [ordered[start:end] for start, end in itertools.pairwise(ends)]


def rgb_or_gray_jpeg(data: bytes) -> bytes:
    """Return an image file unchanged, or as RGB JPEG if it is readable but not RGB or gray JPEG."""
    try:
        image = PIL.Image.open(io.BytesIO(data))
        # A JPEG with a preview image appended is an MPO to Pillow.
        if image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB"):
            return data
        file = io.BytesIO()
        decode.decode(data).save(file, "JPEG", quality=_QUALITY, subsampling="4:4:4")
    except Exception:  # Pillow's plugins raise anything; training counts unreadable images
        return data
    return file.getvalue()


def _records(
    archive: Path,
    pictures: Sequence[Picture],
    features: tfds.features.FeaturesDict,
    edition: Edition,
) -> Iterator[bytes]:
    with archive.open("rb") as file:
        for picture in pictures:
            file.seek(picture.offset)
            yield shards.serialize(
                features,
                {
                    "file_name": picture.file_name,
                    "image": rgb_or_gray_jpeg(file.read(picture.size)),
                    "label": edition.label(picture.file_name),
                },
            )


def _pictures(members: tarfile.TarFile, start: int) -> list[Picture]:
    return [
        Picture(PurePosixPath(member.name).name, start + member.offset_data, member.size)
        for member in members
        if member.isreg()
    ]


def _require_same(archive: Path, what: str, wanted: Sequence[str], found: Sequence[str]) -> None:
    missing, unexpected = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing:
        raise UserError(
            f"{archive} is incomplete: {len(missing):,} of {len(wanted):,} {what} are missing, for "
            f"example {missing[0]}"
        )
    if unexpected:
        raise UserError(f"{archive} is not the published archive: it contains {unexpected[0]}")
    if len(found) > len(wanted):
        raise UserError(f"{archive} has {len(found):,} {what}, not {len(wanted):,}")


@contextlib.contextmanager
def _described(archive: Path | str) -> Iterator[None]:
    try:
        yield
    except tarfile.TarError as error:
        raise UserError(f"{archive} is truncated or not a tar file: {error}") from None
