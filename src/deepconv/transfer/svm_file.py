"""A fitted linear classifier in one safetensors file: two arrays, and a JSON description.

    save(path, Classifier(linear, class_names, settings))
    classifier = load(path)

Nothing in the file is executed.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deepconv.exceptions import UserError
from deepconv.run import weights_file
from deepconv.transfer.linear import Linear

# Key of the description in the file's metadata; a weights file has another one.
_ABOUT = "deepconv_svm"


class Classifier(NamedTuple):
    """A linear classifier with what is needed to use it.

    Attributes:
      linear: its weights.
      class_names: names of its C outputs, in order.
      settings: what it was fitted on and with, in JSON values: networks, layer, scales, C, ...
    """

    linear: Linear
    class_names: tuple[str, ...]
    settings: dict[str, Any]

    def require_width(self, width: int, what: str) -> None:
        """Check that descriptors have as many numbers as those it was fitted on.

        Args:
          width: D of the descriptors.
          what: whose they are, for the message.

        Raises:
          UserError: if D is another.
        """
        if width != (fitted := len(self.linear.weights)):
            raise UserError(
                f"descriptors of {what} have {width} numbers, but the SVM was fitted on {fitted}: "
                "it belongs to another network, layer or number of scales"
            )


def save(path: Path, classifier: Classifier) -> None:
    """Write a classifier's file, which appears whole or not at all.

    Raises:
      UserError: if it cannot be written.
    """
    tensors = {"weights": classifier.linear.weights, "bias": classifier.linear.bias}
    about = {"class_names": [*classifier.class_names], "settings": classifier.settings}
    text = json.dumps(weights_file.with_checksums(tensors, about), sort_keys=True)
    weights_file.write_tensors(path, tensors, {_ABOUT: text})


def load(path: Path) -> Classifier:
    """Read a file written by `save`.

    Raises:
      UserError: if there is none, it is another kind of file, or it is damaged.
    """
    tensors, metadata = weights_file.read_tensors(path)
    if _ABOUT not in metadata:
        raise UserError(f"{path} does not hold a linear SVM")
    try:
        about = json.loads(metadata[_ABOUT])
        names, settings = tuple(map(str, about["class_names"])), dict(about["settings"])
        expected = dict(about["crc32"])
        linear = Linear(tensors["weights"], tensors["bias"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged: its description cannot be read") from None
    if weights_file.with_checksums(tensors, {})["crc32"] != expected:
        raise UserError(f"{path} is damaged: a checksum is wrong")
    weights, bias = linear
    shape = (len(names),)
    if weights.ndim != 2 or weights.shape[1:] != shape or bias.shape != shape:
        raise UserError(
            f"{path} is damaged: weights {weights.shape} and bias {bias.shape} are not of "
            f"{len(names)} classes"
        )
    if any(array.dtype != np.float32 or not np.isfinite(array).all() for array in linear):
        raise UserError(f"{path} is damaged: its numbers are not finite float32")
    return Classifier(linear, names, settings)
