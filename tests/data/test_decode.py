"""Decoding to RGB, and resampling a window against resizing the whole image."""

import fractions
import math

import numpy as np
import PIL.Image
import pytest

from deepconv.data import decode


def shades(height, width, channels=3):
    """Return pixels whose every value differs from its neighbors by little."""
    y, x = np.indices((height, width))
    planes = [(3 * y + 2 * x + 40 * channel) % 200 for channel in range(channels)]
    return np.stack(planes, axis=-1).astype(np.uint8)


# The size after rescaling.


@pytest.mark.parametrize("shorter", [1, 224, 256, 384, 511])
def test_longer_side_is_rounded_to_the_nearest_a_half_upwards(shorter):
    for height in (1, 2, 3, 7, 72, 333, 375, 500):
        for width in (1, 2, 3, 7, 72, 333, 375, 500):
            exact = fractions.Fraction(max(height, width) * shorter, min(height, width))
            longer = math.floor(exact + fractions.Fraction(1, 2))
            expected = (shorter, longer) if height <= width else (longer, shorter)
            assert decode.rescaled_size(height, width, shorter) == expected


@pytest.mark.parametrize(
    ("height", "width", "shorter", "expected"),
    [
        (375, 500, 256, (256, 341)),  # 341.33
        (500, 333, 256, (384, 256)),  # 384.38
        (2, 3, 3, (3, 5)),  # 4.5
        (256, 256, 256, (256, 256)),
    ],
)
def test_rescaled_size_worked_by_hand(height, width, shorter, expected):
    assert decode.rescaled_size(height, width, shorter) == expected


# Decoding.


def rgb(image):
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def test_rgb_png_is_read_exactly(encode):
    pixels = shades(20, 30)
    np.testing.assert_array_equal(rgb(decode.decode(encode(pixels, "PNG"))), pixels)


def test_rgb_jpeg_is_read(encode):
    pixels = np.full((20, 30, 3), (200, 100, 50), np.uint8)
    assert np.abs(rgb(decode.decode(encode(pixels))) - pixels).max() <= 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_gray_is_repeated_in_every_channel(encode, kind):
    pixels = np.full((20, 30), 77, np.uint8)
    np.testing.assert_array_equal(
        rgb(decode.decode(encode(pixels, kind))), np.full((20, 30, 3), 77)
    )


def test_cmyk_jpeg_is_turned_to_rgb(tmp_path):
    # Without black, red is what cyan leaves of white, and so on.
    path = tmp_path / "cmyk.jpg"
    PIL.Image.new("CMYK", (30, 20), (55, 155, 205, 0)).save(path)
    assert PIL.Image.open(path).mode == "CMYK"
    read = rgb(decode.decode(path.read_bytes()))
    assert read.shape == (20, 30, 3)
    assert np.abs(read - (200, 100, 50)).max() <= 4


def test_palette_indices_are_looked_up(tmp_path):
    path = tmp_path / "palette.png"
    image = PIL.Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(path)
    assert PIL.Image.open(path).mode == "P"
    read = rgb(decode.decode(path.read_bytes()))
    np.testing.assert_array_equal(read, [[[10, 20, 30], [200, 100, 50]]])


def test_alpha_is_dropped(encode):
    pixels = np.concatenate([shades(20, 30), np.full((20, 30, 1), 9, np.uint8)], axis=-1)
    np.testing.assert_array_equal(rgb(decode.decode(encode(pixels, "PNG"))), pixels[..., :3])


def test_sixteen_bits_are_reduced_to_eight(encode):
    eight = shades(20, 30)[..., 0]
    data = encode(eight.astype(np.uint16) * 257, "PNG")
    # 16 bits per sample, at its place in the header.
    assert data[24] == 16
    read = rgb(decode.decode(data))
    assert np.abs(read - eight[..., None]).max() <= 1


def test_truncated_file_is_unreadable(truncated):
    with pytest.raises(decode.UnreadableImageError):
        decode.decode(truncated)


@pytest.mark.parametrize("data", [b"", b"not an image", b"\xff\xd8\xff", bytes(1000)])
def test_garbage_is_unreadable(data):
    with pytest.raises(decode.UnreadableImageError):
        decode.decode(data)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_truncated_png_is_unreadable(encode, kind):
    data = encode(shades(40, 40)[..., 0].astype(kind), "PNG")
    with pytest.raises(decode.UnreadableImageError):
        decode.decode(data[: len(data) // 2])


# Resampling.


@pytest.mark.parametrize(
    ("height", "width", "shorter", "size"),
    [
        (100, 140, 40, 32),  # shrinking
        (140, 100, 40, 40),
        (97, 61, 33, 21),  # by an odd factor
        (300, 200, 25, 20),  # twelvefold less
        (40, 56, 64, 48),  # growing
        (31, 47, 100, 90),
        (50, 70, 50, 30),  # neither
    ],
)
def test_a_window_is_the_whole_image_rescaled_and_then_cropped(height, width, shorter, size):
    noise = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = PIL.Image.fromarray(noise)
    tall, wide = decode.rescaled_size(height, width, shorter)
    whole = np.asarray(image.resize((wide, tall), PIL.Image.Resampling.BILINEAR)).astype(int)
    corners = [(0, 0), (tall - size, wide - size), (0, wide - size)]
    for top, left in [*corners, ((tall - size) // 2, (wide - size) // 3)]:
        window = decode.resample(image, decode.Crop(tall, wide, top, left, size))
        assert window.shape == (size, size, 3)
        assert window.dtype == np.uint8
        difference = np.abs(window - whole[top : top + size, left : left + size])
        assert difference.mean() < 1
        # Fixed-point filters may round one pixel the other way, and no more than that.
        assert difference.max() <= 2


def test_a_window_at_the_scale_of_the_image_is_a_slice():
    pixels = shades(50, 70)
    window = decode.resample(PIL.Image.fromarray(pixels), decode.Crop(50, 70, 11, 25, 30))
    np.testing.assert_array_equal(window, pixels[11:41, 25:55])


def test_shrinking_averages_what_it_covers():
    # Antialiased: stripes one pixel wide turn gray, where plain interpolation would alias.
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    window = decode.resample(PIL.Image.fromarray(stripes), decode.Crop(16, 16, 2, 2, 12))
    assert np.abs(window.astype(int) - 100).max() <= 2
