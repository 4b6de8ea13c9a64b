"""Names as text: each case with what a reader shall see, and no name that any encoding refuses."""

import json
import os
import sys

import pytest

from deepconv import naming


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"caf\xe9.jpg", r"caf\xe9.jpg"),
        ("café 日本 😀.jpg".encode(), "café 日本 😀.jpg"),
        (b"\xff\xfe", r"\xff\xfe"),
        (b"$x^2$ \\frac", r"$x^2$ \frac"),
    ],
)
def test_bytes_that_are_not_utf8_are_escaped_and_nothing_else(raw, shown):
    name = raw.decode("utf-8", "surrogateescape")  # as Python gives the names of files
    assert naming.decoded(name) == shown
    assert naming.one_line(name) == shown
    assert json.loads(json.dumps(naming.decoded(name))) == shown


def test_a_name_is_the_same_in_a_locale_of_ascii():
    raw = "caf\xe9 日本.jpg".encode()
    for encoding in ("utf-8", "ascii"):
        assert naming.decoded(raw.decode(encoding, "surrogateescape")) == "café 日本.jpg"


def test_a_surrogate_of_no_byte_is_escaped_too():
    assert naming.decoded("\ud800x") == r"\ud800x"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb", r"a\nb"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\x1b[31mred\x7f\x00", r"\x1b[31mred\x7f\x00"),
        ("a\x85b\u2028c\u2029d", r"a\x85b\u2028c\u2029d"),
        ("gpj.\u202exe", r"gpj.\u202exe"),
        ("👩\u200d🔬 é", "👩\u200d🔬 é"),
    ],
)
def test_what_breaks_a_line_is_escaped(name, shown):
    assert naming.one_line(name) == shown
    assert naming.decoded(name) == name
    assert len(naming.one_line(name).splitlines()) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "cp1252", "shift_jis"])
def test_every_encoding_takes_every_name(encoding):
    name = "caf\udce9 é 日 😀 \ud800"
    text = name.encode(encoding, naming.ERRORS).decode(encoding)
    assert text.startswith(r"caf\xe9 ")
    assert text.endswith(r"\ud800")


def test_only_encoding_is_helped():
    with pytest.raises(UnicodeDecodeError):
        b"\xe9".decode("utf-8", naming.ERRORS)


def test_columns_of_a_terminal():
    assert naming.width("cat") == 3
    assert naming.width("日本") == 4
    assert naming.width("e\u0301") == 1


def test_long_names_lose_their_end_or_their_middle():
    assert naming.shortened("short", 5) == "short"
    assert naming.shortened("a name of a class", 8) == "a name …"
    assert naming.shortened("IMG_20230101_0001.jpg", 12, ending=8) == "IMG…0001.jpg"
    assert naming.shortened("a\nb" * 9, 6) == r"a\nba…"
    for columns in range(4, 12):
        assert naming.width(naming.shortened("日本語の長い名前", columns, ending=2)) <= columns


def test_names_of_the_file_system_are_those_of_any_bytes(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"\xe9.jpg")).write_bytes(b"")
    except OSError:
        pytest.skip("the file system refuses such names")
    if sys.getfilesystemencoding() == "utf-8":
        assert [naming.decoded(name) for name in os.listdir(tmp_path)] == [r"\xe9.jpg"]
