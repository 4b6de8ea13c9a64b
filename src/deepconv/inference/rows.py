"""Posteriors of a whole set of images: computed once, kept on disk, taken up where they stopped.

sheet = score(trained, view="dense", scale=256, source=source, survey=survey, mesh=mesh,
              path=folder / "dense_q256.npz", dataset="imagenet2012, validation",
              contents=part.digest, threads=8)
sheet.log_posteriors  # [N, C]
"""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from tqdm import tqdm

from deepconv import atomic, compilation, parallel
from deepconv.data import pipeline
from deepconv.data.pipeline import Source
from deepconv.evaluation.protocols import OF_CENTRAL_SQUARE, VIEWS
from deepconv.exceptions import UserError
from deepconv.inference import buckets
from deepconv.inference.buckets import Canvas, Survey
from deepconv.inference.model import Trained
from deepconv.models.layers import LocalConv, map_size

# Programs compiled for one network at one scale.
MOST_CANVASES = 8


class Sheet(NamedTuple):
    """Posteriors of a set of images, and all that is needed to judge or fuse them later.

    Attributes:
      log_posteriors: float32 `[N, C]`, natural logs; see `evaluation.posteriors`.
      labels: `[N]` int32.
      image_ids: `[N]`.
      class_names: `[C]`.
      origin: what they are of, in JSON.
    """

    log_posteriors: np.ndarray
    labels: np.ndarray
    image_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    origin: dict[str, Any]

    @property
    def posteriors(self) -> np.ndarray:
        """The posteriors, float32 `[N, C]`; those below 1e-45 are 0."""
        return np.asarray(np.exp(self.log_posteriors))

    def save(self, path: Path) -> None:
        """Write a `.npz` that appears whole or not at all."""
        with atomic.replacing(path) as file:
            np.savez(
                file,
                log_posteriors=self.log_posteriors,
                labels=self.labels,
                image_ids=np.array(self.image_ids, str),
                class_names=np.array(self.class_names, str),
                origin=np.array(json.dumps(self.origin)),
            )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; nothing in the file is executed.

        A file that has `posteriors` in place of `log_posteriors` is read too. The log of one that
        is 0, as one too small for float32 is, is -inf: such classes tie in the order of their
        numbers, and the mean loss is infinite if one is true.

        Raises:
          UserError: if it is not there, or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                sheet = cls(
                    _logs(arrays),
                    arrays["labels"],
                    tuple(arrays["image_ids"].tolist()),
                    tuple(arrays["class_names"].tolist()),
                    json.loads(str(arrays["origin"])),
                )
            shape = (len(sheet.image_ids), len(sheet.class_names))
            if sheet.log_posteriors.shape != shape or sheet.labels.shape != shape[:1]:
                raise ValueError(
                    f"of {shape[0]} images and {shape[1]} classes it has {sheet.labels.shape} "
                    f"labels and {sheet.log_posteriors.shape} posteriors"
                )
            if not np.issubdtype(sheet.labels.dtype, np.integer):
                raise ValueError(f"the labels are {sheet.labels.dtype}, not integers")
        except FileNotFoundError:
            raise UserError(f"there are no posteriors {path}") from None
        except Exception as error:  # a zip file of another kind, or cut short, raises anything
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{path} does not hold posteriors: {reason}") from None
        return sheet


def _logs(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    if "log_posteriors" in arrays:
        return arrays["log_posteriors"]
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(arrays["posteriors"]))


def check(trained: Trained, view: str, scale: int) -> None:
    """Find out whether a network can look at images of a scale in this way.

    Raises:
      UserError: if the scale is too small, or the network is not fully convolutional.
    """
    layers, crop = trained.network.layers, trained.network.crop
    name = trained.config.model.name
    if not view.startswith("dense"):
        if scale < crop:
            raise UserError(f"Q={scale} is below the crop of {name}, {crop}: no crop fits")
        return
    if any(isinstance(layer, LocalConv) for layer in layers):
        raise UserError(
            f"{name} has locally connected layers, so it cannot be applied densely; "
            "--protocol=nine_view, ten_crop and center look at crops"
        )
    try:
        map_size(layers, scale)
    except ValueError as error:
        raise UserError(f"Q={scale} is too small for {name}: {error}") from None


