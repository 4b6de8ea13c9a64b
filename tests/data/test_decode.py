"""Decoding to RGB, and resampling a window against resizing the whole image."""

import concurrent.futures
import fractions
import io
import math
import struct
import zipfile

import numpy as np
import PIL.Image
import pytest
import simplejpeg

from deepconv.data import decode
from deepconv.data.sources import shapes


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


# More than eight bits. Expected values are written down, or follow from the bytes of the file.


def tiff(values, photometric=1, form=1, bits=None):
    """Write a TIFF of one strip by hand: SampleFormat 1 unsigned, 2 signed, 3 floats."""
    values = np.asarray(values)
    height, width = values.shape
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    bits = bits or 8 * values.itemsize
    if bits == 12:  # two values in three bytes, from the most significant bit on
        pairs = values.reshape(-1, 2).astype(int)
        packed = [(a >> 4, (a & 15) << 4 | b >> 8, b & 255) for a, b in pairs]
        data = np.array(packed, np.uint8).tobytes()
    tags = [
        (256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8),
        (277, 1), (278, height), (279, len(data)), (339, form),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<L", 0)
    return b"II*\0" + struct.pack("<L", 8 + len(data)) + data + directory


def pnm(head, values):
    return f"{head}\n{values.shape[1]} {values.shape[0]}\n".encode(), values.tobytes()


def gray(data):
    read = rgb(decode.decode(data))
    np.testing.assert_array_equal(read, np.repeat(read[..., :1], 3, axis=-1))
    return read[..., 0].tolist()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_of_sixteen_bits_the_high_byte_counts(kind):
    values = np.array([[0, 255, 256, 257], [4095, 32767, 32768, 65535]], np.uint16)
    file = io.BytesIO()
    options = {"irreversible": False} if kind == "JPEG2000" else {}
    PIL.Image.fromarray(values).save(file, kind, **options)
    assert gray(file.getvalue()) == [[0, 0, 1, 1], [15, 127, 128, 255]]


def test_every_16_bit_file_by_its_bytes():
    values = np.array([[0, 255, 256, 12800], [25700, 32768, 65279, 65535]])
    expected = [[0, 0, 1, 50], [100, 128, 254, 255]]
    head, data = pnm("P5", values.astype(">u2"))
    assert gray(head + b"65535\n" + data) == expected
    plain = "P2\n4 2\n65535\n" + " ".join(map(str, values.ravel()))
    assert gray(plain.encode()) == expected
    assert gray(tiff(values.astype(np.uint16))) == expected
    inverted = [[255 - value for value in row] for row in expected]
    assert gray(tiff(values.astype(np.uint16), photometric=0)) == inverted
    assert gray(tiff((values // 2).astype(np.int16), form=2)) == [[0, 0, 0, 25], [50, 64, 127, 127]]


def test_colors_of_16_bits_by_their_bytes():
    values = np.array([[[0, 255, 256], [25700, 32768, 65535]]])
    head, data = pnm("P6", values.astype(">u2"))
    assert rgb(decode.decode(head + b"65535\n" + data)).tolist() == [[[0, 1, 1], [100, 128, 255]]]


@pytest.mark.parametrize("largest", [1023, 4095, 65534])
def test_a_pgm_whose_white_is_another_number(largest):
    values = np.array([[0, largest // 2, largest]], ">u2")
    head, data = pnm("P5", values)
    # Floor of the highest byte of the value on a scale of 65535, rounded.
    expected = [int(fractions.Fraction(int(v) * 65535, largest) + fractions.Fraction(1, 2)) >> 8
                for v in values[0]]  # fmt: skip
    assert gray(head + f"{largest}\n".encode() + data) == [expected]
    assert expected[-1] == 255


def test_twelve_bits():
    values = np.array([[0, 15, 16, 1600], [2048, 4079, 4080, 4095]], np.uint16)
    assert gray(tiff(values, bits=12)) == [[0, 0, 1, 100], [128, 254, 255, 255]]


@pytest.mark.parametrize(("kind", "form"), [(np.int32, 2), (np.uint32, 1)])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[0, 1, 100, 255]], [[0, 1, 100, 255]]),
        ([[0, 255, 256, 300]], [[0, 0, 1, 1]]),
        ([[0, 256, 25700, 65535]], [[0, 1, 100, 255]]),
    ],
)
def test_integers_of_32_bits_are_of_8_or_of_16(kind, form, values, expected):
    assert gray(tiff(np.array(values, kind), form=form)) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[0.0, 0.25, 0.5, 1.0]], [[0, 64, 128, 255]]),  # 63.75, 127.5 to even
        ([[0.0, 0.1, 0.999, 0.002]], [[0, 26, 255, 1]]),
        ([[0.0, 1.4, 1.6, 255.0]], [[0, 1, 2, 255]]),
        ([[100.0, 100.0, 254.4, 2.0]], [[100, 100, 254, 2]]),
        ([[0.0, 0.0]], [[0, 0]]),
    ],
)
def test_floats_are_of_0_to_1_or_of_0_to_255(values, expected):
    values = np.array(values, np.float32)
    assert gray(tiff(values, form=3)) == expected
    inverted = [[255 - value for value in row] for row in expected]
    assert gray(tiff(values, photometric=0, form=3)) == inverted
    head, data = pnm("Pf", values.astype("<f4"))  # one row: a PFM begins at the bottom
    assert gray(head + b"-1.0\n" + data) == expected


