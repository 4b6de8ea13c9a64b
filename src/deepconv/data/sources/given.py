"""Pictures that a program has: paths, Pillow images and arrays, in any mixture.

source = open_given(["cat.jpg", PIL.Image.open("dog.png"), np.zeros((300, 400, 3), np.uint8)])
source.file_names  # ["cat.jpg", "picture 1", "picture 2"]
"""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import PIL.Image

from deepconv import naming
from deepconv.data import decode
from deepconv.data.sources.pictures import open_pictures
from deepconv.exceptions import UserError

Picture = str | os.PathLike[str] | PIL.Image.Image | np.ndarray | jax.Array


class Given:
    """Records of pictures, all with label 0.

    Attributes:
      file_names: the names of their files, or "picture 0" with their numbers.
    """

    def __init__(self, pictures: Sequence[Path | bytes], file_names: list[str]) -> None:
        self._pictures, self.file_names = pictures, file_names

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, record: int) -> dict[str, Any]:
        """Read one picture.

        Raises:
          UserError: if its file cannot be read.
        """
        image = self._pictures[record]
        if isinstance(image, Path):
            try:
                image = image.read_bytes()
            except OSError as error:
                name = self.file_names[record]
                raise UserError(f"{name} cannot be read: {error.strerror}") from None
        return {"image": image, "label": 0, "file_name": self.file_names[record]}


def open_given(pictures: Picture | Sequence[Picture]) -> Given:
    """Open one picture or several.

    Args:
      pictures: paths of files or folders, Pillow images, arrays uint8 RGB `[H, W, 3]` or
        `[N, H, W, 3]`, or a sequence of such.

    Raises:
      UserError: if there is none, a path does not exist, or an array has another shape or dtype.
    """
    one = isinstance(pictures, str | os.PathLike | PIL.Image.Image | np.ndarray | jax.Array)
    found: list[Path | bytes] = []
    names: list[str] = []
    for picture in [pictures] if one else list(pictures):  # type: ignore[arg-type]
        if isinstance(picture, str | os.PathLike):
            paths = open_pictures([Path(picture)]).file_names
            found += map(Path, paths)
            names += map(naming.decoded, paths)
            continue
        encoded = _encoded(picture)
        names += [f"picture {len(found) + number}" for number in range(len(encoded))]
        found += encoded
    if not found:
        raise UserError("no pictures are given")
    return Given(found, names)


def _encoded(picture: Any) -> list[bytes]:
    """Return the pixels as files, so that all pictures are read in the same way."""
    if isinstance(picture, PIL.Image.Image):
        try:
            return [_file(decode.to_rgb(picture.copy()))]
        except (decode.UnreadableImageError, ValueError) as error:
            raise UserError(f"an image of mode {picture.mode} cannot be used: {error}") from None
    if not isinstance(picture, np.ndarray | jax.Array):
        raise UserError(
            f"a picture is a path, a Pillow image or an array, not a {type(picture).__name__}"
        )
    array = np.asarray(picture)
    images = array[None] if array.ndim == 3 else array
    if array.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape:
        raise UserError(
            f"an array of pictures is uint8 RGB [H, W, 3] or [N, H, W, 3] in 0..255, not "
            f"{array.dtype} {list(array.shape)}"
        )
    return [_file(PIL.Image.fromarray(image)) for image in images]


def _file(image: PIL.Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PPM")  # not compressed
    return buffer.getvalue()
