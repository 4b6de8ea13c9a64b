"""From the bytes of an image file to the crop that a network sees, decoding as little as possible.

    pixels, crop = load_crop(data, geometry.central)

Pillow defines the result: the whole image decoded to RGB, rescaled by its antialiased bilinear
filter, and cropped. Ordinary JPEGs take a faster path, libjpeg-turbo and a SIMD version of the same
filter: rows below the crop are not decoded, large images are halved during decoding, and only the
crop is resampled. Everything else, and what libjpeg-turbo refuses, goes through Pillow.

For animations and files with several pages, the first image is used. Transparency is ignored; the
colors stored under it are used. More than 8 bits are reduced to 8, see `eight_bits`.
"""

import io
import math
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import PIL.Image
import PIL.TiffImagePlugin
import simplejpeg

try:
    import cykooz_resizer as resizer
except ImportError:  # no wheel for Linux on ARM
    resizer = None

# A quarter of a gigabyte as RGB; from here on Pillow warns of decompression bombs.
MAX_PIXELS = 89_478_485

# The formats of data sets. Pillow would read others as well, and start Ghostscript for one of them.
FORMATS = {"AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP"}

# An image halved by the decoder stays at least this much larger than needed. The decoder's filter
# is sharper than Pillow's; with less margin, photographs differ by more than one gray level.
SPARE_RESOLUTION = 1.5

# libjpeg-turbo's warning about the rows it skips up to the next marker, a restart or the end. It
# reports only the first problem in a file, or the one it stopped at.
_REST_SKIPPED = re.compile("Corrupt JPEG data: [0-9]+ extraneous bytes before marker 0xd[0-79]")


class UnreadableImageError(Exception):
    """The image cannot be decoded; the message says why."""


class Crop(NamedTuple):
    """A window of a rescaled image; all values are in rescaled pixels.

    Attributes:
      height: height of the whole image.
      width: width of the whole image.
      top: offset of the window.
      left: offset of the window.
      rows: height of the window.
      columns: width of the window.
    """

    height: int
    width: int
    top: int
    left: int
    rows: int
    columns: int


class Box(NamedTuple):
    """A part of an image; the edges are in pixels of the image."""

    left: float
    top: float
    right: float
    bottom: float


def rescaled_size(height: int, width: int, shorter: int) -> tuple[int, int]:
    """Return the (height, width) after isotropic rescaling to a shorter side (VGG section 3.1).

    The longer side is rounded to the nearest pixel, halves up.
    """
    if height <= width:
        return shorter, (2 * width * shorter + height) // (2 * height)
    return (2 * height * shorter + width) // (2 * width), shorter


def image_size(data: bytes) -> tuple[int, int]:
    """Return an image file's (height, width) without decoding its pixels.

    Raises:
      UnreadableImageError: if the format is not supported, or the image has more than MAX_PIXELS.
    """
    frame = _read_frame(data)
    if frame is not None:
        _check_pixels(frame.height, frame.width)
        return frame.height, frame.width
    image = _open(data)
    return image.height, image.width


def whole(height: int, width: int, shorter: int) -> Crop:
    """Return the window that is the whole image, rescaled to a shorter side."""
    rescaled = rescaled_size(height, width, shorter)
    return Crop(*rescaled, 0, 0, *rescaled)


def load_crop(data: bytes, choose: Callable[[int, int], Crop]) -> tuple[np.ndarray, Crop]:
    """Decode, rescale and crop an image file.

    EXIF orientation is ignored, as in other ImageNet readers.

    Args:
      data: the contents of the file.
      choose: maps the image's (height, width) to the crop; called once, before pixels are decoded.

    Returns:
      uint8 RGB `[rows, columns, 3]`, and the crop.

    Raises:
      UnreadableImageError: if the file cannot be decoded, is truncated, or exceeds MAX_PIXELS.
    """
    frame = _read_frame(data)
    if frame is None:
        image = decode(data)
        crop = choose(image.height, image.width)
        return resample(image, crop), crop
    _check_pixels(frame.height, frame.width)
    crop = choose(frame.height, frame.width)
    try:
        return _cut_jpeg(data, frame, crop), crop
    except ValueError:  # Pillow may still read it, and its errors say more
        return resample(decode(data), crop), crop


def decode(data: bytes) -> PIL.Image.Image:
    """Decode a whole image file to RGB with Pillow.

    Raises:
      UnreadableImageError: if Pillow cannot read all of it, if its values have no known scale (see
        `eight_bits`), or if it has more than MAX_PIXELS.
    """
    image = _open(data)
    try:
        image.load()
        return to_rgb(image)
    except UnreadableImageError:
        raise
    except Exception as error:  # Pillow's plugins raise anything on broken files
        raise UnreadableImageError(f"{type(error).__name__}: {error}") from error


