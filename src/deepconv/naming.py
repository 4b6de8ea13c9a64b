r"""Names of files and classes as text for output: one rule for all of them.

    decoded("caf\udce9.jpg")  # r"caf\xe9.jpg": escapes a byte of a file name that is not UTF-8
    one_line("a\nb")          # r"a\nb": escapes what would break a row of a table

Files are opened by their real names, never by the results of these functions.
"""

import codecs
import unicodedata

# For `errors=` wherever text is encoded: writes escapes for bytes that are not UTF-8 and for
# characters that the encoding lacks.
ERRORS = "deepconv.naming"

# Line and paragraph separators, and characters that change the direction of surrounding text.
_BREAKING = {*"\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(map(_escaped, found)), error.end


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # Python's surrogate escape for a byte that it cannot decode
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


codecs.register_error(ERRORS, _escape)


def decoded(name: str) -> str:
    r"""Return a name as valid Unicode, with bytes that are not UTF-8 escaped as `\xe9`.

    Line breaks and controls are kept, for JSON and arrays. The result does not depend on the
    locale, although Python decodes file names by it.
    """
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that is not an escaped byte
        return name.encode("utf-8", ERRORS).decode("utf-8")


def one_line(name: str) -> str:
    r"""Return `decoded(name)` as one printable line: line breaks and controls as `\n`, `\x1b`."""
    return "".join(
        _escaped(x) if x in _BREAKING or unicodedata.category(x) == "Cc" else x
        for x in decoded(name)
    )


def width(text: str) -> int:
    """Return the number of terminal columns of a line: wide characters 2, combining ones 0."""
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def shortened(name: str, columns: int, *, ending: int = 0) -> str:
    """Return a name as one line of at most `columns` columns.

    Args:
      name: the name.
      columns: maximum width, at least 2 more than `ending`.
      ending: columns reserved for the end of the name if it has to be shortened.
    """
    line = one_line(name)
    if width(line) <= columns:
        return line
    end = _fitting(line[::-1], ending)[::-1]
    return f"{_fitting(line, columns - 1 - width(end))}…{end}"


def _fitting(text: str, columns: int) -> str:
    """Return the longest prefix of at most `columns` columns."""
    taken = 0
    for index, character in enumerate(text):
        taken += _columns(character)
        if taken > columns:
            return text[:index]
    return text
