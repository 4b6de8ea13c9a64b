"""Plain-text tables.

print(table(("net", "top-1 %"), [("vgg_d", 27.0), ("vgg_e", None)]))
"""

from collections.abc import Sequence

from deepconv import naming

# A column of text is cut to this width at least, and the end of a cell is kept: the ending of a
# file's name, or the posterior after a label.
_NARROWEST, _ENDING = 9, 5


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str | float | None]],
    *,
    decimals: int = 1,
    width: int | None = None,
) -> str:
    """Lay out rows as plain text in aligned columns; those without strings are right-aligned.

    Args:
      headers: names of the columns.
      rows: a cell for each column; None is printed as a dash, a string as `naming.one_line`.
      decimals: number of decimals of a float.
      width: columns that a line should fit in: the widest columns of strings are shortened, as far
        as they can be read. By default nothing is.

    Raises:
      ValueError: if a row is longer or shorter than the headers.
    """
    left_aligned = [
        any(isinstance(cell, str) for cell in column) for column in zip(*rows, strict=True)
    ] or [True] * len(headers)
    texts = [list(map(naming.one_line, headers))] + [
        [_cell(cell, decimals) for cell in row] for row in rows
    ]
    widths = [max(map(naming.width, column)) for column in zip(*texts, strict=True)]
    if width is not None:
        widths = _fitted(widths, left_aligned, width)
        texts = [list(map(_cut, line, widths)) for line in texts]
    texts.insert(1, ["-" * width for width in widths])
    lines = ("  ".join(map(_padded, line, widths, left_aligned)) for line in texts)
    return "\n".join(line.rstrip() for line in lines)


def _fitted(widths: list[int], flexible: list[bool], width: int) -> list[int]:
    """Return columns' widths after shortening the widest flexible ones, one column at a time."""
    widths = list(widths)
    for _ in range(sum(widths) + 2 * (len(widths) - 1) - width):
        widest = max((n for n, flexes in zip(widths, flexible, strict=True) if flexes), default=0)
        if widest <= _NARROWEST:
            break
        column = max(i for i, n in enumerate(widths) if flexible[i] and n == widest)
        widths[column] -= 1
    return widths


def _cut(text: str, width: int) -> str:
    return naming.shortened(text, width, ending=_ENDING) if naming.width(text) > width else text


def _padded(text: str, width: int, left_aligned: bool) -> str:
    spaces = " " * (width - naming.width(text))
    return text + spaces if left_aligned else spaces + text


def _cell(value: str | float | None, decimals: int) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.{decimals}f}"
    return naming.one_line(str(value))