def eight_bits(values: np.ndarray, bits: int | None) -> np.ndarray:
    """Scale gray values to 8 bits.

    floor(v / 2^(bits - 8)), the most significant 8 bits. If the number of bits is unknown: integers
    up to 255 are kept, integers up to 65535 are treated as 16 bits; floats up to 1 become 255 v,
    floats up to 255 are kept, both rounded to the nearest integer, halves to even.

    Args:
      values: integers or floats, of any shape.
      bits: number of bits of a white pixel, at least 8; None if the format does not define it, as
        for 32-bit integers and floats in TIFF.

    Returns:
      uint8, of the same shape.

    Raises:
      UnreadableImageError: if a value is negative, too large, or NaN.
    """
    low, high = values.min(), values.max()
    white = 2**bits - 1 if bits else 255 if values.dtype.kind == "f" else 65535
    if not (low >= 0 and high <= white):  # also true of NaN
        raise UnreadableImageError(
            f"gray values from {low:g} to {high:g}; only 0 to {white} can be read"
        )
    if values.dtype.kind == "f":
        return np.asarray(np.rint(values * 255 if high <= 1 else values).astype(np.uint8))
    if bits is None:
        bits = 8 if high <= 255 else 16
    return (values >> (bits - 8)).astype(np.uint8)


