"""What all figures share: names are drawn literally, and the PNG is written atomically.

axes.set_title(naming.one_line(name), **LITERAL)
save(figure, Path("figure.png"))
"""

import io
import logging
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepconv import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOG = logging.getLogger(__name__)

# For everything that draws a name: `$` is a plain character and does not begin a formula.
LITERAL: dict[str, Any] = {"parse_math": False}

_LACKING = re.compile(r"Glyph \d+ \((?P<name>.*)\) missing from|.* does not support .* natively")


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG; log one line if the font lacks characters, which become boxes.

    Raises:
      OSError: if it cannot be written.
    """
    png = io.BytesIO()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(png, format="png")
    lacking = []
    for warning in caught:
        found = _LACKING.match(str(warning.message))
        if found is None:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
        elif found["name"] and found["name"] not in lacking:
            lacking.append(found["name"])
    if lacking:
        _LOG.info(
            "%s: the font lacks %d characters of the names, such as %s; they are drawn as boxes",
            path,
            len(lacking),
            lacking[0],
        )
    atomic.write(path, png.getvalue())
