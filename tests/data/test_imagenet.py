"""ImageNet's classes: numbers, wnids and names, as everyone has them."""

import json
import zipfile

from deepconv.data import imagenet


def test_numbers_are_the_published_ones():
    assert len(imagenet.wnids()) == imagenet.CLASSES
    assert [*imagenet.wnids()] == sorted(imagenet.wnids())
    for number, label in ((0, "tench"), (281, "tabby"), (657, "missile"), (999, "toilet tissue")):
        assert imagenet.label(imagenet.wnids()[number]) == label


def test_they_are_those_of_keras_and_kaggle(shared_data):
    with zipfile.ZipFile(shared_data("ilsvrc_val750_s320.zip")) as archive:
        index = json.loads(archive.read("imagenet_class_index.json"))
        lines = archive.read("LOC_synset_mapping.txt").decode().splitlines()
    assert [index[str(number)][0] for number in range(1000)] == [*imagenet.wnids()]
    for line, (wnid, names) in zip(lines, imagenet.synsets().items(), strict=True):
        assert line == f"{wnid} {', '.join(names)}"


def test_labels_are_distinct():
    labels = [imagenet.label(wnid) for wnid in imagenet.wnids()]
    assert len({*labels}) == 1000
    assert [label for label in labels if "(" in label] == [
        "crane (n02012849)",
        "crane (n03126707)",
        "maillot (n03710637)",
        "maillot (n03710721)",
    ]
    assert imagenet.label("daisy field") == "daisy field"


def test_a_class_is_found_by_any_name():
    tench = ["n01440764"]
    for name in ("n01440764", "tench", "Tench", "Tinca tinca", "tench, Tinca tinca"):
        assert imagenet.find(name) == tench
    assert imagenet.find("great_white_shark") == imagenet.find("man-eater") == ["n01484850"]
    assert imagenet.find("crane") == ["n02012849", "n03126707"]
    assert imagenet.find("crane (n03126707)") == ["n03126707"]
    assert imagenet.find("missile") == ["n03773504"]
    assert imagenet.find("flower") == []
