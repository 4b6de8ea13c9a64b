"""Apply the protocol of VGG's appendix B to a data set, and write the results.

    result = evaluate([Path("vgg16.safetensors")], Request("caltech101:/data", (256, 384, 512)))
    result.about["mean"]

What is computed of the images is kept in each network's own folder and used again; see
`descriptors`.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from deepconv import atomic, naming, parallel
from deepconv.exceptions import UserError
from deepconv.inference import evaluate as classification
from deepconv.inference.model import Model, open_model
from deepconv.inference.rows import Store
from deepconv.run import provenance
from deepconv.run.workdir import hold, require_unseen
from deepconv.transfer import aggregate, descriptors, protocol, splits
from deepconv.transfer.descriptors import How, Into
from deepconv.transfer.protocol import Outcome, Part
from deepconv.transfer.report import ACTIONS, IMAGES, PUBLISHED
from deepconv.transfer.svm_file import Classifier
from deepconv.transfer.task import Images, Task, open_task
from deepconv.transfer.text import describe

# Bytes of the other networks' names in the name of a file.
_LONGEST_NAME = 100


class Request(NamedTuple):
    """What is to be classified, and how.

    Attributes:
      dataset: see `task.open_task`.
      scales: the shorter sides Q; empty: the one of the first network's own config.
      combine: what becomes of several scales.
      layer: whose activations; empty: the last in front of each network's classifier.
      splits: how many are drawn; None: as many as in the paper. For Caltech only.
      seed: of the splits, and of the images held out to choose C.
      checkpoint: which parameters, "last" or "best".
      data_dir: the folder of prepared data sets.
      train_split: the split to train on; by default, and in Caltech's sets, see `task.open_task`.
      test_split: the split to test with, likewise.
    """

    dataset: str
    scales: tuple[int, ...] = ()
    combine: Literal["stack", "average"] = "stack"
    layer: str = ""
    splits: int | None = None
    seed: int = 0
    checkpoint: str = "last"
    data_dir: str = ""
    train_split: str | None = None
    test_split: str | None = None


class Result(NamedTuple):
    """The outcome.

    Attributes:
      about: the content of the JSON file.
      text: the same for people, shorter.
      file: the JSON file.
      test: the images that the worst are among.
      classifier: the one fitted on the first split.
    """

    about: dict[str, Any]
    text: str
    file: Path
    test: Images
    classifier: Classifier


def evaluate(
    runs: Sequence[Path], request: Request, *, out: Path | None = None, threads: int = 0
) -> Result:
    """Fit linear SVMs on networks' descriptors of a data set, test them, write JSON and text.

    Args:
      runs: folders of runs, or files of weights; the descriptors of several are stacked.
      request: what, and how.
      out: the folder of the results and of what is kept; by default in the runs' own.
      threads: how many decode, and how many SVMs are fitted at a time; 0: one for each core.

    Raises:
      UserError: if the input cannot be used; the message says what to do.
    """
    threads = threads or os.cpu_count() or 1
    if len({run.resolve() for run in runs}) < len(runs):
        raise UserError("--weights names a network twice; stacked with itself it says no more")
    mesh = parallel.data_mesh()
    nets = [
        open_model(run, parallel.replicated(mesh), checkpoint=request.checkpoint) for run in runs
    ]
    scales = request.scales or (nets[0].config.evaluation.scale,)
    how = How(scales, request.combine, request.layer)
    layers = descriptors.require(nets, how)
    task = open_task(
        request.dataset,
        data_dir=request.data_dir,
        train_split=request.train_split,
        test_split=request.test_split,
        threads=threads,
    )
    drawn = _drawn(task, request)
    for run, net in zip(runs, nets, strict=True):
        if net.config.dataset.name == task.name and run.is_dir():
            for images in task.images:
                require_unseen(run, images.part)
    began = time.monotonic()
    folders = {
        view.described: [classification.kept_in(run, view.described, out) for run in runs]
        for images in task.images
        for view in images.views
    }
    with contextlib.ExitStack() as held:
        for folder in {path: None for own in folders.values() for path in own}:
            held.enter_context(hold(folder))

        def table(view: Images) -> np.ndarray:
            return descriptors.describe(
                nets,
                layers,
                how,
                view.source,
                view.survey,
                into=_stores(folders[view.described], nets, layers, view, request.checkpoint),
                mesh=mesh,
                threads=threads,
            )

        described = [_joined([*map(table, images.views)]) for images in task.images]
        seconds = time.monotonic() - began
        outcome = _fitted(task, drawn, described, request, threads)
        about = _about(task, drawn, nets, layers, how, request, outcome, described[0].shape[1])
        about["seconds"] = {"descriptors": seconds, "svm": time.monotonic() - began - seconds}
        file = folders[task.images[-1].described][0] / f"{_stem(nets, layers, how, request)}.json"
        atomic.write_json(file, about)
        text = describe(about)
        atomic.write(file.with_suffix(".txt"), f"{text}\n".encode("utf-8", naming.ERRORS))
    settings = {key: about[key] for key in ("networks", "scales", "combine", "dataset", "seed")}
    settings |= {"C": about["splits"][0]["C"], "metric": about["metric"], "mean": about["mean"]}
    classifier = Classifier(outcome.linear, task.class_names, settings)
    return Result(about, text, file, task.images[-1], classifier)


def _drawn(task: Task, request: Request) -> tuple[splits.Split, ...]:
    """Draw the splits of a data set that has none of its own."""
    if task.test is not None:
        if request.splits is not None:
            raise UserError(f"{task.name} has splits of its own, so --splits has no effect")
        return ()
    rule = splits.CALTECH[task.column]
    if request.splits is not None:
        rule = rule._replace(splits=request.splits)
    names, labels = task.train.survey.image_ids, task.train.targets.tolist()
    return splits.draw(rule, names, labels, seed=request.seed)


def _stores(
    folders: Sequence[Path],
    nets: Sequence[Model],
    layers: Sequence[str],
    images: Images,
    checkpoint: str,
) -> Into:
    """Return where rows are kept: folders that a second call continues, or uses again."""

    def into(number: int, scale: int, shape: tuple[int, ...]) -> Store:
        net, layer = nets[number], layers[number]
        origin = {
            "view": "mean over the map, with the mirror image",
            **net.origin,
            "layer": layer,
            "scale": scale,
            "dataset": images.described,
            "contents": images.part.digest,
            "shape": [*shape],
        }
        best = "_best" if checkpoint == "best" else ""
        return Store(folders[number] / f"descriptors_{layer}_q{scale}{best}", origin, shape)

    return into


def _joined(views: list[np.ndarray]) -> np.ndarray:
    return views[0] if len(views) == 1 else aggregate.stack(views)


def _fitted(
    task: Task,
    drawn: Sequence[splits.Split],
    described: Sequence[np.ndarray],
    request: Request,
    threads: int,
) -> Outcome:
    if task.rule is None:
        parts = _parts(task, drawn, described)
        return protocol.on_classes(parts, task.class_names, seed=request.seed, threads=threads)
    (part,) = _parts(task, drawn, described)
    return protocol.on_labels(
        part, task.class_names, rule=task.rule, seed=request.seed, threads=threads
    )


def _parts(
    task: Task, drawn: Sequence[splits.Split], described: Sequence[np.ndarray]
) -> Iterator[Part]:
    """Yield the splits, each when it is asked for: a split's copy of the table is large."""
    first, last = task.images[0], task.images[-1]
    if not drawn:
        ids = last.survey.image_ids
        yield Part(described[0], first.targets, described[1], last.targets, ids)
    for train, test in drawn:
        (table,) = described
        ids = tuple(first.survey.image_ids[record] for record in test)
        yield Part(table[train], first.targets[train], table[test], first.targets[test], ids)


