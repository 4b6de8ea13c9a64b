"""Evaluate networks on a data set by the test protocols of the papers, and write the results.

    result = evaluate([Path("runs/vgg_d_jitter")], Request("dense", (256, 384, 512)))
    result["top5_error"]

Posteriors are computed once and kept in each run's folder; see `scoring`.
"""

import hashlib
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deepconv import atomic, naming, parallel, tables
from deepconv.data import imagenet
from deepconv.data.labels import check_labels
from deepconv.data.pipeline import Source
from deepconv.data.sources import datasets, relabeled
from deepconv.data.sources.multilabel import MultiLabelSource
from deepconv.evaluation.ensemble import ScoredImages, combine
from deepconv.evaluation.protocols import PROTOCOLS
from deepconv.evaluation.report import report
from deepconv.evaluation.several_labels import of_labels
from deepconv.exceptions import UserError
from deepconv.inference import buckets, scoring
from deepconv.inference.model import Model, open_model, results_folder
from deepconv.run import provenance
from deepconv.run.workdir import hold, require_unseen, require_writable

_LOG = logging.getLogger(__name__)

# Rows of each part of the printed report; the JSON has more.
_ROWS = 10
# File systems allow names of up to 255 bytes.
_LONGEST_NAME = 120


class Request(NamedTuple):
    """How every network is to be evaluated.

    Attributes:
      protocol: a key of `PROTOCOLS`.
      scales: the shorter sides Q; empty: that of the network's own config.
      average: what dense evaluation averages over the map, "scores" or "posteriors".
      checkpoint: which parameters, "last" or "best"; see `open_model`.
      part: whether the data set's classes may be some of the network's; see `open_images`.
    """

    protocol: str = "dense"
    scales: tuple[int, ...] = ()
    average: str = "scores"
    checkpoint: str = "last"
    part: bool = False

    @property
    def views(self) -> tuple[str, ...]:
        """The views that make up the protocol, keys of `protocols.VIEWS`."""
        dense = "dense" if self.average == "scores" else "dense_posteriors"
        return tuple(dense if view == "dense" else view for view in PROTOCOLS[self.protocol])

    def stem(self, views: Sequence[str], scales: Sequence[int]) -> str:
        """Return the name of a results file, without its extension."""
        best = "_best" if self.checkpoint == "best" else ""
        return f"{'_and_'.join(views)}_q{'-'.join(map(str, scales))}{best}"


class Images(NamedTuple):
    """The images of an evaluation.

    Attributes:
      source: their records.
      survey: of them.
      described: the data set and the split, for people.
      digest: changes with the images.
      class_names: names of the labels 0, 1, ...
      present: see `ScoredRun`.
    """

    source: Source
    survey: buckets.Survey
    described: str
    digest: str
    class_names: tuple[str, ...]
    present: np.ndarray | None = None


class ScoredRun(NamedTuple):
    """A run's posteriors for a set of images.

    Attributes:
      name: the run's name.
      parts: one for each view at each scale.
      file: path of the results of all parts together, without its extension.
      present: int8 `[N, C]` of images with several labels each, 1 where a class is present, 0
        absent, -1 unknown; None of images with one.
    """

    name: str
    parts: tuple[ScoredImages, ...]
    file: Path
    present: np.ndarray | None = None


def score_runs(
    runs: Sequence[Path],
    request: Request,
    dataset: dict[str, str] | None = None,
    *,
    out: Path | None = None,
    threads: int = 0,
) -> list[ScoredRun]:
    """Score runs on the images of the first one's data set; posteriors on disk are reused.

    Args:
      runs: run folders, or weights files; the posteriors of each are kept under `evaluation/`
        in its `results_folder`.
      request: how to evaluate each run.
      dataset: see `open_images`.
      out: folder to keep everything in instead, with a subfolder for each run.
      threads: number of decoding threads; 0: one per core.

    Raises:
      UserError: if the input cannot be used; the message says what to do.
    """
    mesh = parallel.data_mesh()
    nets = [
        open_model(run, parallel.replicated(mesh), checkpoint=request.checkpoint) for run in runs
    ]
    wanted = [
        [(view, scale) for view in request.views for scale in scales]
        for scales in (request.scales or (net.config.evaluation.scale,) for net in nets)
    ]
    for net, parts in zip(nets, wanted, strict=True):
        for view, scale in parts:
            scoring.require_view(net, view, scale)
    threads = threads or os.cpu_count() or 1
    nets, images = open_images(runs, nets, dataset, threads=threads, part=request.part)
    scored = []
    for run, net, parts in zip(runs, nets, wanted, strict=True):
        folder = kept_in(run, images.described, out)
        with hold(folder):
            computed = tuple(
                scoring.score(
                    net,
                    view=view,
                    scale=scale,
                    source=images.source,
                    survey=images.survey,
                    dataset=images.described,
                    contents=images.digest,
                    path=folder / f"{request.stem([view], [scale])}.npz",
                    mesh=mesh,
                    threads=threads,
                )
                for view, scale in parts
            )
        scales = list(dict.fromkeys(scale for _, scale in parts))
        file = folder / request.stem(request.views, scales)
        scored.append(ScoredRun(net.name, computed, file, images.present))
    return scored


