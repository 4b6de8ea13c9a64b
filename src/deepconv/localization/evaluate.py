"""Evaluate networks that predict boxes by the paper's two protocols, and write the results.

    result = evaluate([Path("runs/boxes")], Path("runs/classifier"), Request("dense", (352, 384)))
    result["top5_localization_error"]

"center": the box of the true class from the central crop (VGG Table 8). "dense": ILSVRC's task,
five guesses of class and box, from every place of the map (Tables 9 and 10).
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deepconv import atomic, naming, parallel, tables
from deepconv.data.sources.boxed import BoxedSource
from deepconv.evaluation.ensemble import combine
from deepconv.exceptions import UserError
from deepconv.inference import evaluate as classification
from deepconv.inference import scoring
from deepconv.inference.evaluate import Images
from deepconv.inference.model import Model, open_model
from deepconv.inference.rows import Store
from deepconv.localization import find
from deepconv.localization.find import Guesses, Into
from deepconv.localization.report import report, report_given_class
from deepconv.run import provenance
from deepconv.run.workdir import hold

# Rows of each part of the printed report; the JSON has more.
_ROWS = 10


class Request(NamedTuple):
    """How networks for boxes are to be evaluated.

    Attributes:
      protocol: "center" or "dense".
      scales: the shorter sides Q, of every network; empty: each has the one of its own config.
      scales_of: those of each network, where they differ.
      checkpoint: which parameters, "last" or "best".
      merge: largest match score, 1 - IoU, of two boxes that are merged.
    """

    protocol: str = "dense"
    scales: tuple[int, ...] = ()
    scales_of: tuple[tuple[int, ...], ...] = ()
    checkpoint: str = "last"
    merge: float = find.MERGE


class Result(NamedTuple):
    """The outcome of an evaluation.

    Attributes:
      about: the content of the JSON file.
      text: the same for people, shorter.
      file: the JSON file.
      images: what was evaluated.
      guesses: what was found in each image.
      true_boxes: of each image, float32 `[K, 4]`.
    """

    about: dict[str, Any]
    text: str
    file: Path
    images: Images
    guesses: Guesses
    true_boxes: tuple[np.ndarray, ...]


def evaluate(
    runs: Sequence[Path],
    classifier: Path | None,
    request: Request,
    *,
    dataset: dict[str, str] | None = None,
    out: Path | None = None,
    threads: int = 0,
) -> Result:
    """Evaluate networks for boxes on a data set, and write the results as JSON and text.

    Args:
      runs: folders of runs, or files of weights; the boxes of several are united.
      classifier: likewise, of the network that says which classes; None for "center", where the
        class is given.
      request: how.
      dataset: replaces keys of the first run's `config.dataset`.
      out: the folder of the results and of what is kept; by default in the first run's.
      threads: how many decode; 0: one for each core.

    Raises:
      UserError: if the input cannot be used; the message says what to do.
    """
    threads = threads or os.cpu_count() or 1
    mesh = parallel.data_mesh()
    everywhere = parallel.replicated(mesh)
    nets = [open_model(run, everywhere, checkpoint=request.checkpoint) for run in runs]
    for net in nets:
        find.require_boxes(net)
    wanted = request.scales_of or [request.scales or (net.config.evaluation.scale,) for net in nets]
    scales = tuple(dict.fromkeys(scale for of_net in wanted for scale in of_net))
    _require_protocol(request, nets, classifier, scales)
    if classifier is None:
        nets, images = classification.open_images(runs, nets, dataset, threads=threads, boxes=True)
    else:
        names = open_model(classifier, everywhere, checkpoint=request.checkpoint)
        (*nets, names), images = classification.open_images(
            [*runs, classifier], [*nets, names], dataset, threads=threads, boxes=True
        )
        find.require_classifier(names, nets)
    folder = classification.kept_in(runs[0], images.described, out)
    with hold(folder):
        into = _stores(folder, images)
        if classifier is None:
            boxes = find.of_true_class(
                nets[0],
                images.source,
                images.survey,
                scale=scales[0],
                into=into,
                mesh=mesh,
                threads=threads,
            )
            guesses = Guesses(
                images.survey.labels[:, None], boxes[:, None], np.ones((len(boxes), 1))
            )
        else:
            classes = _classes(names, images, scales, folder, threads)
            guesses = find.find(
                [
                    (net, scale)
                    for net, of_net in zip(nets, wanted, strict=True)
                    for scale in of_net
                ],
                names,
                classes,
                images.source,
                images.survey,
                merge=request.merge,
                into=into,
                mesh=mesh,
                threads=threads,
            )
    return _written(nets, guesses, images, request, scales, classifier, folder)


def _require_protocol(
    request: Request, nets: Sequence[Model], classifier: Path | None, scales: Sequence[int]
) -> None:
    if request.protocol == "center":
        if classifier is not None:
            raise UserError(
                "--protocol=center scores the box of the true class, so --classifier has no effect"
            )
        if len(nets) > 1 or len(scales) > 1:
            raise UserError("--protocol=center takes one network for boxes and one scale")
    elif request.protocol != "dense":
        raise UserError(f"--protocol={request.protocol} is not for boxes; center and dense are")
    elif classifier is None:
        raise UserError(
            "--protocol=dense needs --classifier, the network that says which classes are there; "
            "--protocol=center scores the box of the true class without it"
        )


def _stores(folder: Path, images: Images) -> Into:
    """Return where rows are kept: folders that a second call continues, or uses again."""

    def into(model: Model, scale: int, about: dict[str, Any], shape: tuple[int, ...]) -> Store:
        origin = {
            **about,
            **model.origin,
            "scale": scale,
            "dataset": images.described,
            "contents": images.digest,
            "shape": [*shape],
        }
        places = "center" if len(shape) == 2 else "dense"
        return Store(folder / f"boxes_{places}_{model.name}_{model.digest}_q{scale}", origin, shape)

    return into


def _classes(
    classifier: Model, images: Images, scales: Sequence[int], folder: Path, threads: int
) -> np.ndarray:
    """Return the classes with the highest posteriors of each image, dense over the same scales."""
    parts = [
        scoring.score(
            classifier,
            view="dense",
            scale=scale,
            source=images.source,
            survey=images.survey,
            dataset=images.described,
            contents=images.digest,
            path=folder / f"classes_{classifier.name}_{classifier.digest}_q{scale}.npz",
            mesh=parallel.data_mesh(),
            threads=threads,
        )
        for scale in scales
    ]
    order = np.argsort(-combine(parts).log_posteriors, axis=1, kind="stable")
    return np.asarray(order[:, : find.GUESSES])


def _written(
    nets: Sequence[Model],
    guesses: Guesses,
    images: Images,
    request: Request,
    scales: Sequence[int],
    classifier: Path | None,
    folder: Path,
) -> Result:
    labels, ids = images.survey.labels, images.survey.image_ids
    source = images.source
    assert isinstance(source, BoxedSource)  # opened with boxes
    true = tuple(source.boxes_of(record) for record in range(len(ids)))
    summary = (
        report_given_class(guesses.boxes[:, 0], labels, true, images.class_names, ids)
        if classifier is None
        else report(*guesses, labels, true, images.class_names, ids)
    )
    stem = f"localization_{request.protocol}_q{'-'.join(map(str, scales))}"
    stem += "_best" if request.checkpoint == "best" else ""
    stem += f"_with_{len(nets) - 1}_others" if len(nets) > 1 else ""
    about = {
        "title": f"{' + '.join(net.name for net in nets)}, boxes, {request.protocol}, "
        f"Q={','.join(map(str, scales))}, {images.described}",
        "protocol": request.protocol,
        "scales": [*scales],
        "merge": request.merge if classifier else None,
        "classifier": str(classifier) if classifier else None,
        "networks": [net.name for net in nets],
        **summary,
        "versions": provenance.versions(),
    }
    file = folder / f"{stem}.json"
    atomic.write_json(file, about)
    text = describe(about)
    atomic.write(file.with_suffix(".txt"), f"{text}\n".encode("utf-8", naming.ERRORS))
    return Result(about, text, file, images, guesses, true)


def describe(result: dict[str, Any]) -> str:
    """Return a result as text: the errors, the worst classes and images."""
    errors = [
        (title, f"{100 * result[f'{name}_error']:.2f}", _between(result[f"{name}_interval"]))
        for name, title in (
            ("localization", "localization error, class given"),
            ("top5_localization", "top-5 localization error"),
            ("top1_localization", "top-1 localization error"),
            ("top5", "top-5 classification error"),
            ("top1", "top-1 classification error"),
        )
        if f"{name}_error" in result
    ]
    first = "localization" if "localization_error" in result else "top5_localization"
    classes = [
        (row["name"], row["images"], 100 * row[f"{first}_error"])
        for row in result["classes"][:_ROWS]
    ]
    worst = [(row["image"], row["true"], f"{row['iou']:.2f}") for row in result["worst"][:_ROWS]]
    iou = result["mean_iou"]
    return "\n\n".join(
        [
            f"{naming.one_line(result['title'])}: {result['images']:,} images, mean IoU of the "
            f"true class's box {'-' if iou is None else f'{iou:.3f}'}",
            tables.table(("", "%", "95 % interval"), errors),
            tables.table(("worst classes", "images", "error %"), classes),
            tables.table(("worst images", "true class", "IoU"), worst),
        ]
    )


def _between(interval: Sequence[float]) -> str:
    return f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}"
