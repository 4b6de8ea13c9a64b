"""Apply a fitted classifier to new pictures, described as those that it was fitted on.

how, layers = require(classifier, nets)
scores = predict(classifier, nets, how, layers, source, threads=8)  # [N, C]
"""

from collections.abc import Sequence

import numpy as np

from deepconv.data.pipeline import Source
from deepconv.exceptions import UserError
from deepconv.inference import buckets
from deepconv.inference.model import Model
from deepconv.inference.rows import Memory
from deepconv.transfer import descriptors
from deepconv.transfer.descriptors import How
from deepconv.transfer.linear import scores
from deepconv.transfer.svm_file import Classifier


def require(classifier: Classifier, nets: Sequence[Model]) -> tuple[How, list[str]]:
    """Return how images are described for a classifier, after checking that networks fit it.

    Raises:
      UserError: if they are not those that it was fitted on, in that order, or their descriptors
        have another width.
    """
    settings = classifier.settings
    try:
        known = list(settings["networks"])
        how = How(tuple(settings["scales"]), settings["combine"])
        layers = [str(each["layer"]) for each in known]
        named = [(str(each["name"]), each["config_hash"], each["step"]) for each in known]
    except (KeyError, TypeError):
        raise UserError("the SVM was not written by deepconv transfer") from None
    if len(nets) != len(known):
        raise UserError(
            f"the SVM was fitted on {len(known)} networks, {' and '.join(n for n, *_ in named)}; "
            f"give --weights as many, not {len(nets)}"
        )
    for net, layer in zip(nets, layers, strict=True):
        descriptors.require([net], how._replace(layer=layer))
    width = descriptors.width(nets, layers, how)
    classifier.require_width(width, " and ".join(net.name for net in nets))
    for net, (name, digest, step) in zip(nets, named, strict=True):
        if net.digest != digest:
            raise UserError(
                f"the SVM was fitted on another network, {name}, whose descriptors are not those "
                f"of {net.name}"
            )
        if net.step != step:
            raise UserError(
                f"the SVM was fitted on {name} after update {step:,}, and these are its parameters "
                f"after {net.step:,}; --checkpoint says which are used"
            )
    return how, layers


def predict(
    classifier: Classifier,
    nets: Sequence[Model],
    how: How,
    layers: Sequence[str],
    source: Source,
    *,
    threads: int,
) -> np.ndarray:
    """Return the scores of pictures; where one is positive, the class is present.

    Args:
      classifier: the SVM.
      nets: the networks, their parameters on all devices.
      how: see `require`.
      layers: likewise.
      source: the pictures.
      threads: how many decode.

    Returns:
      float32 `[N, C]`; NaN for a picture that cannot be decoded.

    Raises:
      UserError: if a file's header is not that of a picture.
    """
    table = descriptors.describe(
        nets,
        layers,
        how,
        source,
        buckets.survey(source, threads),
        into=lambda _, __, shape: Memory(shape),
        threads=threads,
        strict=False,
    )
    return scores(classifier.linear, table)