def open_images(
    runs: Sequence[Path],
    nets: Sequence[Model],
    dataset: dict[str, str] | None,
    *,
    threads: int,
    boxes: bool = False,
    part: bool = False,
) -> tuple[list[Model], Images]:
    """Open the images that runs are evaluated on, those of the first one's data set.

    Args:
      runs: their folders, or files of weights.
      nets: their networks.
      dataset: replaces keys of `config.dataset` of the first run: other images of its classes;
        `labels` is a CSV file of them, see `labels_table`.
      threads: how many read.
      boxes: whether every record shall have boxes.
      part: whether the data set's classes may be some of the first network's, under any of their
        names; the labels are then the network's numbers. A table of labels always may.

    Returns:
      The networks, their classes named, and the images.

    Raises:
      UserError: if the images cannot be opened, a network has seen them in training, or their
        classes are not the network's.
    """
    own = nets[0].config.dataset
    settings = {**own, **(dataset or {})}
    name, split = settings["name"], settings["eval_split"]
    if name != own.name and datasets.is_folder(name):
        split = (dataset or {}).get("eval_split")  # the run's own split is of another folder
    several = nets[0].multilabel
    if any(net.multilabel != several for net in nets):
        raise UserError(
            "networks with one label and with several labels cannot be evaluated together"
        )
    labels = Path(settings["labels"]) if "labels" in settings else None
    opened = datasets.open_split(
        name,
        split,
        data_dir=settings["data_dir"],
        boxes=boxes,
        multilabel=several,
        labels=labels,
    )
    if (part or labels) and nets[0].class_names != opened.class_names:
        opened = _as_part(opened, name, nets[0])
    described = f"{name}, {opened.part.split}"
    named = []
    for run, net in zip(runs, nets, strict=True):
        if net.config.dataset.name == name and run.is_dir():
            require_unseen(run, opened.part)
        if net.unnamed and len(net.class_names) == len(opened.class_names):
            named.append(net.named(opened.class_names))
        elif net.class_names != opened.class_names:
            raise UserError(
                f"{run} was trained on different classes ({_few(net.class_names)}) than those of "
                f"{name} ({_few(opened.class_names)}){_hint(net, opened)}"
            )
        else:
            named.append(net)
    # The class names too: they number the labels, and a part is numbered as the network's.
    key = (name, split, settings["data_dir"], opened.part.digest, *opened.class_names)
    survey = _survey(opened.source, threads, key)
    known = checked_labels(opened, survey, described)
    present = known if known.ndim == 2 else None
    images = Images(
        opened.source, survey, described, opened.part.digest, opened.class_names, present
    )
    return named, images


def checked_labels(split: datasets.Split, survey: buckets.Survey, described: str) -> np.ndarray:
    """Return the labels of a split's images, checked.

    Args:
      split: the images.
      survey: of them.
      described: the data set and the split, for the message.

    Returns:
      int32 `[N]`, 0..C-1; of images with several labels int8 `[N, C]`, 1 where a class is present,
      0 absent, -1 unknown.

    Raises:
      UserError: if a label is not a class number.
    """
    if isinstance(split.source, MultiLabelSource):
        return split.source.labels
    check_labels(
        survey.labels,
        len(split.class_names),
        dataset=described,
        name_of=survey.image_ids.__getitem__,
    )
    return survey.labels


def _as_part(opened: datasets.Split, name: str, net: Model) -> datasets.Split:
    """Return a split with the network's classes, some of which it has.

    Raises:
      UserError: if the network's classes are not known, or one of the split's is not among them.
    """
    if net.unnamed and not net.assumed:
        raise UserError(
            f"{net.name} has no class names to find those of {name} among; give them to deepconv "
            "weights import --classes=FILE"
        )
    try:
        numbers = relabeled.numbers_among(opened.class_names, net.class_names)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    _LOG.info("%s: %d of the %d classes of %s", name, len(numbers), len(net.class_names), net.name)
    return opened._replace(
        source=relabeled.Relabeled(opened.source, numbers), class_names=net.class_names
    )