def score(
    trained: Trained,
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
    strict: bool = True,
) -> Sheet:
    """Compute the posteriors of a set of images, or what is still missing of them.

    Rows are on disk as soon as they are computed; a killed evaluation goes on after them. What was
    computed from other parameters or images is done anew.

    Args:
      trained: the network.
      view: a key of `protocols.VIEWS`.
      scale: the shorter side Q of the images, in pixels.
      source: the images.
      survey: of them.
      dataset: their name, for the record.
      contents: a digest that changes with the images.
      path: of the `.npz`.
      mesh: the devices that share each batch.
      threads: how many decode.
      strict: whether an image that cannot be read is an error; else its posteriors are NaN.

    Raises:
      UserError: if an image cannot be read, or `check` finds a fault.
    """
    check(trained, view, scale)
    origin = {
        "network": trained.config.model.name,
        "run": trained.name,
        "config_hash": trained.digest,
        "step": trained.step,
        "view": view,
        "scale": scale,
        "dataset": dataset,
        "images": len(source),
        "contents": contents,
        # Files of posteriors themselves, in which small ones tie, are not taken for these.
        "holds": "log_posteriors",
    }
    if path.exists():
        sheet = Sheet.load(path)
        same = sheet.origin == origin and sheet.image_ids == survey.image_ids
        if same and np.array_equal(sheet.labels, survey.labels):
            return sheet
    rows = _Rows(path.with_suffix(".partial"), origin, len(source), len(trained.class_names))
    step = compilation.jit(
        jax.shard_map(
            lambda params, image, extent: VIEWS[view](
                trained.network, params, image, extent, _mean(trained, view, scale)
            ),
            mesh=mesh,
            in_specs=(P(), P(parallel.DATA_AXIS), P(parallel.DATA_AXIS)),
            out_specs=P(parallel.DATA_AXIS),
        )
    )
    budget = trained.config.evaluation.batch_size * trained.network.crop**2
    with tqdm(
        total=len(source),
        initial=int(rows.done.sum()),
        desc=f"{trained.name}, {view}, Q={scale}",
        unit=" images",
        disable=not sys.stderr.isatty(),
    ) as bar:
        for canvas in buckets.lay_out(survey.rescaled(scale), MOST_CANVASES):
            missing = canvas._replace(records=canvas.records[~rows.done[canvas.records]])
            if not len(missing.records):
                continue
            size = _batch_size(canvas, budget, mesh.size)
            batches = buckets.canvas_batches(source, scale, missing, batch_size=size, strict=strict)
            pending: tuple[np.ndarray, jax.Array] | None = None
            for batch in pipeline.iter_from(batches, 0, threads=threads):
                arrays = parallel.shard_batch((batch["image"], batch["extent"]), mesh)
                # The rows before are written while the device computes these.
                pending, before = (batch["record"], step(trained.params, *arrays)), pending
                bar.update(rows.write(before))
            bar.update(rows.write(pending))
    says = np.where(rows.done[:, None], rows.log_posteriors, np.float32(np.nan))
    sheet = Sheet(says, survey.labels, survey.image_ids, trained.class_names, origin)
    sheet.save(path)
    rows.remove()
    return sheet


def _mean(trained: Trained, view: str, scale: int) -> jax.Array:
    """Return the mean to subtract: a mean image serves crops of squares of its own size alone."""
    mean = trained.colors.to_subtract(trained.config.input.mean)
    if mean.ndim == 3 and not (view in OF_CENTRAL_SQUARE and len(mean) == scale):
        mean = trained.colors.mean_rgb
    return jnp.asarray(mean, jnp.float32)


def _batch_size(canvas: Canvas, budget: int, devices: int) -> int:
    """Return how many images, with their mirror images, fill the budget of pixels."""
    images = min(budget // (2 * canvas.height * canvas.width), len(canvas.records))
    return max(1, -(-images // devices)) * devices


class _Rows:
    """Log posteriors in a folder, row by row; a killed process loses none it has written."""

    def __init__(self, folder: Path, origin: dict[str, Any], images: int, classes: int) -> None:
        self._folder = folder
        about = folder / "origin.json"
        files = (folder / "log_posteriors.npy", folder / "done.npy")
        known = about.exists() and json.loads(about.read_text()) == origin
        if not known:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            np.lib.format.open_memmap(files[0], "w+", np.float32, (images, classes)).flush()
            np.lib.format.open_memmap(files[1], "w+", np.bool_, (images,)).flush()
            atomic.write_json(about, origin)
        self.log_posteriors, self.done = (np.load(file, mmap_mode="r+") for file in files)

    def write(self, scored: tuple[np.ndarray, jax.Array] | None) -> int:
        """Take in (record numbers `[n]`, log posteriors `[n, C]`); return how many are images."""
        if scored is None:
            return 0
        records, says = scored
        real = records >= 0
        self.log_posteriors[records[real]] = np.asarray(says)[real]
        self.done[records[real]] = True
        return int(real.sum())

    def remove(self) -> None:
        del self.log_posteriors, self.done
        shutil.rmtree(self._folder)