def _stem(nets: Sequence[Model], layers: Sequence[str], how: How, request: Request) -> str:
    stem = f"transfer_{layers[0]}_q{'-'.join(map(str, how.scales))}"
    stem += f"_{how.combine}" if len(how.scales) > 1 else ""
    stem += "_best" if request.checkpoint == "best" else ""
    if len(nets) == 1:
        return stem
    others = "_".join(net.name for net in nets[1:])
    if len(os.fsencode(others)) > _LONGEST_NAME:
        others = hashlib.sha256(os.fsencode(others)).hexdigest()[:16]
    return f"{stem}_with_{others}"


def _about(
    task: Task,
    drawn: Sequence[splits.Split],
    nets: Sequence[Model],
    layers: Sequence[str],
    how: How,
    request: Request,
    outcome: Outcome,
    width: int,
) -> dict[str, Any]:
    scales = ",".join(map(str, how.scales))
    names = " + ".join(net.name for net in nets)
    joined = f" {how.combine}" if len(how.scales) > 1 else ""
    test = len(drawn[0].test) if drawn else len(task.images[-1].source)
    train = len(drawn[0].train) if drawn else len(task.train.source)
    notes = [*outcome.result["notes"]]
    published = IMAGES.get(task.column, (train, test))
    if published != (train, test):
        notes.append(
            f"the paper's results are of all {published[0]:,} and {published[1]:,} images, and "
            "cannot be compared"
        )
    if task.column == ACTIONS and task.images[-1].part.split != "test":
        notes.append("the paper's results are of VOC's own test set, and cannot be compared")
    return {
        "title": f"{names}, {layers[0]}, Q={scales}{joined}, {task.images[-1].described}",
        "dataset": task.name,
        "networks": networks(nets, layers),
        "scales": [*how.scales],
        "combine": how.combine,
        "numbers": width,
        "counted": "images" if task.train.boxes is None else "persons",
        "train_images": train,
        "test_images": test,
        "seed": request.seed,
        **outcome.result,
        "notes": notes,
        "paper": [[*row] for row in PUBLISHED.get(task.column, ())],
        "versions": provenance.versions(),
    }


def networks(nets: Sequence[Model], layers: Sequence[str]) -> list[dict[str, Any]]:
    """Return what identifies networks and their layers, in JSON."""
    return [
        {"name": net.name, "config_hash": net.digest, "step": net.step, "layer": layer}
        for net, layer in zip(nets, layers, strict=True)
    ]
