"""From the bytes of an image file to the crop that a network sees, without resampling the rest."""

import io
from typing import NamedTuple

import numpy as np
import PIL.Image


class UnreadableImageError(Exception):
    """No decoder takes these bytes; the message says why."""


class Crop(NamedTuple):
    """A square window of an image that is thought rescaled; all in rescaled pixels.

    Attributes:
      height: of the whole image.
      width: of the whole image.
      top: offset of the window.
      left: offset of the window.
      size: side of the window.
    """

    height: int
    width: int
    top: int
    left: int
    size: int


def rescaled_size(height: int, width: int, shorter: int) -> tuple[int, int]:
    """Return the (height, width) after isotropic rescaling to a shorter side (VGG section 3.1).

    The longer side is rounded to the nearest pixel, a half upwards.
    """
    if height <= width:
        return shorter, (2 * width * shorter + height) // (2 * height)
    return (2 * height * shorter + width) // (2 * width), shorter


def decode(data: bytes) -> PIL.Image.Image:
    """Decode an image file to RGB.

    Raises:
      UnreadableImageError: if Pillow cannot read it whole.
    """
    try:
        image: PIL.Image.Image = PIL.Image.open(io.BytesIO(data))
        if image.mode.startswith("I;16"):  # Pillow would clip to 255, not scale
            image = PIL.Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return image.convert("RGB")
    except Exception as error:  # Pillow's plugins raise anything on broken files
        raise UnreadableImageError(f"{type(error).__name__}: {error}") from error


def resample(image: PIL.Image.Image, crop: Crop) -> np.ndarray:
    """Rescale and crop in one go: only the window is resampled.

    Bilinear, antialiased where the image shrinks, as Pillow and torchvision do it.

    Args:
      image: RGB.
      crop: the window.

    Returns:
      uint8 `[size, size, 3]`.
    """
    vertical, horizontal = image.height / crop.height, image.width / crop.width
    box = (
        crop.left * horizontal,
        crop.top * vertical,
        min((crop.left + crop.size) * horizontal, image.width),
        min((crop.top + crop.size) * vertical, image.height),
    )
    resized = image.resize((crop.size, crop.size), PIL.Image.Resampling.BILINEAR, box=box)
    return np.asarray(resized)
