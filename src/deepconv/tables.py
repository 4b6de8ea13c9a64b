"""Plain-text tables.

print(table(("net", "top-1 %"), [("vgg_d", 27.0), ("vgg_e", None)]))
"""

from collections.abc import Sequence

from deepconv import naming


def table(
    headers: Sequence[str], rows: Sequence[Sequence[str | float | None]], *, decimals: int = 1
) -> str:
    """Lay out rows as plain text in aligned columns; those without strings are right-aligned.

    Args:
      headers: names of the columns.
      rows: a cell for each column; None is printed as a dash, a string as `naming.one_line`.
      decimals: number of decimals of a float.

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
    texts.insert(1, ["-" * width for width in widths])
    lines = ("  ".join(map(_padded, line, widths, left_aligned)) for line in texts)
    return "\n".join(line.rstrip() for line in lines)


def _padded(text: str, width: int, left_aligned: bool) -> str:
    spaces = " " * (width - naming.width(text))
    return text + spaces if left_aligned else spaces + text


def _cell(value: str | float | None, decimals: int) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.{decimals}f}"
    return naming.one_line(str(value))
