"""What the tests of the data package share."""

import io

import numpy as np
import PIL.Image
import pytest


@pytest.fixture(scope="session")
def encode():
    """Return a function from pixels to the bytes of an image file."""

    def encode(pixels, kind="JPEG", **options):
        buffer = io.BytesIO()
        PIL.Image.fromarray(pixels).save(buffer, kind, **options)
        return buffer.getvalue()

    return encode


@pytest.fixture(scope="session")
def truncated(encode):
    """Return a JPEG whose header is whole and whose second half is missing."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    data = encode(noise)
    return data[: len(data) // 2]
