r"""Names of files and classes where they leave the program as text: one rule for all of them.

    decoded("caf\udce9.jpg")  # r"caf\xe9.jpg": a byte of a file's name that is not UTF-8
    one_line("a\nb")          # r"a\nb": what would break a row of a table

A file is opened by its real name, never by what these return.
"""

import codecs
import unicodedata

# For `errors=` wherever text is encoded: a byte that is not UTF-8, and a character that the
# encoding lacks, are written as an escape.
ERRORS = "deepconv.naming"

# Line and paragraph separators, and what reverses the direction of the text around it.
_BREAKING = {*"\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(map(_escaped, found)), error.end


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that it cannot decode
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


codecs.register_error(ERRORS, _escape)


def decoded(name: str) -> str:
    r"""Return a name that every encoding of Unicode can write: bytes that are not UTF-8 as `\xe9`.

    Line breaks and the like stay as they are, for JSON and arrays. The result does not depend on
    the locale, by which Python decodes the names of files.
    """
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that is no byte
        return name.encode("utf-8", ERRORS).decode("utf-8")


def one_line(name: str) -> str:
    r"""Return a name as one line of printable text: line breaks, tabs and controls as `\n`, `\x1b`.

    The rest is as `decoded` has it.
    """
    return "".join(
        _escaped(x) if x in _BREAKING or unicodedata.category(x) == "Cc" else x
        for x in decoded(name)
    )


def width(text: str) -> int:
    """Return how many columns of a terminal a line takes: wide characters 2, combining ones 0."""
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def shortened(name: str, columns: int, *, ending: int = 0) -> str:
    """Return a name as one line that takes no more than so many columns.

    Args:
      name: the name.
      columns: at most, at least 2 more than `ending`.
      ending: how many of them show the name's end, where the middle has to be left out.
    """
    line = one_line(name)
    if width(line) <= columns:
        return line
    end = _fitting(line[::-1], ending)[::-1]
    return f"{_fitting(line, columns - 1 - width(end))}…{end}"


def _fitting(text: str, columns: int) -> str:
    """Return the longest beginning that takes no more than so many columns."""
    taken = 0
    for index, character in enumerate(text):
        taken += _columns(character)
        if taken > columns:
            return text[:index]
    return text
