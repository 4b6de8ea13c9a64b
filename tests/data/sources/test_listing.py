"""Which files are pictures: one rule, whatever the file system, the links and the locale."""

import os
import subprocess
import sys

import PIL.Image
import pytest

from deepconv.data import decode
from deepconv.data.sources import folder, listing, pictures
from deepconv.exceptions import UserError


def lay(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_endings_are_those_of_the_formats_that_are_read():
    of_pillow = PIL.Image.registered_extensions().items()
    assert {end for end, kind in of_pillow if kind in decode.FORMATS} <= {*listing.EXTENSIONS}
    if PIL.__version__ == "13.0.0":
        assert len(listing.EXTENSIONS) == sum(kind in decode.FORMATS for _, kind in of_pillow)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", True),
        ("a.JPeG", True),
        ("a.b.webp", True),
        ("日本.TIFF", True),
        ("$x$\n.pgm", True),
        ("._a.jpg", False),
        (".jpg", False),
        ("jpg", False),
        ("a.jpg.txt", False),
        ("a.jpg~", False),
        ("a.pdf", False),
    ],
)
def test_a_picture_by_its_name(name, expected):
    assert listing.is_picture(name) == expected


def test_pictures_lie_at_any_depth_and_what_is_hidden_does_not_count(tmp_path):
    lay(tmp_path, "2.jpg", "a/b/c/1.PNG", "a/1.gif", "a/notes.txt", "x.jpg/1.avif")
    lay(tmp_path, ".git/1.jpg", "a/.thumbs/1.jpg", "a/._1.gif", "__MACOSX/1.jpg", "@eaDir/1.jpg")
    found = listing.pictures_below(tmp_path)
    assert found.pictures == ["2.jpg", "a/1.gif", "a/b/c/1.PNG", "x.jpg/1.avif"]
    assert found.others == 1


def test_the_order_is_that_of_the_bytes(tmp_path):
    raw = [b"B.jpg", b"a-1.jpg", b"a/1.jpg", b"a.jpg", b"\xc3\xa9.jpg", b"\xe9.jpg", b"z.jpg"]
    raw.append("日.jpg".encode())
    for name in raw:
        path = tmp_path / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        try:
            path.write_bytes(b"x")
        except OSError:
            pytest.skip("the file system refuses such names")
    assert [os.fsencode(name) for name in listing.pictures_below(tmp_path).pictures] == sorted(raw)
    (tmp_path / "folders").mkdir()
    for name in raw:
        (tmp_path / "folders" / os.fsdecode(name.replace(b"/", b"_"))).mkdir()
    names = list(map(os.fsencode, listing.entries(tmp_path / "folders").folders))
    assert names == sorted(names)


@pytest.mark.slow
def test_the_order_is_the_same_in_any_locale(tmp_path):
    lay(tmp_path, "B.jpg", "a.jpg", "é.jpg", "日.jpg", "z/é.jpg", "_.jpg")
    program = (
        "import os, sys, pathlib; from deepconv.data.sources import listing; "
        "found = listing.pictures_below(pathlib.Path(sys.argv[1])).pictures; "
        "sys.stdout.buffer.write(b'|'.join(map(os.fsencode, found)))"
    )
    plain = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program, tmp_path],
            env={**os.environ, **locale},
            capture_output=True,
            check=True,
        ).stdout
        for locale in ({"LC_ALL": "C.UTF-8"}, {"LC_ALL": "C", **plain})
    ]
    assert outputs[0] == outputs[1] == "B.jpg|_.jpg|a.jpg|z/é.jpg|é.jpg|日.jpg".encode()


def test_links_are_followed_and_those_that_lead_back_are_not(tmp_path):
    lay(tmp_path, "set/a/1.jpg", "set/b/2.jpg", "elsewhere/3.jpg", "elsewhere/deep/4.jpg")
    inside = tmp_path / "set" / "a"
    (inside / "file.png").symlink_to(tmp_path / "elsewhere" / "3.jpg")
    (inside / "folder").symlink_to(tmp_path / "elsewhere")
    (inside / "itself").symlink_to(inside)
    (inside / "up").symlink_to(tmp_path / "set")  # or a class would hold the others
    (inside / "root").symlink_to("/")
    (inside / "broken.jpg").symlink_to(tmp_path / "nowhere")
    (inside / "loop.jpg").symlink_to(inside / "loop.jpg")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "deep" / "around").symlink_to(inside)
    expected = ["1.jpg", "file.png", "folder/3.jpg", "folder/deep/4.jpg"]
    assert listing.pictures_below(inside).pictures == expected
    # Also by another path than the real one.
    (tmp_path / "link").symlink_to(inside)
    assert listing.pictures_below(tmp_path / "link").pictures == expected


def test_what_is_neither_file_nor_folder_does_not_count(tmp_path):
    lay(tmp_path, "1.jpg")
    os.mkfifo(tmp_path / "2.jpg")
    assert listing.pictures_below(tmp_path) == listing.Found(["1.jpg"], 0)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    lay(tmp_path, "a/b/1.jpg")
    original = os.scandir

    def scandir(path):
        if os.fspath(path).endswith("b"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match="a/b cannot be listed: Permission denied"):
        listing.pictures_below(tmp_path)
    with pytest.raises(UserError, match="nothing cannot be listed: No such file"):
        listing.pictures_below(tmp_path / "nothing")


def test_prediction_and_training_find_the_same(tmp_path):
    lay(tmp_path, "a/1.jpg", "a/deep/2.WEBP", "a/.hidden/3.jpg", "a/._4.jpg", "a/5.txt")
    lay(tmp_path, "b/@eaDir/1.jpg", "b/1.tif", "b/2.pgm")
    (tmp_path / "b" / "linked").symlink_to(tmp_path / "a")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    expected = ["a/1.jpg", "a/deep/2.WEBP", "b/1.tif", "b/2.pgm"]
    expected += ["b/linked/1.jpg", "b/linked/deep/2.WEBP"]
    parts = folder.open_folder(tmp_path)
    assert sorted(parts.train.file_names + parts.evaluation.file_names) == expected
    found = pictures.open_pictures([tmp_path]).file_names
    assert found == [f"{tmp_path}/{name}" for name in expected]
