"""Which folder is Caltech's, and what it must hold."""

import zipfile

import numpy as np
import pytest

from deepconv.data.sources import caltech, datasets
from deepconv.data.sources.caltech import open_caltech
from deepconv.exceptions import UserError
from deepconv.transfer import splits

BACKGROUND = {"caltech101": "BACKGROUND_Google", "caltech256": "257.clutter"}
FOLDER = {"caltech101": "101_ObjectCategories", "caltech256": "256_ObjectCategories"}
CLASSES = {"caltech101": 101, "caltech256": 256}


def lay(folder, names):
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in (1, 2):
            (folder / name / f"image_{number:04d}.jpg").write_bytes(f"{name} {number}".encode())


@pytest.fixture(params=["caltech101", "caltech256"])
def published(request, tmp_path):
    """Return a data set's name, and a folder that holds its folder."""
    folder = tmp_path / FOLDER[request.param]
    lay(folder, [f"class_{number:03d}" for number in range(CLASSES[request.param])])
    lay(folder, [BACKGROUND[request.param]])
    # Found in the published archives.
    (folder / BACKGROUND[request.param] / "tmp").write_text("")
    (folder / "class_000" / "RENAME2").write_text("")
    return request.param, tmp_path


def test_the_folder_and_the_one_that_holds_it_are_the_same(published):
    name, path = published
    for given in (path, path / FOLDER[name], str(path)):
        source = open_caltech(name, given)
        assert len(source.class_names) == CLASSES[name] + 1
        assert len(source) == 2 * (CLASSES[name] + 1)
        assert BACKGROUND[name] in source.class_names
        first = source.class_names[0]
        assert source[1] == {
            "image": f"{first} 2".encode(),
            "label": 0,
            "file_name": f"{first}/image_0002.jpg",
        }
    (path / FOLDER[name]).rename(path / "renamed")
    assert len(open_caltech(name, path / "renamed")) == len(source)


def test_it_is_opened_by_its_name_and_has_no_splits(published):
    name, path = published
    split = datasets.open_split(f"{name}:{path}", None)
    assert (len(split.class_names), split.part.split) == (CLASSES[name] + 1, "all")
    with pytest.raises(UserError, match=f"^{name}:.* has no split 'train', only all"):
        datasets.open_split(f"{name}:{path}", "train")
    with pytest.raises(UserError, match=r"has no splits, deepconv transfer draws them; .* folder:"):
        datasets.open_dataset(f"{name}:{path}")


def test_the_background_can_be_left_out(published):
    name, path = published
    with_it, without = open_caltech(name, path), open_caltech(name, path, background=False)
    assert without.class_names == tuple(
        each for each in with_it.class_names if each != BACKGROUND[name]
    )
    assert len(without) == 2 * CLASSES[name]
    for record in range(len(without)):
        example = without[record]
        assert example["file_name"].split("/")[0] == without.class_names[example["label"]]
    assert without.part().digest != with_it.part().digest


def test_a_folder_without_the_background_is_not_the_papers(published):
    name, path = published
    (path / FOLDER[name] / BACKGROUND[name]).rename(path / "elsewhere")
    with pytest.raises(UserError, match=f"no class {BACKGROUND[name]}, with which Caltech-"):
        open_caltech(name, path)
    assert len(open_caltech(name, path, background=False).class_names) == CLASSES[name]


def test_a_missing_class_is_noticed(published):
    name, path = published
    (path / FOLDER[name] / "class_007").rename(path / "elsewhere")
    expected = f"has {CLASSES[name]} class folders, but Caltech-.* has {CLASSES[name] + 1};"
    with pytest.raises(UserError, match=expected):
        open_caltech(name, path)


def test_another_folder_is_named(tmp_path):
    lay(tmp_path, ["cat", "dog"])
    with pytest.raises(UserError, match="is not Caltech-101: there is no 101_ObjectCategories"):
        open_caltech("caltech101", tmp_path)
    with pytest.raises(UserError, match="cannot be listed"):
        open_caltech("caltech101", tmp_path / "none")
    with pytest.raises(
        UserError, match="unknown data set 'caltech'; one of caltech101, caltech256"
    ):
        open_caltech("caltech", tmp_path)


def test_the_wiring_and_the_splits_know_the_same_data_sets():
    assert {*caltech.NAMES} == {*splits.CALTECH}


def test_all_of_caltech_101_is_split_as_the_papers(shared_data, tmp_path):
    with zipfile.ZipFile(shared_data("caltech101_s112.zip")) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
    for name in names:  # the names matter, not the pixels
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    source = open_caltech("caltech101", tmp_path)
    assert (len(source), len(source.class_names)) == (9144, 102)
    labels = np.array(source.labels)
    images = np.bincount(labels)
    drawn = splits.draw(splits.CALTECH["caltech101"], source.file_names, labels, seed=0)
    for train, test in drawn:
        assert (np.bincount(labels[train]) == 30).all()
        np.testing.assert_array_equal(np.bincount(labels[test]), np.minimum(images - 30, 50))
    assert len(drawn[0].train) == 3060
