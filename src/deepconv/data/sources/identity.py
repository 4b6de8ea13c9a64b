"""The identity of a data set: how to tell whether it is the same when it is opened again.

    identity = dataset.identity
    before = Identity.from_json(json.loads(stored))
    change = difference(before, identity)  # None, or a description of what differs

Files are identified by their names, sizes and modification times, a prepared set by its version and
counts. Reading every image would be more certain, but take as long as an epoch.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

# Name the boxes, or the labels where a picture has several, among a part's contents; no folder and
# no split has a name with a slash.
BOXES = "boxes/"
LABELS = "labels/"


class Part(NamedTuple):
    """One split of a data set.

    Attributes:
      split: its name, such as `train[:90%]` or `validation (held out)`.
      version: version of a prepared set; empty for a folder.
      records: number of records.
      contents: a count and a digest for each class (of a folder) or split (of a prepared set), and
        under `BOXES` of the boxes, or `LABELS` of the labels, if it was opened with them.
      times: digest of the modification times; empty if they are ignored.
    """

    split: str
    version: str
    records: int
    contents: dict[str, str]
    times: str = ""

    @property
    def digest(self) -> str:
        """A short hash that changes whenever the part does."""
        text = json.dumps(self, sort_keys=True)
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


class Identity(NamedTuple):
    """What a run was trained on.

    Attributes:
      class_names: names of the labels 0, 1, ...
      train: the training part.
      evaluation: the part on which the validation error is measured.
    """

    class_names: tuple[str, ...]
    train: Part
    evaluation: Part

    def to_json(self) -> dict[str, Any]:
        """Return the identity as JSON values."""
        return {
            "class_names": [*self.class_names],
            "train": self.train._asdict(),
            "evaluation": self.evaluation._asdict(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return the identity from what `to_json` returned."""
        return cls(tuple(value["class_names"]), Part(**value["train"]), Part(**value["evaluation"]))

    def without_times(self) -> Self:
        """Return the identity without modification times, equal for copies on several machines."""
        return self._replace(
            train=self.train._replace(times=""), evaluation=self.evaluation._replace(times="")
        )


def difference(before: Identity, now: Identity) -> str | None:
    """Return a description of how a data set has changed, or None."""
    return (
        class_difference(before.class_names, now.class_names)
        or _part_difference("training", before.train, now.train)
        or _part_difference("evaluation", before.evaluation, now.evaluation)
    )


def class_difference(before: tuple[str, ...], now: tuple[str, ...]) -> str | None:
    """Return a description of how the classes have changed, or None."""
    if before == now:
        return None
    added = [name for name in now if name not in before]
    missing = [name for name in before if name not in now]
    if not added and not missing:
        return "its classes are in a different order"
    changes = [
        f"class {names[0]!r} {what}" + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")
        for names, what in ((missing, "is missing"), (added, "is new"))
        if names
    ]
    return ", ".join(changes)


def _part_difference(what: str, before: Part, now: Part) -> str | None:
    if before.split != now.split:
        return f"its {what} split changed from {before.split} to {now.split}"
    if before.version != now.version:
        return f"its version changed from {before.version} to {now.version}"
    different = sorted(
        name
        for name in before.contents.keys() | now.contents.keys()
        if before.contents.get(name) != now.contents.get(name)
    )
    for key in (BOXES, LABELS):
        if different == [key]:
            return f"the {key[:-1]} of its {what} images have changed"
    if before.records != now.records or different:
        counts = f"it had {before.records:,} {what} images and now has {now.records:,}"
        if before.records == now.records:
            counts = f"its {what} images have different names or sizes"
        where = f", for example in {different[0]!r}" if different else ""
        return counts + where
    if before.times != now.times:
        return f"its {what} images have different modification times"
    return None
