"""A part of a network's classes, under whatever names, and labels in a table."""

import zipfile

import pytest

from deepconv.data import imagenet
from deepconv.data.sources import datasets
from deepconv.data.sources.labels_table import open_labeled
from deepconv.data.sources.relabeled import Relabeled, numbers_among
from deepconv.exceptions import UserError

MATCONVNET = ("tench, Tinca tinca", "goldfish, Carassius auratus", "cat")


@pytest.mark.parametrize(
    ("names", "of", "numbers"),
    [
        (["b", "a"], ("a", "x", "b"), [2, 0]),
        (["n01443537", "tench"], imagenet.wnids(), [1, 0]),
        (["n01443537", "n01440764", "cat"], MATCONVNET, [1, 0, 2]),
        (["999", "n01440764"], imagenet.wnids(), [999, 0]),
        (["crane (n03126707)"], imagenet.wnids(), [517]),
        (["1", "a"], ("a", "1"), [1, 0]),  # a name before a number
    ],
)
def test_numbers(names, of, numbers):
    assert numbers_among(names, of) == numbers


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["rose"], "its class 'rose' is not one of the network's 1000, which begin with n01440764"),
        (["1000"], "its class '1000' is not one of the network's 1000"),
        (["crane"], "its class 'crane' is not one of"),
        (["tench", "n01440764"], "its classes 'tench' and 'n01440764' are the same to the network"),
    ],
)
def test_classes_that_are_not_the_networks(names, message):
    with pytest.raises(UserError, match=message):
        numbers_among(names, imagenet.wnids())


def test_records_have_the_new_labels():
    source = Relabeled([{"image": b"x", "label": 1}, {"image": b"y", "label": -1}], [7, 3])
    assert (len(source), source[0]) == (2, {"image": b"x", "label": 3})
    with pytest.raises(UserError, match=r"record 1 has label -1, but the 2 classes"):
        source[1]


@pytest.fixture
def folder(tmp_path):
    for name in ("a.JPEG", "b.png", "more/c.jpg"):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pictures" / name).write_bytes(name.encode())
    return tmp_path / "pictures"


@pytest.mark.parametrize(
    "text",
    [
        "a,dog\nb,cat\nmore/c,dog\n",
        "file,class\na.JPEG,dog\nmore/c.jpg,dog\nb.png,cat\n",
        '\ufeffImageId,Label\r\n"a", dog\r\n\r\nb,"cat"\r\nmore/c,dog,ignored\r\n',
    ],
)
def test_a_table_in_any_form(text, folder, tmp_path):
    (tmp_path / "labels.csv").write_text(text, newline="")
    source = open_labeled(folder, tmp_path / "labels.csv")
    assert source.class_names == ("cat", "dog")
    assert source.file_names == ["a.JPEG", "b.png", "more/c.jpg"]
    assert [source[record]["label"] for record in range(3)] == [1, 0, 1]
    assert source[2]["image"] == b"more/c.jpg"
    assert source.split == "labeled by labels.csv"


def test_a_changed_table_is_another_data_set(folder, tmp_path):
    digests = set()
    for text in ("a,dog\nb,cat\nmore/c,dog\n", "a,cat\nb,cat\nmore/c,dog\n"):
        (tmp_path / "labels.csv").write_text(text)
        digests.add(open_labeled(folder, tmp_path / "labels.csv").part().digest)
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,dog\nb,cat\n", r"has no row for .*more/c\.jpg \(1 of 3 pictures have none\)"),
        ("a,dog\nb,cat\nd,dog\n", "row 3: there is no picture d in"),
        ("a,dog\nb,cat\na.JPEG,cat\n", r"row 3: a\.JPEG has a row before"),
        ("a,dog\nb,\n", "row 2: b has no class"),
        ("a\nb\n", "the row 'a' has one column"),
        ("", "has no rows"),
        ('a,"dog\n', "cannot be read as a CSV file"),
    ],
)
def test_tables_that_do_not_fit(text, message, folder, tmp_path):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        open_labeled(folder, tmp_path / "labels.csv")
    assert "\n" not in str(error.value)


def test_what_is_not_there(folder, tmp_path):
    with pytest.raises(UserError, match=r"x\.csv cannot be read as a CSV file: No such file"):
        open_labeled(folder, tmp_path / "x.csv")
    with pytest.raises(UserError, match="is not a folder of pictures"):
        open_labeled(tmp_path / "nowhere", tmp_path / "x.csv")
    for name, split in (("shapes", None), (f"folder:{folder}", "val")):
        with pytest.raises(UserError, match=r"--labels=.* is for a plain folder of pictures"):
            datasets.open_split(name, split, labels=tmp_path / "x.csv")


def test_kaggles_table_of_imagenet(shared_data, tmp_path):
    with zipfile.ZipFile(shared_data("ilsvrc_val750_s320.zip")) as archive:
        for name in archive.namelist():
            if name.startswith("val/") and name.endswith("JPEG"):
                (tmp_path / name).parent.mkdir(exist_ok=True)
                (tmp_path / name).write_bytes(b"")
        archive.extract("LOC_val_solution.csv", tmp_path)
    source = open_labeled(tmp_path / "val", tmp_path / "LOC_val_solution.csv")
    assert len(source) == 750
    assert {*source.class_names} < {*imagenet.wnids()}
    first = source.class_names[source.labels[0]]
    assert (source.file_names[0], first) == ("ILSVRC2012_val_00000002.JPEG", "n09193705")
