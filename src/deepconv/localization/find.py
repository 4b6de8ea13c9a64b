"""Boxes of a set of images: of every network at every scale, then merged to one of each class.

    guesses = find([(net, 352), (net, 384)], classifier, classes, source, survey, ...)
    guesses.boxes  # [N, K, 4]

The networks for boxes say where, the classifier says what (VGG appendix A). Both look at every
place of the same map, so a box has the posteriors of the crop that it was predicted from.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from deepconv import parallel, preprocess
from deepconv.config.schema import predicts_boxes
from deepconv.data.pipeline import Source
from deepconv.exceptions import UserError
from deepconv.inference import rows, scoring
from deepconv.inference.buckets import Survey
from deepconv.inference.model import Model, require_classes
from deepconv.inference.rows import Memory, Store
from deepconv.localization import merging, windows

# Classes that are guessed of an image, as ILSVRC allows.
GUESSES = 5
# Places of a map that are kept; at Q = 384 only images longer than 14:1 have more.
MOST_PLACES = 512
# Largest match score, 1 - IoU, of two boxes that are merged.
MERGE = 0.5
# Images whose boxes are merged at a time; at two scales a thousand are a gigabyte at most.
_AT_ONCE = 256

# Where the rows of a network at a scale go: `(network, scale, origin, shape) -> rows`.
Into = Callable[[Model, int, dict[str, Any], tuple[int, ...]], Store | Memory]


class Guesses(NamedTuple):
    """What is found in each of N images, K guesses each, best first.

    Attributes:
      classes: int `[N, K]`.
      boxes: float64 `[N, K, 4]`, (xmin, ymin, xmax, ymax) as fractions of the image, within it; NaN
        for an image that could not be read.
      scores: float64 `[N, K]`, the sum of the class's posteriors at the places whose boxes were
        merged to this one.
    """

    classes: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray


def require_boxes(model: Model) -> None:
    """Check that a network predicts boxes.

    Raises:
      UserError: if it classifies.
    """
    if not predicts_boxes(model.config):
        raise UserError(
            f"{model.name} predicts classes, not boxes; pass it as --classifier, and train a "
            "network for boxes with deepconv train --config=localization"
        )


def require_classifier(classifier: Model, nets: Sequence[Model]) -> None:
    """Check that a classifier can say what the boxes of some networks are of.

    Raises:
      UserError: if it predicts boxes, knows other classes, or has another map.
    """
    require_classes(classifier)
    if classifier.multilabel:
        raise UserError(
            f"{classifier.name} predicts several labels a picture; localization needs a classifier "
            "of one label (dataset.multilabel=False)"
        )
    for net in nets:
        if net.class_names != classifier.class_names:
            raise UserError(
                f"{classifier.name} was trained on different classes than {net.name}, whose boxes "
                "it is to name"
            )
        ours, theirs = _geometry(net), _geometry(classifier)
        if ours != theirs:
            raise UserError(
                f"{classifier.name} looks at crops of {theirs[0]} pixels {theirs[1]} apart, and "
                f"{net.name} at crops of {ours[0]} pixels {ours[1]} apart; they must be the same"
            )


def _geometry(model: Model) -> tuple[int, int]:
    crop = model.network.crop
    return crop, windows.stride_of(model.network.layers, crop)


def of_true_class(
    model: Model,
    source: Source,
    survey: Survey,
    *,
    scale: int,
    into: Into,
    mesh: Mesh,
    threads: int,
) -> np.ndarray:
    """Return the box of each image's true class, from its central crop (VGG Table 8).

    Args:
      model: the network for boxes, its parameters on all devices.
      source: the images.
      survey: of them, with their labels.
      scale: the shorter side Q of the images, in pixels.
      into: where rows go.
      mesh: the devices that share each batch.
      threads: how many decode.

    Returns:
      float64 `[N, 4]`, (xmin, ymin, xmax, ymax) as fractions of the image, within it.

    Raises:
      UserError: if the network does not predict boxes or no crop fits, or an image cannot be read.
    """
    require_boxes(model)
    scoring.require_view(model, "center", scale)
    mean = preprocess.mean_for(model.colors, model.config.input.mean, square=None)

    def boxes(params: Any, images: jax.Array, extents: jax.Array, labels: jax.Array) -> jax.Array:
        return windows.of_center(model.network, params, images, extents, mean, labels=labels)

    found = rows.compute(
        boxes,
        model.params,
        source,
        survey.rescaled(scale),
        into(model, scale, {"view": "box of the true class, center crop"}, (len(source), 4)),
        scale=scale,
        pixels=model.pixels_at_once,
        mesh=mesh,
        threads=threads,
        description=f"{model.name}, boxes, center, Q={scale}",
        given=survey.labels,
    )
    return np.asarray(np.clip(found.astype(np.float64), 0.0, 1.0))


def find(
    members: Sequence[tuple[Model, int]],
    classifier: Model,
    classes: np.ndarray,
    source: Source,
    survey: Survey,
    *,
    merge: float = MERGE,
    into: Into,
    mesh: Mesh | None = None,
    threads: int,
    strict: bool = True,
) -> Guesses:
    """Find a box of each of some classes in every image, densely (VGG appendix A).

    The boxes of all networks and scales are united and merged (`merging.merge_all`); of each class
    the merged box with the highest sum of posteriors is its guess.

    Args:
      members: networks for boxes, their parameters on all devices, and for each the shorter side Q
        of the images, in pixels; a network may be there at several.
      classifier: whose posteriors at each place are the boxes' scores, likewise.
      classes: int `[N, K]`, the classes to find in each image, best first.
      source: the images.
      survey: of them.
      merge: largest match score of two boxes that are merged.
      into: where the rows of a network at a scale go.
      mesh: the devices that share each batch; by default all.
      threads: how many decode.
      strict: whether an image that cannot be read is an error.

    Raises:
      UserError: if the networks do not fit each other or a scale, or an image cannot be read.
    """
    for net, scale in members:
        require_boxes(net)
        scoring.require_view(net, "dense", scale)
    require_classifier(classifier, [net for net, _ in members])
    every = [
        _at_places(
            net,
            classifier,
            classes,
            source,
            survey,
            scale=scale,
            into=into,
            mesh=mesh or parallel.data_mesh(),
            threads=threads,
            strict=strict,
        )
        for net, scale in members
    ]
    count, guesses = classes.shape
    boxes, scores = np.empty((count, guesses, 4)), np.empty((count, guesses))
    for start in range(0, count, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        # [n, P, K, 5], P the places of all networks and scales; a problem of its own for each class
        together = np.concatenate([one[part] for one in every], axis=1)
        problems = np.moveaxis(together, 1, 2).reshape(-1, together.shape[1], 5)
        merged, sums = merging.merge_all(problems[..., :4], problems[..., 4], threshold=merge)
        best, highest = merging.best_boxes(merged, sums[..., None])
        boxes[part] = best.reshape(-1, guesses, 4)
        scores[part] = highest.reshape(-1, guesses)
    return Guesses(classes, boxes, scores)


def _at_places(
    net: Model,
    classifier: Model,
    classes: np.ndarray,
    source: Source,
    survey: Survey,
    *,
    scale: int,
    into: Into,
    mesh: Mesh,
    threads: int,
    strict: bool,
) -> np.ndarray:
    """Return the boxes of some classes at every place, and the posteriors there: `[N, P, K, 5]`."""
    sizes = survey.rescaled(scale)
    maps = np.asarray(net.network.map_extents(jnp.asarray(sizes)))
    most = min(MOST_PLACES, int(maps.prod(axis=1).max()))
    mean, other_mean = (
        preprocess.mean_for(model.colors, model.config.input.mean, square=None)
        for model in (net, classifier)
    )

    def boxes(
        params: tuple[Any, Any], images: jax.Array, extents: jax.Array, wanted: jax.Array
    ) -> jax.Array:
        pixels = images.astype(np.float32) - other_mean
        maps: Any = classifier.network.apply({"params": params[1]}, pixels, extents=extents)
        return windows.of_whole(
            net.network,
            params[0],
            images,
            extents,
            mean,
            class_maps=maps,
            classes=wanted,
            most=most,
        )

    origin = {
        "view": "boxes at every place",
        "classifier": classifier.origin,
        "classes": hashlib.sha256(classes.astype(np.int32).tobytes()).hexdigest()[:16],
    }
    shape = (len(source), most, classes.shape[1], 5)
    return rows.compute(
        boxes,
        (net.params, classifier.params),
        source,
        sizes,
        into(net, scale, origin, shape),
        scale=scale,
        pixels=net.pixels_at_once,
        mesh=mesh,
        threads=threads,
        description=f"{net.name}, boxes, Q={scale}",
        strict=strict,
        given=classes.astype(np.int32),
    )
