"""Files that appear whole or not at all, and may be read by those whom the umask lets."""

import os

import numpy as np
import pytest

from deepconv import atomic
from deepconv.data import color
from deepconv.evaluation.ensemble import ScoredImages
from deepconv.inference import scoring
from deepconv.run import curves, weights_file


def test_a_file_is_replaced_once_it_is_whole(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with atomic.replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["x"]


def test_after_an_error_the_old_file_is_there_and_nothing_beside_it(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), atomic.replacing(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "x"
    with atomic.replacing(path) as first, atomic.replacing(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first"  # closed last
    assert os.listdir(tmp_path) == ["x"]


def test_the_folder_is_made_and_the_name_may_be_as_long_as_any(tmp_path):
    path = tmp_path / "a" / "b" / ("x" * 255)
    atomic.write(path, b"1")
    assert path.read_bytes() == b"1"


def test_an_error_names_the_file_that_was_meant(tmp_path):
    with pytest.raises(OSError) as error, atomic.replacing(tmp_path / "none" / "x"):
        pass
    assert (error.value.filename, error.value.filename2) == (str(tmp_path / "none" / "x"), None)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError) as error:
        atomic.write(tmp_path / "folder", b"")
    assert (error.value.filename, error.value.filename2) == (str(tmp_path / "folder"), None)
    assert os.listdir(tmp_path) == ["folder"]


WRITERS = {
    "colors.npz": lambda path: color.save(color.IMAGENET, path),
    "x.json": lambda path: atomic.write_json(path, {}),
    "curves.png": lambda path: curves.plot_curves([], path),
    "sheet.npz": lambda path: scoring.save(
        ScoredImages(np.ones((1, 1)), np.zeros(1), ("a",), ("x",), {}), path
    ),
    "x.safetensors": lambda path: weights_file.write_tensors(path, {"x": np.ones(1)}, {}),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_the_umask_decides_who_may_read(tmp_path, name, umask, mode):
    before = os.umask(umask)
    try:
        WRITERS[name](tmp_path / name)
    finally:
        os.umask(before)
    assert (tmp_path / name).stat().st_mode & 0o777 == mode
    assert os.listdir(tmp_path) == [name]
