"""Which boxes can be used, and what is said about the others."""

import logging
import math

import numpy as np
import pytest

from deepconv.data.sources import box_checks
from deepconv.data.sources.box_checks import BadBoxError, Refusals, fractions


def test_edges_become_fractions_of_width_and_height():
    box = fractions((10, 20, 30, 50), height=50, width=40)
    assert box.dtype == np.float32
    np.testing.assert_array_equal(box, np.float32([0.25, 0.4, 0.75, 1]))


@pytest.mark.parametrize(
    ("edges", "why"),
    [
        ((30, 20, 10, 50), "is turned around"),
        ((10, 30, 30, 20), "is turned around"),
        ((10, 20, 10, 50), "is empty"),
        ((10, 20, 10 + 1e-9, 50), "is empty"),
        ((-0.5, 20, 30, 50), "is outside the picture, which is 40x50"),
        ((10, 20, 30, 51), "is outside the picture"),
        ((100, 200, 300, 500), "is outside the picture"),
        ((10, math.nan, 30, 50), "is not four numbers"),
        ((10, 20, math.inf, 50), "is not four numbers"),
    ],
)
def test_a_box_that_cannot_be_used_is_named_with_the_reason(edges, why):
    with pytest.raises(BadBoxError) as error:
        fractions(edges, height=50, width=40)
    message = str(error.value)
    assert why in message
    assert message.startswith(f"the box ({', '.join(f'{edge:g}' for edge in edges)})")


def test_a_box_that_exceeds_the_picture_a_little_is_clipped_where_that_is_allowed():
    np.testing.assert_array_equal(fractions((-1, -0.5, 41, 51), 50, 40, slack=1), [0, 0, 1, 1])
    with pytest.raises(BadBoxError, match="outside"):
        fractions((-1.5, 0, 40, 50), 50, 40, slack=1)
    with pytest.raises(BadBoxError, match="empty"):
        fractions((40, 0, 41, 50), 50, 40, slack=1)


def test_a_message_shows_the_box_as_written():
    with pytest.raises(BadBoxError, match=r"the box \(1, 1, 90, 9\)"):
        fractions((0, 0, 90, 9), 50, 40, written=(1, 1, 90, 9))


@pytest.mark.parametrize(("count", "lines"), [(0, 0), (1, 1), (20, 20), (21, 21), (500, 21)])
def test_the_first_are_logged_and_the_rest_are_counted(caplog, count, lines):
    refusals = Refusals()
    for number in range(count):
        refusals.add(f"boxes.csv, line {number}\n", "the box is empty")
    refusals.end()
    messages = [record.getMessage() for record in caplog.records]
    assert refusals.count == count
    assert len(messages) == lines
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    if count > box_checks.MOST_LINES:
        assert messages[-1] == f"not used: and {count - 20} more"
    if count:
        assert messages[0] == r"not used: boxes.csv, line 0\n: the box is empty"


def test_sizes_are_read_from_headers(tmp_path, encode):
    picture = np.zeros((3, 7, 3), np.uint8)
    (tmp_path / "a.jpg").write_bytes(encode(picture))
    (tmp_path / "b.png").write_bytes(encode(picture, "PNG")[:60])  # the rest is missing
    (tmp_path / "c.png").write_bytes(b"no picture")
    names = ("a.jpg", "b.png", "c.png", "missing.png")
    found = box_checks.sizes([tmp_path / name for name in names])
    assert found == [(3, 7), (3, 7), None, None]
