"""Predict the best labels for pictures.

logs = log_posteriors(model, source, Request("dense", (256,)), threads=8)
predictions = best(logs, source.file_names, model.labels)
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from deepconv import parallel
from deepconv.data.pipeline import Source
from deepconv.evaluation.ensemble import fuse
from deepconv.inference import buckets, scoring
from deepconv.inference.evaluate import Request
from deepconv.inference.model import Model
from deepconv.inference.rows import Memory

BEST = 5


class Prediction(NamedTuple):
    """The labels of a picture.

    Attributes:
      picture: the name of its file, see `naming.decoded`.
      best: (label, posterior) of the five best, best first.
      classes: the class numbers of these labels.
    """

    picture: str
    best: tuple[tuple[str, float], ...]
    classes: tuple[int, ...]


def log_posteriors(
    model: Model, source: Source, request: Request, *, threads: int, mesh: Mesh | None = None
) -> np.ndarray:
    """Return pictures' log posteriors, computed as in evaluation but not saved.

    Args:
      model: the network, its parameters on all devices of the mesh.
      source: the pictures.
      request: the protocol and the scales.
      threads: number of decoding threads.
      mesh: the devices that share each batch; by default all.

    Returns:
      float32 `[N, C]`; NaN for a picture that cannot be decoded.

    Raises:
      UserError: if a file's header is not that of a picture, or the network cannot be applied in
        this way.
    """
    survey = buckets.survey(source, threads)
    scales = request.scales or (model.config.evaluation.scale,)
    wanted = [(view, scale) for view in request.views for scale in scales]
    for view, scale in wanted:
        scoring.require_view(model, view, scale)
    return fuse(
        [
            scoring.log_posteriors(
                model,
                view=view,
                scale=scale,
                source=source,
                sizes=survey.rescaled(scale),
                into=Memory((len(source), len(model.class_names))),
                mesh=mesh or parallel.data_mesh(),
                threads=threads,
                strict=False,
            )
            for view, scale in wanted
        ]
    )


def best(
    log_posteriors: np.ndarray, names: Sequence[str], labels: Sequence[str]
) -> list[Prediction]:
    """Return the best labels of each picture; ties go to the lower class number.

    Args:
      log_posteriors: `[N, C]`.
      names: names of the pictures.
      labels: names of the classes, `[C]`.
    """
    order = np.argsort(-log_posteriors, axis=1, kind="stable")[:, :BEST]
    return [
        Prediction(
            name,
            tuple((labels[c], float(np.exp(row[c]))) for c in classes),
            tuple(map(int, classes)),
        )
        for name, row, classes in zip(names, log_posteriors, order, strict=True)
    ]