def to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """Convert a decoded image of any mode to RGB.

    Raises:
      UnreadableImageError: see `eight_bits`.
      ValueError: if Pillow cannot convert the mode.
    """
    mode = image.mode
    if mode in ("I", "F") or mode.startswith("I;16"):  # Pillow would clip to 255, not scale
        gray = eight_bits(np.asarray(image), _bits(image))
        if _tag(image, PIL.TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:
            gray = 255 - gray  # zero is white; Pillow handles this only up to 8 bits
        image = PIL.Image.fromarray(gray)
    elif mode == "La":  # gray premultiplied by alpha; for colors Pillow undoes it when loading
        image = image.convert("LA")
    image.info.pop("transparency", None)  # otherwise Pillow warns that it is lost
    return image if image.mode == "RGB" else image.convert("RGB")


def _bits(image: PIL.Image.Image) -> int | None:
    """Return the number of bits of a gray value with more than 8, or None if it is unknown.

    Pillow scales PNM and JPEG 2000 to 16 bits.
    """
    bits = 32 if image.mode == "F" else 16
    if image.format == "TIFF":
        bits = _tag(image, PIL.TiffImagePlugin.BITSPERSAMPLE) or bits
    return bits if bits < 32 else None


def _tag(image: PIL.Image.Image, tag: int) -> int | None:
    """Return the value of a TIFF tag, or the first one if there are several."""
    if not isinstance(image, PIL.TiffImagePlugin.TiffImageFile):
        return None
    value = image.tag_v2.get(tag)
    return value[0] if isinstance(value, tuple) else value


def _open(data: bytes) -> PIL.Image.Image:
    """Read an image file's header with Pillow, which decodes the pixels on demand."""
    try:
        image = PIL.Image.open(io.BytesIO(data))
    except PIL.UnidentifiedImageError as error:  # its message contains a memory address
        raise UnreadableImageError("not an image of a known format") from error
    except Exception as error:  # Pillow's plugins raise anything on broken files
        raise UnreadableImageError(f"{type(error).__name__}: {error}") from error
    if image.format not in FORMATS:
        raise UnreadableImageError(f"the format {image.format} is not supported")
    _check_pixels(image.height, image.width)
    return image


def resample(image: PIL.Image.Image, crop: Crop) -> np.ndarray:
    """Rescale and crop in one pass: only the window is resampled.

    Bilinear, antialiased when shrinking, as in Pillow and torchvision.

    Args:
      image: RGB image.
      crop: the window.

    Returns:
      uint8 `[rows, columns, 3]`.
    """
    return _resize(image, _box(crop, image.height, image.width), crop.rows, crop.columns)


def _check_pixels(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise UnreadableImageError(f"{width}x{height} is more than {MAX_PIXELS} pixels")


def _box(crop: Crop, height: float, width: float) -> Box:
    """Return where a crop lies in the image before rescaling, given that image's size."""
    vertical, horizontal = height / crop.height, width / crop.width
    return Box(
        crop.left * horizontal,
        crop.top * vertical,
        min((crop.left + crop.columns) * horizontal, width),
        min((crop.top + crop.rows) * vertical, height),
    )


def _resize(image: PIL.Image.Image, box: Box, rows: int, columns: int) -> np.ndarray:
    return np.asarray(image.resize((columns, rows), PIL.Image.Resampling.BILINEAR, box=box))


class _Frame(NamedTuple):
    """The contents of a JPEG's frame header.

    Attributes:
      height: height of the image.
      width: width of the image.
      position: offset in the file of the two bytes of the height.
      progressive: whether the image is stored in several passes.
    """

    height: int
    width: int
    position: int
    progressive: bool


def _read_frame(data: bytes) -> _Frame | None:
    """Find the frame header of an ordinary JPEG; return None for everything else.

    An ordinary JPEG ends with an end marker (libjpeg-turbo would fill in missing parts with gray;
    Pillow refuses them), has 8 bits, Huffman coding, and gray, YCbCr or RGB colors.
    """
    if not (data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9")):
        return None
    start = 2
    while start + 10 <= len(data) and data[start] == 0xFF:
        marker = data[start + 1]
        if marker in (0xC0, 0xC1, 0xC2):
            precision, components = data[start + 4], data[start + 9]
            height = int.from_bytes(data[start + 5 : start + 7])
            width = int.from_bytes(data[start + 7 : start + 9])
            if precision != 8 or components not in (1, 3) or not height or not width:
                return None
            return _Frame(height, width, start + 5, marker == 0xC2)
        # Segments before the frame: tables, applications' data, comments.
        if not (marker in (0xC4, 0xDB, 0xDD, 0xFE) or 0xE0 <= marker <= 0xEF):
            return None
        start += 2 + int.from_bytes(data[start + 2 : start + 4])
    return None


def _cut_jpeg(data: bytes, frame: _Frame, crop: Crop) -> np.ndarray:
    """Decode what a crop needs of a JPEG, and resample it.

    Raises:
      ValueError: if libjpeg-turbo fails or warns.
    """
    vertical, horizontal = frame.height / crop.height, frame.width / crop.width
    divisor = 1
    while divisor < 8 and min(vertical, horizontal) >= 2 * divisor * SPARE_RESOLUTION:
        divisor *= 2

    # The last row that the filter reads for the crop, and two more for chroma smoothing.
    bottom = (crop.top + crop.rows) * vertical + max(vertical, divisor) + 2 * divisor
    rows = min(math.ceil(bottom), frame.height)
    file: bytes | bytearray = data
    if frame.progressive:
        rows = frame.height
    elif rows < frame.height:
        # The decoder works from the top until it has as many rows as the header states.
        file = bytearray(data)
        file[frame.position : frame.position + 2] = rows.to_bytes(2)

    height, width = -(-rows // divisor), -(-frame.width // divisor)
    scaled = {} if divisor == 1 else {"min_height": height, "min_width": width}
    pixels = np.empty((height, width, 3), np.uint8)
    try:
        simplejpeg.decode_jpeg(file, buffer=pixels, **scaled)
    except ValueError as error:  # skipped rows after the last one needed are harmless
        if rows == frame.height or not _REST_SKIPPED.fullmatch(str(error)):
            raise
    box = _box(crop, frame.height / divisor, frame.width / divisor)
    return _resample_pixels(pixels, box, crop.rows, crop.columns)


def _resample_pixels(pixels: np.ndarray, box: Box, rows: int, columns: int) -> np.ndarray:
    """Resample a box to the given size, like Pillow's bilinear filter."""
    # Either resampler copies its input, so pass only the part that the filter reads.
    reach = math.ceil(max((box.right - box.left) / columns, (box.bottom - box.top) / rows, 1))
    first_row, first_column = max(int(box.top) - reach, 0), max(int(box.left) - reach, 0)
    pixels = pixels[
        first_row : math.ceil(box.bottom) + reach, first_column : math.ceil(box.right) + reach
    ]
    left, top = box.left - first_column, box.top - first_row
    if resizer is None:
        within = Box(left, top, box.right - first_column, box.bottom - first_row)
        return _resize(PIL.Image.fromarray(pixels), within, rows, columns)
    rgb = resizer.PixelType.U8x3
    source = resizer.ImageData(pixels.shape[1], pixels.shape[0], rgb, pixels.tobytes())
    target = resizer.ImageData(columns, rows, rgb)
    options = resizer.ResizeOptions(
        resize_alg=resizer.ResizeAlg.convolution(resizer.FilterType.bilinear),
        crop_box=resizer.CropBox(left, top, box.right - box.left, box.bottom - box.top),
    )
    resizer.Resizer().resize(source, target, options)
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(rows, columns, 3)
