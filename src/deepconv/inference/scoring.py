"""Posteriors of a set of images: computed once, kept on disk, resumed after an interruption.

scored = score(model, view="dense", scale=256, source=source, survey=survey, mesh=mesh,
               path=folder / "dense_q256.npz", dataset="imagenet2012, validation",
               contents=part.digest, threads=8)
scored.log_posteriors  # [N, C]
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from deepconv import atomic, preprocess
from deepconv.data.pipeline import Source
from deepconv.evaluation.ensemble import ScoredImages
from deepconv.evaluation.protocols import OF_CENTRAL_SQUARE, VIEWS
from deepconv.exceptions import UserError, first_line
from deepconv.inference import rows
from deepconv.inference.buckets import Survey
from deepconv.inference.model import Model, require_classes
from deepconv.inference.rows import Memory, Store
from deepconv.models.layers import LocalConv, map_size


def save(scored: ScoredImages, path: Path) -> None:
    """Write posteriors to a `.npz` file, atomically."""
    with atomic.replacing(path) as file:
        np.savez(
            file,
            log_posteriors=scored.log_posteriors,
            labels=scored.labels,
            image_ids=np.array(scored.image_ids, str),
            class_names=np.array(scored.class_names, str),
            origin=np.array(json.dumps(scored.origin)),
        )


def load(path: Path) -> ScoredImages:
    """Read a file written by `save`; nothing in it is executed.

    A file with `posteriors` instead of `log_posteriors` is accepted too. The log of a posterior
    that is 0, perhaps because it was too small for float32, is -inf: such classes tie and are
    ranked by number, and the mean loss is infinite if one of them is the true class.

    Raises:
      UserError: if there is no such file, or it does not contain posteriors.
    """
    with _arrays(path) as arrays:
        scored = ScoredImages(
            _logs(arrays),
            arrays["labels"],
            tuple(arrays["image_ids"].tolist()),
            tuple(arrays["class_names"].tolist()),
            json.loads(str(arrays["origin"])),
        )
        shape = (len(scored.image_ids), len(scored.class_names))
        if scored.log_posteriors.shape != shape or scored.labels.shape != shape[:1]:
            raise ValueError(
                f"it has {shape[0]} images and {shape[1]} classes, but labels of shape "
                f"{scored.labels.shape} and posteriors of shape {scored.log_posteriors.shape}"
            )
        if not np.issubdtype(scored.labels.dtype, np.integer):
            raise ValueError(f"the labels are {scored.labels.dtype}, not integers")
    return scored


def load_origin(path: Path) -> dict[str, Any]:
    """Read only what the posteriors in a file were computed from, not the posteriors.

    Raises:
      UserError: if there is no such file, or it does not contain posteriors.
    """
    with _arrays(path) as arrays:
        origin = json.loads(str(arrays["origin"]))
        if not isinstance(origin, dict):
            raise ValueError("the origin is not a JSON object")
    return origin


@contextmanager
def _arrays(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """Open a file's arrays, each of which is read on access."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            yield arrays
    except FileNotFoundError:
        raise UserError(f"no such file: {path}") from None
    except Exception as error:  # a truncated file, or another kind of zip file, raises anything
        raise UserError(f"{path} is not a file of posteriors: {first_line(error)}") from None


def _logs(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    if "log_posteriors" in arrays:
        return arrays["log_posteriors"]
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(arrays["posteriors"]))


def require_view(model: Model, view: str, scale: int) -> None:
    """Check that a network supports a view at a scale.

    Args:
      model: the network.
      view: a key of `protocols.VIEWS`.
      scale: the shorter side Q of the images, in pixels.

    Raises:
      UserError: if the scale is too small, or the network is not fully convolutional.
    """
    layers, crop = model.network.layers, model.network.crop
    name = model.config.model.name
    if not view.startswith("dense"):
        if scale < crop:
            raise UserError(f"Q={scale} is below {name}'s crop, {crop}: no crop fits")
        return
    if any(isinstance(layer, LocalConv) for layer in layers):
        raise UserError(
            f"{name} has locally connected layers, so it cannot be applied densely; "
            "use --protocol=nine_view, ten_crop or center"
        )
    try:
        map_size(layers, scale)
    except ValueError as error:
        raise UserError(f"Q={scale} is too small for {name}: {error}") from None


