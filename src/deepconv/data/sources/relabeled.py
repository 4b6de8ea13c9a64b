"""Data sets whose classes are some of a network's, with the network's numbers as labels.

numbers = numbers_among(["n01443537", "cat"], ["n01440764", "n01443537", "cat"])  # [1, 2]
source = Relabeled(source, numbers)
"""

from collections.abc import Sequence
from typing import Any

from deepconv.data import imagenet
from deepconv.data.pipeline import Source
from deepconv.exceptions import UserError


class Relabeled:
    """Records with other labels.

    Attributes:
      source: the records.
      numbers: the new label of each old one.
    """

    def __init__(self, source: Source, numbers: Sequence[int]) -> None:
        self.source, self.numbers = source, numbers

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, record: int) -> dict[str, Any]:
        """Read one record.

        Raises:
          UserError: if it cannot be read, or its label is not a class number.
        """
        example = dict(self.source[record])
        label = int(example["label"])
        if not 0 <= label < len(self.numbers):
            raise UserError(
                f"record {record} has label {label}, but the {len(self.numbers)} classes are "
                f"numbered 0 to {len(self.numbers) - 1}"
            )
        return {**example, "label": self.numbers[label]}


def numbers_among(names: Sequence[str], of: Sequence[str]) -> list[int]:
    """Return the number of each class among the classes of a network.

    A class is found by its name; ImageNet's classes also by their wnid or any of their names,
    whichever of these the network has. What remains may be a class number.

    Args:
      names: names of the data set's classes.
      of: names of the network's classes.

    Raises:
      UserError: if a class is not one of the network's, or two are the same one.
    """
    places: dict[str, int] = {}
    for name_of in (str, _wnid):
        for number, name in enumerate(of):
            places.setdefault(name_of(name), number)
    found: dict[int, str] = {}
    for name in names:
        place = places.get(name, places.get(_wnid(name), _as_number(name, len(of))))
        if place is None:
            raise UserError(
                f"its class {name!r} is not one of the network's {len(of)}, which begin with "
                f"{', '.join(of[:3])}"
            )
        if place in found:
            raise UserError(
                f"its classes {found[place]!r} and {name!r} are the same to the network"
            )
        found[place] = name
    return [*found]


def _wnid(name: str) -> str:
    """Return the wnid of a class of ImageNet; the name itself for any other, and for two in one."""
    found = imagenet.find(name)
    return found[0] if len(found) == 1 else name


def _as_number(name: str, classes: int) -> int | None:
    known = name.isascii() and name.isdecimal() and int(name) < classes
    return int(name) if known else None