@pytest.mark.parametrize(
    ("values", "form", "says"),
    [
        (np.array([[0, 65536]], np.int32), 2, "gray values from 0 to 65536; only 0 to 65535 can"),
        (np.array([[-1, 5]], np.int32), 2, "from -1 to 5; only 0 to 65535 can be read"),
        (np.array([[-300, 5]], np.int16), 2, "from -300 to 5; only 0 to 65535 can be read"),
        (np.array([[0, 255.5]], np.float32), 3, "from 0 to 255.5; only 0 to 255 can be read"),
        (np.array([[-0.5, 1]], np.float32), 3, "from -0.5 to 1; only 0 to 255 can be read"),
        (np.array([[0, np.nan]], np.float32), 3, "from nan to nan"),
        (np.array([[0, np.inf]], np.float32), 3, "to inf"),
    ],
)
def test_gray_values_without_a_scale_are_refused(values, form, says):
    with pytest.raises(decode.UnreadableImageError, match=says):
        decode.decode(tiff(values, form=form))
    with pytest.raises(decode.UnreadableImageError, match=says):
        decode.load_crop(tiff(values, form=form), central(1, 1))


def test_every_mode_is_converted_to_the_colors_that_it_stands_for():
    color, clear, dim = (200, 100, 50), (200, 100, 50, 0), 77
    # By hand: what Pillow's reader of a file may return, its pixel, and the RGB that this is.
    modes = {
        "1": (255, (255, 255, 255)),
        "L": (dim, (dim,) * 3),
        "LA": ((dim, 0), (dim,) * 3),
        "La": ((50, 100), (128,) * 3),  # 50 * 255 / 100, rounded up
        "P": (1, color),
        "PA": ((1, 0), color),
        "RGB": (color, color),
        "RGBX": (clear, color),
        "RGBA": (clear, color),
        "RGBa": ((100, 50, 25, 128), (199, 99, 49)),
        "CMYK": ((55, 155, 205, 0), color),
        "YCbCr": ((180, 128, 128), (180, 180, 180)),
        "HSV": ((0, 255, 90), (90, 0, 0)),
        "I": (25700, (100, 100, 100)),
        "F": (0.5, (128, 128, 128)),
        "I;16": (25700, (100, 100, 100)),
        "I;16B": (25700, (100, 100, 100)),
        "I;16L": (25700, (100, 100, 100)),
    }
    for mode, (pixel, expected) in modes.items():
        image = PIL.Image.new("P" if mode == "PA" else mode, (3, 2))
        if mode in ("P", "PA"):
            image.putpalette([10, 20, 30, *color])
            image = image.convert(mode)
        image.paste(pixel, (0, 0, 3, 2)) if mode != "PA" else image.putdata([pixel] * 6)
        read = rgb(decode.to_rgb(image))
        assert np.abs(read - expected).max() <= 1, mode


def test_lab_is_converted():
    image = PIL.Image.new("LAB", (3, 2), (round(54.29 * 2.55), 81 + 128, 70 + 128))
    file = io.BytesIO()
    image.save(file, "TIFF")
    assert PIL.Image.open(io.BytesIO(file.getvalue())).mode == "LAB"
    # Red of sRGB under D50, as ICC profiles have it; each unit of a and b is several levels.
    assert np.abs(rgb(decode.decode(file.getvalue())) - (255, 0, 0)).max() <= 8


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("transparency", [0, bytes([0, 255])])
@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_palettes_transparency_is_ignored(kind, transparency):
    if kind == "GIF" and isinstance(transparency, bytes):
        transparency = 1
    image = PIL.Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    file = io.BytesIO()
    image.save(file, kind, transparency=transparency)
    assert "transparency" in PIL.Image.open(io.BytesIO(file.getvalue())).info
    read = rgb(decode.decode(file.getvalue()))
    np.testing.assert_array_equal(read, [[[10, 20, 30], [200, 100, 50]]])


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
        window = decode.resample(image, decode.Crop(tall, wide, top, left, size, size))
        assert window.shape == (size, size, 3)
        assert window.dtype == np.uint8
        difference = np.abs(window - whole[top : top + size, left : left + size])
        assert difference.mean() < 1
        # Fixed-point filters may round one pixel the other way, and no more than that.
        assert difference.max() <= 2


