"""ImageNet's 1000 classes, as numbered in ILSVRC 2012 to 2017 and by every published network.

    imagenet.wnids()[0]  # "n01440764"
    imagenet.label("n01440764")  # "tench"
    imagenet.find("Tinca tinca")  # ["n01440764"]

`imagenet_classes.txt` has a line for each class in the order of its number: its identifier in
WordNet, its wnid, and its names, the usual one first.
"""

import collections
import functools
import importlib.resources
from collections.abc import Mapping

CLASSES = 1000


@functools.cache
def synsets() -> Mapping[str, tuple[str, ...]]:
    """Return the names of each class by its wnid, in the order of the class numbers."""
    text = importlib.resources.files("deepconv.data").joinpath("imagenet_classes.txt").read_text()
    lines = (line.partition(" ") for line in text.splitlines())
    return {wnid: tuple(names.split(", ")) for wnid, _, names in lines}


@functools.cache
def wnids() -> tuple[str, ...]:
    """Return the wnids of the classes 0 to 999."""
    return tuple(synsets())


@functools.cache
def _labels() -> Mapping[str, str]:
    counts = collections.Counter(names[0] for names in synsets().values())
    return {
        wnid: names[0] if counts[names[0]] == 1 else f"{names[0]} ({wnid})"
        for wnid, names in synsets().items()
    }


def label(name: str) -> str:
    """Return the usual name of a class that is given by its wnid, and any other name unchanged.

    The two cranes and the two maillots have the wnid behind their names.
    """
    return _labels().get(name, name)


def find(name: str) -> list[str]:
    """Return the wnids of the classes that have a name, in any case, with `_` for a space or not.

    Args:
      name: a wnid, what `label` returns, any of a class's names, or all of them with commas.
    """
    return [*_by_name().get(_plain(name), ())]


@functools.cache
def _by_name() -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = collections.defaultdict(list)
    for wnid, names in synsets().items():
        for each in dict.fromkeys(map(_plain, (wnid, label(wnid), ", ".join(names), *names))):
            found[each].append(wnid)
    # "missile" is the label of one class, though it is a name of another one too.
    for wnid, each in _labels().items():
        found[_plain(each)] = [wnid]
    return {name: tuple(wnids) for name, wnids in found.items()}


def _plain(name: str) -> str:
    return name.replace("_", " ").casefold()