def _hint(net: Model, opened: datasets.Split) -> str:
    """Return what to do if the classes of a split are some of the network's."""
    try:
        relabeled.numbers_among(opened.class_names, net.class_names)
    except UserError:
        return ""
    return "; --classes=part evaluates them as a part of the network's"


def kept_in(run: Path, described: str, out: Path | None) -> Path:
    """Return the folder where what is computed of a run and a set of images is kept.

    Args:
      run: the folder of a run, or a file of weights.
      described: the images, see `Images`.
      out: a folder that everything is kept in instead of the run's own.

    Raises:
      UserError: if nothing can be written there.
    """
    if out is None:
        folder = results_folder(run)
    else:
        # Runs of one name may lie in several folders.
        digest = hashlib.sha256(os.fsencode(run.absolute())).hexdigest()[:8]
        folder = out / f"{run.stem if run.is_file() else run.absolute().name}_{digest}"
    folder = folder / "evaluation" / _file_name(described)
    require_writable(folder, "--out=FOLDER keeps everything elsewhere")
    return folder


def _file_name(text: str) -> str:
    """Return the folder name for a data set's results, short enough for file systems."""
    name = re.sub(r"\W+", "_", text)
    if len(os.fsencode(name)) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME // 4]}_{digest}"  # a character takes up to four bytes


# The latest survey, by its key. A table of many rows needs the same images each time, and a survey
# reads every file.
_surveyed: dict[tuple[str | None, ...], buckets.Survey] = {}


def _survey(source: Source, threads: int, key: tuple[str | None, ...]) -> buckets.Survey:
    """Survey a split, or return the cached survey if it was the latest.

    Args:
      source: the split.
      threads: number of reading threads.
      key: changes with the images.
    """
    if key not in _surveyed:
        _surveyed.clear()
        _surveyed[key] = buckets.survey(source, threads)
    return _surveyed[key]


def _few(names: Sequence[str]) -> str:
    return f"{len(names)}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"