def test_a_window_at_the_scale_of_the_image_is_a_slice():
    pixels = shades(50, 70)
    window = decode.resample(PIL.Image.fromarray(pixels), decode.Crop(50, 70, 11, 25, 30, 30))
    np.testing.assert_array_equal(window, pixels[11:41, 25:55])


def test_shrinking_averages_what_it_covers():
    # Antialiased: stripes one pixel wide turn gray, where plain interpolation would alias.
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    window = decode.resample(PIL.Image.fromarray(stripes), decode.Crop(16, 16, 2, 2, 12, 12))
    assert np.abs(window.astype(int) - 100).max() <= 2


# A crop from the file.

# Everything that the decoder of JPEG is told apart by, and nothing else.
VARIANTS = {
    "444": {"subsampling": 0},
    "422": {"subsampling": 1},
    "420": {"subsampling": 2},
    "progressive": {"progressive": True},
    "restarts": {"subsampling": 2, "restart_marker_blocks": 5},
    "optimized": {"optimize": True, "quality": 97},
}


@pytest.fixture
def without_pillow(monkeypatch):
    """Let the slow way fail, so that a result has come the fast way."""

    def refuse(data):
        raise AssertionError("Pillow was asked")

    monkeypatch.setattr(decode, "decode", refuse)


@pytest.fixture
def decoded_sizes(monkeypatch):
    """Return a list that receives the (height, width) of what is decoded by libjpeg-turbo."""
    sizes = []
    original = simplejpeg.decode_jpeg

    def watched(data, *, buffer, **options):
        sizes.append(buffer.shape[:2])
        return original(data, buffer=buffer, **options)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", watched)
    return sizes


