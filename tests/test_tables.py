"""Tables in the width that there is."""

import pytest

from deepconv import naming, tables

ROWS = [
    ("holidays/a_very_long_name_of_a_picture.jpg", "Old English sheepdog 0.71", "kelpie 0.02", 3),
    ("b.png", "日本スピッツ 0.98", "yellow lady's slipper 0.01", 12),
]
HEADERS = ("picture", "best labels", "", "number")


@pytest.mark.parametrize("width", [100, 72, 60, 50])
def test_a_table_is_cut_to_the_width_and_keeps_the_ends_of_its_cells(width):
    whole = tables.table(HEADERS, ROWS)
    cut = tables.table(HEADERS, ROWS, width=width)
    assert max(map(naming.width, cut.splitlines())) <= width
    for end in (".jpg", "0.71", "0.02", "0.98", "0.01", "12"):
        assert end in cut
    assert max(map(naming.width, whole.splitlines())) > 100


def test_what_fits_is_not_cut_and_what_never_fits_can_be_read():
    whole = tables.table(HEADERS, ROWS)
    assert tables.table(HEADERS, ROWS, width=200) == whole
    narrow = tables.table(HEADERS, ROWS, width=10)
    assert "…_….jpg" not in narrow
    assert "…0.71" in narrow.replace(" 0.71", "0.71")
    assert tables.table(("a", "b"), [(1, 2)], width=1) == tables.table(("a", "b"), [(1, 2)])