def summarize(
    scored: ScoredImages, file: Path, present: np.ndarray | None = None, **about: Any
) -> dict[str, Any]:
    """Write the results: `.json` for programs, `.txt` for people, `.npz` to combine later.

    Args:
      scored: the posteriors.
      file: path of the results, without its extension.
      present: see `ScoredRun`.
      **about: additional entries of the JSON.

    Returns:
      The content of the JSON.
    """
    logs, names, ids = scored.log_posteriors, scored.class_names, scored.image_ids
    result = {
        **about,
        **(
            report(logs, scored.labels, names, ids)
            if present is None
            else of_labels(_logits(logs), present, "all-point", names, ids)
        ),
        "origin": scored.origin,
        "posteriors": f"{file}.npz",
        "versions": provenance.versions(),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    path = Path(f"{file}.npz")
    if not path.exists() or scoring.load_origin(path) != scored.origin:
        scoring.save(scored, path)
    atomic.write_json(Path(f"{file}.json"), result)
    text = f"{describe(result) if present is None else describe_labels(result)}\n"
    atomic.write(Path(f"{file}.txt"), text.encode("utf-8", naming.ERRORS))
    return result


def describe(result: dict[str, Any], *, width: int | None = None) -> str:
    """Return an evaluation as text: the errors, the worst classes, confusions and images.

    Args:
      result: what `summarize` returns.
      width: columns that the tables are cut to, if any.
    """
    errors = [
        (f"top-{k} error", f"{100 * result[f'top{k}_error']:.2f}", _between(result, k))
        for k in (1, 5)
    ]
    classes = [
        (
            imagenet.label(row["name"]),
            row["images"],
            100 * row["top1_error"],
            100 * row["top5_error"],
        )
        for row in result["classes"][:_ROWS]
    ]
    confusions = [
        (imagenet.label(row["true"]), imagenet.label(row["predicted"]), row["images"])
        for row in result["confusions"][:_ROWS]
    ]
    worst = [
        (
            row["image"],
            imagenet.label(row["true"]),
            *(f"{imagenet.label(name)} {posterior:.2f}" for name, posterior in row["best"]),
        )
        for row in result["worst"][:_ROWS]
    ]
    labels = max((len(row) - 2 for row in worst), default=0)
    parts = [
        f"{naming.one_line(result['title'])}: {result['images']:,} images",
        tables.table(("", "%", "95 % interval"), errors, width=width),
        tables.table(("worst classes", "images", "top-1 %", "top-5 %"), classes, width=width),
        tables.table(("true class", "taken for", "images"), confusions, width=width),
        tables.table(
            ("worst images", "true class", "best labels", *[""] * (labels - 1)), worst, width=width
        ),
    ]
    return "\n\n".join(parts)


def describe_labels(result: dict[str, Any], *, width: int | None = None) -> str:
    """Return an evaluation of several labels as text: average precisions and the worst images.

    Args:
      result: what `summarize` returns.
      width: columns that the tables are cut to, if any.
    """
    rules = [f"AP %, {rule}" for rule in result["means"]]
    means = [(rule, f"{100 * mean:.2f}") for rule, mean in result["means"].items()]
    classes = [
        (row["name"], row["images"], *(100 * value for value in row["average_precision"].values()))
        for row in result["classes"]
    ]
    worst = [
        (row["image"], ", ".join(row["true"]), row["class"]) for row in result["worst"][:_ROWS]
    ]
    left_out = result["left_out"]
    without = f"; {left_out} classes are in none of them and left out" if left_out else ""
    return "\n\n".join(
        [
            f"{naming.one_line(result['title'])}: {result['images']:,} images{without}",
            tables.table(("mean average precision", "%"), means, width=width),
            tables.table(("class", "images", *rules), classes, width=width),
            tables.table(("worst images", "classes present", "wrong about"), worst, width=width),
        ]
    )


def _logits(log_probabilities: np.ndarray) -> np.ndarray:
    """Return log(p / (1 - p)) of log p, which is 0 at one half."""
    logs = log_probabilities.astype(np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(logs - np.log(-np.expm1(logs)))


def _between(result: dict[str, Any], k: int) -> str:
    low, high = result[f"top{k}_interval"]
    return f"{100 * low:.2f} to {100 * high:.2f}"


def evaluate(
    runs: Sequence[Path],
    request: Request,
    *,
    posteriors: Sequence[Path] = (),
    dataset: dict[str, str] | None = None,
    out: Path | None = None,
    threads: int = 0,
) -> dict[str, Any]:
    """Evaluate runs and posteriors from earlier evaluations, together.

    Args:
      runs: run folders, or weights files, ours or another framework's.
      request: how to evaluate each run.
      posteriors: `.npz` files, each weighted like a run.
      dataset: see `score_runs`.
      out: folder for the results and for the posteriors; by default `evaluation/<data set>`, in
        the first run's folder for the results, and in each run's for its posteriors.
      threads: see `score_runs`.

    Returns:
      The content of the JSON file.

    Raises:
      UserError: if the input cannot be used; the message says what to do.
    """
    if not runs and not posteriors:
        raise UserError("nothing to evaluate: pass a run, a weights file, or posteriors")
    saved = [scoring.load(path) for path in posteriors]
    for path, member in zip(posteriors, saved, strict=True):
        if _has_several_labels(member):
            raise UserError(
                f"{path} is of images with several labels, which are not in the file; pass its run"
            )
        check_labels(
            member.labels,
            len(member.class_names),
            dataset=str(path),
            name_of=member.image_ids.__getitem__,
        )
    scored = score_runs(runs, request, dataset, out=out, threads=threads) if runs else []
    names = [run.name for run in scored] + list(map(_name, saved, posteriors))
    members = [combine(run.parts) for run in scored] + saved
    file = scored[0].file if scored else posteriors[0].with_name(names[0])
    if len(names) > 1:
        others = "_with_".join(names[1:])
        if len(os.fsencode(others)) > _LONGEST_NAME:
            digest = hashlib.sha256(others.encode()).hexdigest()[:8]
            others = f"{len(names) - 1}_others_{digest}"
        file = file.with_name(f"{file.name}_with_{others}")
    if out is not None:
        file = out / file.name
    require_writable(file.parent, "--out=FOLDER writes the results elsewhere")
    present = scored[0].present if scored else None
    if saved and present is not None:
        raise UserError("posteriors of one label cannot be combined with runs of several labels")
    combined = combine(members)
    protocol = scored[0].file.name if scored else None
    return summarize(
        combined,
        file,
        present,
        title=", ".join(
            filter(None, [" + ".join(names), protocol, combined.origin.get("dataset")])
        ),
        members=names,
    )


def _has_several_labels(scored: ScoredImages) -> bool:
    parts = scored.origin.get("mean_of", [scored.origin])
    return any(part.get("multilabel", False) for part in parts)


def _name(scored: ScoredImages, path: Path) -> str:
    """Name saved posteriors after their file, and after their run if there is only one."""
    runs = {part.get("run") for part in scored.origin.get("mean_of", [scored.origin])}
    return f"{runs.pop()}_{path.stem}" if len(runs) == 1 and None not in runs else path.stem