def scene(height, width, seed=0, scale=1):
    """Return pixels such as a camera gives: edges that are slightly soft, and grain."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((height, width)) / scale
    image = np.full((height, width, 3), 90.0)
    for _ in range(12):
        center, radius = rng.uniform(0, [height / scale, width / scale]), rng.uniform(10, 70)
        inside = np.clip(radius - np.hypot(y - center[0], x - center[1]), 0, 3)[..., None] / 3
        image += inside * (rng.uniform(0, 255, 3) - image)
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def rescaled_and_cropped(data, crop):
    """Do it the long way."""
    whole = PIL.Image.open(io.BytesIO(data)).convert("RGB")
    whole = whole.resize((crop.width, crop.height), PIL.Image.Resampling.BILINEAR)
    pixels = np.asarray(whole).astype(int)
    return pixels[crop.top : crop.top + crop.rows, crop.left : crop.left + crop.columns]


def difference(data, crop):
    """Return the absolute differences of a loaded crop from the one cut the long way."""
    pixels, given = decode.load_crop(data, lambda height, width: crop)
    assert given is crop
    assert pixels.shape == (crop.rows, crop.columns, 3)
    assert pixels.dtype == np.uint8
    return np.abs(pixels - rescaled_and_cropped(data, crop))


def corners(height, width, shorter, size):
    tall, wide = decode.rescaled_size(height, width, shorter)
    for top in {0, (tall - size) // 3, tall - size}:
        for left in {0, (wide - size) // 2, wide - size}:
            yield decode.Crop(tall, wide, top, left, size, size)


def central(size, shorter):
    def choose(height, width):
        tall, wide = decode.rescaled_size(height, width, shorter)
        return decode.Crop(tall, wide, (tall - size) // 2, (wide - size) // 2, size, size)

    return choose


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("height", "width"), [(150, 211), (130, 97)])
@pytest.mark.parametrize(("shorter", "size"), [(64, 56), (100, 32), (200, 112)])
def test_a_crop_of_a_jpeg_is_the_one_cut_the_long_way(
    encode, without_pillow, variant, height, width, shorter, size
):
    # Noise: rows that were not decoded, or smoothed wrongly, would show.
    noise = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    data = encode(noise, **VARIANTS[variant])
    for crop in corners(height, width, shorter, size):
        differing = difference(data, crop)
        assert differing.mean() < 0.6
        assert differing.max() <= 2


def test_a_gray_jpeg_is_repeated_in_every_channel(encode, without_pillow):
    data = encode(shades(150, 200)[..., 0])
    pixels, _ = decode.load_crop(data, central(48, 64))
    np.testing.assert_array_equal(pixels, np.repeat(pixels[..., :1], 3, axis=-1))
    assert difference(data, central(48, 64)(150, 200)).max() <= 2


@pytest.mark.parametrize("index", range(6))
def test_an_enlarged_crop_of_a_small_picture_is_the_one_cut_the_long_way(index, without_pillow):
    data = shapes.example("train", index)["image"]
    height, width = simplejpeg.decode_jpeg_header(data)[:2]
    for shorter in (128, 256, 400):
        for crop in corners(height, width, shorter, 112):
            differing = difference(data, crop)
            assert differing.mean() < 0.6
            assert differing.max() <= 2


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 300), (300, 2), (1, 17), (9, 8)])
def test_slivers_are_enlarged(encode, height, width):
    data = encode(shades(height, width), quality=95)
    for crop in corners(height, width, 40, 32):
        assert difference(data, crop).max() <= 2


@pytest.mark.parametrize(
    ("times", "divisor"), [(1, 1), (2, 1), (2.9, 1), (3.1, 2), (5.9, 2), (6.1, 4), (12.5, 8)]
)
def test_a_large_image_is_halved_while_decoded(
    encode, without_pillow, decoded_sizes, times, divisor
):
    height, width = round(60 * times), round(90 * times)
    data = encode(scene(height, width, scale=times), quality=92)
    tall, wide = decode.rescaled_size(height, width, 60)
    differing = difference(data, decode.Crop(tall, wide, tall - 48, wide - 48, 48, 48))
    assert decoded_sizes == [(-(-height // divisor), -(-width // divisor))]
    assert differing.mean() < 1


@pytest.mark.parametrize(("height", "width"), [(60, 90), (90, 60), (64, 64), (40, 400), (700, 300)])
def test_a_whole_image_is_the_one_rescaled_the_long_way(encode, height, width):
    data = encode(scene(height, width), quality=92)
    window = decode.whole(height, width, 60)
    assert (window.rows, window.columns) == decode.rescaled_size(height, width, 60)
    differing = difference(data, window)
    assert differing.mean() < 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_size_of_an_image_is_known_without_its_pixels(encode, kind, decoded_sizes):
    data = encode(shades(20, 31), kind)
    assert decode.image_size(data) == (20, 31)
    assert decode.image_size(data[:-2]) == (20, 31)
    assert decoded_sizes == []
    with pytest.raises(decode.UnreadableImageError, match="known format"):
        decode.image_size(b"no picture")


def test_rows_below_the_crop_are_not_decoded(encode, without_pillow, decoded_sizes):
    data = encode(scene(300, 400))
    difference(data, decode.Crop(150, 200, 0, 60, 50, 50))
    # 100 rows, 2 that the filter reaches, and 2 of chroma.
    assert decoded_sizes == [(104, 400)]


def test_without_the_fast_resampler_the_crop_is_the_same(monkeypatch, encode):
    if decode.resizer is None:
        pytest.skip("the fast resampler is not installed")
    data = encode(scene(200, 300))
    crops = [*corners(200, 300, 80, 56), *corners(200, 300, 300, 224)]
    fast = [decode.load_crop(data, lambda height, width: crop)[0] for crop in crops]
    monkeypatch.setattr(decode, "resizer", None)
    for crop, expected in zip(crops, fast, strict=True):
        slow, _ = decode.load_crop(data, lambda height, width: crop)
        assert np.abs(slow.astype(int) - expected).max() <= 2
        assert difference(data, crop).max() <= 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_crop_is_chosen_once_knowing_the_size(encode, kind):
    asked = []

    def choose(height, width):
        asked.append((height, width))
        return decode.Crop(20, 30, 1, 2, 16, 16)

    decode.load_crop(encode(shades(40, 60), kind), choose)
    assert asked == [(40, 60)]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "WEBP"])
def test_what_is_no_jpeg_is_cut_by_pillow(encode, kind):
    image = encode(shades(60, 90), kind)
    for crop in corners(60, 90, 40, 32):
        expected = decode.resample(decode.decode(image), crop)
        pixels, _ = decode.load_crop(image, lambda height, width: crop)
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("tail", [b"\0", b"\r\n", bytes(5000)])
def test_what_follows_the_end_of_a_jpeg_does_not_matter(encode, tail):
    data = encode(shades(150, 200))
    crop = central(48, 64)(150, 200)
    assert difference(data + tail, crop).max() <= 2


def test_orientation_is_ignored(encode):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    pixels = scene(90, 60)
    crop = central(32, 40)(90, 60)
    turned = encode(pixels, exif=exif)
    assert b"Exif" in turned
    expected, _ = decode.load_crop(encode(pixels), lambda height, width: crop)
    given, _ = decode.load_crop(turned, lambda height, width: crop)
    np.testing.assert_array_equal(given, expected)


def test_same_bytes_give_same_pixels_in_any_thread(encode):
    files = [encode(scene(200, 260, seed), subsampling=seed % 3) for seed in range(6)] * 20
    choose = central(112, 128)
    expected = [decode.load_crop(data, choose)[0] for data in files[:6]] * 20
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for pixels, reference in zip(
            pool.map(lambda data: decode.load_crop(data, choose)[0], files), expected, strict=True
        ):
            np.testing.assert_array_equal(pixels, reference)


# What cannot be read.


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_jpeg_cut_short_anywhere_is_unreadable_wherever_the_crop_is(encode, variant):
    data = encode(scene(120, 160), **VARIANTS[variant])
    top = decode.Crop(120, 160, 0, 0, 32, 32)
    decode.load_crop(data, lambda height, width: top)
    for length in [*range(0, len(data), len(data) // 40), len(data) - 2, len(data) - 1]:
        with pytest.raises(decode.UnreadableImageError):
            decode.load_crop(data[:length], lambda height, width: top)


def test_a_jpeg_that_ends_early_in_its_middle_is_as_pillow_sees_it(encode):
    # An end marker within the data; then Pillow's verdict counts, not half an image of gray.
    data = encode(scene(120, 160))
    broken = data[: len(data) // 2] + b"\xff\xd9" + data[len(data) // 2 :]
    for crop in corners(120, 160, 60, 40):
        expected = decode.resample(decode.decode(broken), crop)
        pixels, _ = decode.load_crop(broken, lambda height, width: crop)
        assert np.abs(pixels.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_picture_of_too_many_pixels_is_unreadable(monkeypatch, encode, kind):
    data = encode(shades(20, 30), kind)
    monkeypatch.setattr(decode, "MAX_PIXELS", 600)
    decode.load_crop(data, central(16, 20))
    decode.decode(data)
    monkeypatch.setattr(decode, "MAX_PIXELS", 599)
    with pytest.raises(decode.UnreadableImageError, match="30x20"):
        decode.load_crop(data, central(16, 20))
    with pytest.raises(decode.UnreadableImageError, match="30x20"):
        decode.decode(data)


def test_a_header_that_states_four_billion_pixels_is_refused_before_anything_is_decoded(
    encode, without_pillow, decoded_sizes
):
    data = bytearray(encode(shades(20, 30)))
    height = data.index(b"\xff\xc0") + 5
    data[height : height + 4] = b"\xff" * 4
    with pytest.raises(decode.UnreadableImageError, match="65535x65535"):
        decode.load_crop(bytes(data), central(16, 20))
    assert decoded_sizes == []


def test_a_format_that_would_start_another_program_is_refused():
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(decode.UnreadableImageError, match="EPS"):
        decode.load_crop(script, central(16, 20))


# Photographs.


@pytest.fixture(scope="module")
def photographs(shared_data):
    """Return 30 untouched photographs of ImageNet's validation set and 60 of a smaller size."""
    file = shared_data("ilsvrc_val750_s320.zip")
    with zipfile.ZipFile(file) as archive:
        names = [name for name in sorted(archive.namelist()) if name.endswith(".JPEG")]
        untouched = [name for name in names if "originals30/" in name]
        assert len(untouched) == 30
        smaller = [name for name in names if name not in untouched]
        return [archive.read(name) for name in untouched + smaller[:: len(smaller) // 60]]


def test_crops_of_photographs_are_those_cut_the_long_way(photographs):
    rng = np.random.default_rng(0)
    means = []
    for data in photographs:
        height, width = simplejpeg.decode_jpeg_header(data)[:2]
        for shorter in (256, int(rng.integers(257, 512)), 512):
            tall, wide = decode.rescaled_size(height, width, shorter)
            top, left = rng.integers(tall - 223), rng.integers(wide - 223)
            crop = decode.Crop(tall, wide, int(top), int(left), 224, 224)
            means.append(difference(data, crop).mean())
    assert max(means) < 1
    assert np.mean(means) < 0.25