def score(
    model: Model,
    *,
    view: str,
    scale: int,
    source: Source,
    survey: Survey,
    dataset: str,
    contents: str,
    path: Path,
    mesh: Mesh,
    threads: int,
) -> ScoredImages:
    """Compute the posteriors of a set of images, or the part that is still missing.

    Rows are written to disk as they are computed, and a killed evaluation resumes after them.
    Results from other parameters or images are computed again.

    Args:
      model: the network, its parameters on all devices.
      view: a key of `protocols.VIEWS`.
      scale: the shorter side Q of the images, in pixels.
      source: the images.
      survey: the survey of the images.
      dataset: name of the data set, for the record.
      contents: a digest that changes with the images.
      path: the `.npz` file.
      mesh: the devices that share each batch.
      threads: number of decoding threads.

    Raises:
      UserError: if an image cannot be read, or the network cannot be applied in this way.
    """
    require_view(model, view, scale)
    origin = {
        "network": model.config.model.name,
        **model.origin,
        "view": view,
        "scale": scale,
        "dataset": dataset,
        "images": len(source),
        "contents": contents,
        # Not to be confused with plain posteriors, in which small ones tie.
        "holds": "log_posteriors",
    }
    if model.multilabel:
        origin["multilabel"] = True
    if path.exists() and load_origin(path) == origin:
        scored = load(path)
        if scored.image_ids == survey.image_ids and np.array_equal(scored.labels, survey.labels):
            return scored
    shape = (len(source), len(model.class_names))
    store = Store(path.with_suffix(".partial"), origin, shape)
    logs = log_posteriors(
        model,
        view=view,
        scale=scale,
        source=source,
        sizes=survey.rescaled(scale),
        into=store,
        mesh=mesh,
        threads=threads,
    )
    scored = ScoredImages(logs, survey.labels, survey.image_ids, model.class_names, origin)
    save(scored, path)
    store.remove()
    return scored


def log_posteriors(
    model: Model,
    *,
    view: str,
    scale: int,
    source: Source,
    sizes: np.ndarray,
    into: Store | Memory,
    mesh: Mesh,
    threads: int,
    strict: bool = True,
) -> np.ndarray:
    """Compute log posteriors with `rows.compute`.

    Args:
      model: the network, its parameters on all devices.
      view: a key of `protocols.VIEWS`.
      scale: the shorter side Q of the images, in pixels.
      source: the images.
      sizes: `[N, 2]` int, (height, width) of the images at this scale.
      into: where to put the rows `[N, C]`.
      mesh: the devices that share each batch.
      threads: number of decoding threads.
      strict: whether an unreadable image is an error; otherwise its row is NaN.

    Returns:
      float32 `[N, C]`.

    Raises:
      UserError: if an image cannot be read.
    """
    require_classes(model)
    square = scale if view in OF_CENTRAL_SQUARE else None
    mean = preprocess.mean_for(model.colors, model.config.input.mean, square=square)

    logs_of = jax.nn.log_sigmoid if model.multilabel else jax.nn.log_softmax

    def scores(params: Any, images: jax.Array, extents: jax.Array) -> jax.Array:
        return VIEWS[view](model.network, params, images, extents, mean, logs_of=logs_of)

    return rows.compute(
        scores,
        model.params,
        source,
        sizes,
        into,
        scale=scale,
        pixels=model.pixels_at_once,
        mesh=mesh,
        threads=threads,
        description=f"{model.name}, {view}, Q={scale}",
        strict=strict,
    )
