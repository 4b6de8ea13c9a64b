"""The sheet of pictures with boxes: where they are drawn, and what is written."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation

from deepconv import drawing
from deepconv.visualize import boxes as module
from deepconv.visualize.boxes import Boxed, box_sheet

BOXES = np.array([[0.1, 0.2, 0.5, 0.9], [0.1, 0.2, 0.5, 0.9], [-0.5, 0.4, 1.5, 0.8]])


def boxed(title="cat.jpg", size=(40, 60), boxes=BOXES, names=("a", "b", "c"), true=None):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    return Boxed(title, picture, boxes, names, [7.25, 3.5, 1.125][: len(names)], true)


def outlines(axes):
    found = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return [patch for patch in found if not patch.get_fill()]


def drawn(patch):
    (xmin, ymin), width, height = patch.get_xy(), patch.get_width(), patch.get_height()
    return pytest.approx([xmin, ymin, xmin + width, ymin + height])


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_boxes_are_drawn_in_pixels_and_within_the_picture():
    true = np.array([[0.0, 0.5, 0.5, 1.0], [0.5, 0.5, 1.0, 1.0]])
    picture, listed = box_sheet([boxed(true=true)]).axes
    *predicted, first, second = outlines(picture)
    expected = [[6, 8, 30, 36], [6, 8, 30, 36], [0, 16, 60, 32]]
    # The best is drawn last, the true ones over it.
    for patch, box in zip(predicted, expected[::-1], strict=True):
        assert drawn(patch) == box
    assert drawn(first) == [0, 20, 30, 40]
    assert drawn(second) == [30, 20, 60, 40]
    assert {patch.get_linestyle() for patch in predicted} == {"solid"}
    assert "solid" not in {first.get_linestyle(), second.get_linestyle()}
    assert len({patch.get_edgecolor() for patch in [*predicted, first]}) == 4
    assert texts(listed) == ["1", "a", "7.25", "2", "b", "3.5", "3", "c", "1.12"]
    assert picture.get_title() == "cat.jpg"


def test_the_list_has_the_colors_of_the_boxes():
    picture, listed = box_sheet([boxed()]).axes
    colors = [patch.get_edgecolor() for patch in outlines(picture)][::-1]
    assert [patch.get_facecolor() for patch in listed.patches] == colors


def test_the_legend_names_the_true_boxes_where_there_are_any():
    def legend(true):
        return [text.get_text() for text in box_sheet([boxed(true=true)]).legends[0].get_texts()]

    assert legend(None) == ["predicted"]
    assert legend(BOXES[:1]) == ["predicted", "true"]


@pytest.mark.parametrize("corner", [[0.1, 0.1], [0.95, 0.95]])
def test_numbers_in_one_corner_lie_beside_each_other_within_the_picture(corner):
    boxes = np.tile([*corner, 1.0, 1.0], (5, 1))
    own = Boxed("x", np.zeros((60, 50, 3), np.uint8), boxes, list("abcde"), [1.0] * 5)
    figure = box_sheet([own])
    figure.draw_without_rendering()
    tags = [text for text in figure.axes[0].texts if isinstance(text, Annotation)]
    places = [tag.get_window_extent() for tag in tags]
    assert len(places) == 5
    inside = figure.axes[0].get_window_extent()
    for number, place in enumerate(places):
        assert inside.x0 <= place.x0 < place.x1 <= inside.x1
        assert inside.y0 <= place.y0 < place.y1 <= inside.y1
        assert not any(place.overlaps(other) for other in places[:number])


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
def test_every_picture_has_its_place(count):
    sizes = [(40, 60), (80, 40), (500, 20)]
    figure = box_sheet([boxed(f"{n}.jpg", sizes[n % 3]) for n in range(count)])
    titles = [axes.get_title() for axes in figure.axes if axes.images]
    assert titles == [f"{n}.jpg" for n in range(count)]
    figure.draw_without_rendering()
    width, height = figure.canvas.get_width_height()
    for axes in figure.axes:
        for text in [axes.title, *axes.texts]:
            place = text.get_window_extent()
            assert place.x0 >= 0
            assert place.y0 >= 0
            assert place.x1 <= width
            assert place.y1 <= height


def test_of_too_many_pictures_or_boxes_the_first_are_drawn(monkeypatch):
    monkeypatch.setattr(module, "MOST_PICTURES", 2)
    own = Boxed("x", np.zeros((9, 9, 3), np.uint8), np.tile(BOXES, (3, 1)), "abcdefghi", range(9))
    figure = box_sheet([own] * 3)
    pictures = [axes for axes in figure.axes if axes.images]
    assert len(pictures) == 2
    assert len(outlines(pictures[0])) == 5
    assert texts(figure.axes[2])[1::3] == [*"abcde"]


def test_a_class_without_a_box_is_only_listed():
    boxes = np.stack([np.full(4, np.nan), BOXES[0]])
    own = boxed(boxes=boxes, names=("a", "b"))
    picture, listed = box_sheet([own._replace(scores=[-np.inf, 3.5])]).axes
    assert texts(picture) == ["2"]
    assert len(outlines(picture)) == 1
    assert texts(listed) == ["1", "a", "no box", "2", "b", "3.5"]
    nothing, _ = box_sheet([boxed(boxes=np.zeros((0, 4)), names=())]).axes
    assert not outlines(nothing)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("caf\udce9", r"caf\xe9"),
        ("$\\frac$ $", r"$\frac$ $"),
        ("new\nline", r"new\nline"),
        ("日本 😀", "日本 😀"),
        ("x" * 250, "x" * 28 + "…"),
    ],
)
def test_odd_names_are_drawn_literally(tmp_path, name, shown):
    figure = box_sheet([boxed(name, names=(name, "b", "c"))])
    assert texts(figure.axes[1])[1] == shown
    assert "\n" not in figure.axes[0].get_title()
    drawing.save(figure, Path(tmp_path / "sheet.png"))
    assert (tmp_path / "sheet.png").stat().st_size


def test_wide_names_leave_the_pictures_their_size():
    def widths(name):
        figure = box_sheet([boxed(names=(name, "b", "c"))] * 2)
        figure.draw_without_rendering()
        return [axes.get_window_extent().width for axes in figure.axes]

    assert widths("W" * 60) == pytest.approx(widths("a"))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="no pictures"):
        box_sheet([])
    with pytest.raises(ValueError, match=r"cat.jpg: 3 boxes, 2 names, 2 scores"):
        box_sheet([boxed(names=("a", "b"))])
