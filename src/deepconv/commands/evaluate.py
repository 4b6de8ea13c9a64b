"""Evaluate a trained network by any test protocol of the papers.

    deepconv evaluate --weights=runs/vgg_d_jitter --protocol=dense --scales=256,384,512
    deepconv evaluate --weights=runs/vgg_d_jitter --ensemble=runs/vgg_e_jitter
    deepconv evaluate --ensemble=one.npz,another.npz --out=fused   # without any network
    deepconv evaluate --weights=vgg16.safetensors    # a file of deepconv weights import

Protocols: center, ten_crop, nine_view (3x3 crops, for the CIFAR-10 nets), dense, multi_crop (5x5
crops and their mirror images), and multi_crop_and_dense. Several scales, protocols and networks
count alike: posteriors are averaged.
"""

import functools
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from deepconv import atomic, naming, parallel, tables
from deepconv.commands import command_line
from deepconv.data.labels import check_labels
from deepconv.data.sources import datasets
from deepconv.evaluation.posteriors import fuse
from deepconv.evaluation.protocols import PROTOCOLS
from deepconv.evaluation.report import report
from deepconv.exceptions import UserError
from deepconv.inference import buckets, rows
from deepconv.inference.model import load, results_folder
from deepconv.inference.rows import Sheet
from deepconv.run import provenance
from deepconv.run.workdir import hold, require_unseen

INTERRUPTED = "interrupted; the same command scores what is missing"

# Rows of each part of the printed report; the JSON has more.
_ROWS = 10
# Systems allow 255 bytes of a file's name.
_LONGEST_NAME = 120


class Plan(NamedTuple):
    """What is wanted of every network.

    Attributes:
      protocol: a key of `PROTOCOLS`.
      scales: the shorter sides Q; empty: the one of the network's own config.
      average: what dense evaluation averages over the map, "scores" or "posteriors".
      checkpoint: which parameters, "last" or "best"; see `load_run`.
    """

    protocol: str = "dense"
    scales: tuple[int, ...] = ()
    average: str = "scores"
    checkpoint: str = "last"

    @property
    def views(self) -> tuple[str, ...]:
        """The views that make the protocol, keys of `protocols.VIEWS`."""
        dense = "dense" if self.average == "scores" else "dense_posteriors"
        return tuple(dense if view == "dense" else view for view in PROTOCOLS[self.protocol])

    def stem(self, views: Sequence[str], scales: Sequence[int]) -> str:
        """Return the name of a file of results, without its ending."""
        best = "_best" if self.checkpoint == "best" else ""
        return f"{'_and_'.join(views)}_q{'-'.join(map(str, scales))}{best}"


class Scored(NamedTuple):
    """What a run says of a set of images.

    Attributes:
      name: of the run.
      sheets: one of each view at each scale.
      file: without its ending, where the results of all of them together belong.
    """

    name: str
    sheets: tuple[Sheet, ...]
    file: Path


def score_runs(
    runs: Sequence[Path],
    plan: Plan,
    dataset: dict[str, str] | None = None,
    *,
    out: Path | None = None,
    threads: int = 0,
) -> list[Scored]:
    """Score runs on the images of the first one's data set; what is on disk already is read.

    Args:
      runs: their folders, or files of weights; the posteriors of each are kept under `evaluation/`
        in its `results_folder`.
      plan: what is wanted.
      dataset: replaces keys of `config.dataset` of the first run: other images of its classes.
      out: a folder that all is kept in instead, each run's in one of its own.
      threads: that decode; 0: one for each core.

    Raises:
      UserError: if something has to be mended first.
    """
    mesh = parallel.data_mesh()
    nets = [load(run, parallel.replicated(mesh), which=plan.checkpoint) for run in runs]
    wanted = [
        [(view, scale) for view in plan.views for scale in scales]
        for scales in (plan.scales or (net.config.evaluation.scale,) for net in nets)
    ]
    for net, parts in zip(nets, wanted, strict=True):
        for view, scale in parts:
            rows.check(net, view, scale)
    own = nets[0].config.dataset
    settings = {**own, **(dataset or {})}
    name, split = settings["name"], settings["eval_split"]
    if name != own.name and datasets.is_folder(name):
        split = (dataset or {}).get("eval_split")  # the run's own split is of another folder
    opened = datasets.open_split(name, split, data_dir=settings["data_dir"])
    described = f"{name}, {opened.part.split}"
    for run, net in zip(runs, nets, strict=True):
        if net.config.dataset.name == name and run.is_dir():
            require_unseen(run, opened.part)
    for index, (run, net) in enumerate(zip(runs, nets, strict=True)):
        if net.unnamed and len(net.class_names) == len(opened.class_names):
            nets[index] = net._replace(class_names=opened.class_names)
        elif net.class_names != opened.class_names:
            raise UserError(
                f"{run} was trained on different classes ({_few(net.class_names)}) than those of "
                f"{name} ({_few(opened.class_names)})"
            )
    threads = threads or os.cpu_count() or 1
    survey = _survey(threads, name, split, settings["data_dir"], opened.part.digest)
    check_labels(
        survey.labels,
        len(opened.class_names),
        dataset=described,
        name_of=survey.image_ids.__getitem__,
    )
    scored = []
    for run, net, parts in zip(runs, nets, wanted, strict=True):
        folder = _kept_in(run, out) / "evaluation" / _file_name(described)
        command_line.require_writable(folder, "--out=FOLDER keeps everything elsewhere")
        with hold(folder):
            sheets = tuple(
                rows.score(
                    net,
                    view=view,
                    scale=scale,
                    source=opened.source,
                    survey=survey,
                    dataset=described,
                    contents=opened.part.digest,
                    path=folder / f"{plan.stem([view], [scale])}.npz",
                    mesh=mesh,
                    threads=threads,
                )
                for view, scale in parts
            )
        scales = list(dict.fromkeys(scale for _, scale in parts))
        scored.append(Scored(net.name, sheets, folder / plan.stem(plan.views, scales)))
    return scored


def _kept_in(run: Path, out: Path | None) -> Path:
    """Return where what is computed of a run is kept."""
    if out is None:
        return results_folder(run)
    # Runs of one name may lie in several folders.
    digest = hashlib.sha256(os.fsencode(run.absolute())).hexdigest()[:8]
    return out / f"{run.stem if run.is_file() else run.absolute().name}_{digest}"


def _file_name(text: str) -> str:
    """Return what a folder of the results of a data set is called, no longer than systems allow."""
    name = re.sub(r"\W+", "_", text)
    if len(os.fsencode(name)) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME // 4]}_{digest}"  # a character takes up to four bytes


# A table of many rows asks for the same images each time, and a survey reads every file.
@functools.lru_cache(maxsize=1)
def _survey(
    threads: int, name: str, split: str | None, data_dir: str, contents: str
) -> buckets.Survey:
    """Survey a split; `contents`, its digest, is what makes a stored survey out of date."""
    return buckets.survey(datasets.open_split(name, split, data_dir=data_dir).source, threads)


def _few(names: Sequence[str]) -> str:
    return f"{len(names)}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"


def combine(sheets: Sequence[Sheet]) -> Sheet:
    """Average the posteriors of nets, scales and protocols, all with equal weight.

    Raises:
      UserError: if they are not of the same images and classes.
    """
    first = sheets[0]
    for sheet in sheets[1:]:
        name = sheet.origin.get("run", "one of the members")
        if sheet.class_names != first.class_names:
            raise UserError(f"{name} has other classes than {first.origin.get('run')}")
        if sheet.image_ids != first.image_ids or (sheet.labels != first.labels).any():
            raise UserError(f"{name} was given other images than {first.origin.get('run')}")
    if len(sheets) == 1:
        return first
    mean = fuse([sheet.log_posteriors for sheet in sheets])
    return first._replace(
        log_posteriors=mean,
        origin={"dataset": first.origin.get("dataset"), "mean_of": [s.origin for s in sheets]},
    )


def summarize(sheet: Sheet, file: Path, **about: Any) -> dict[str, Any]:
    """Write what posteriors amount to: `.json` for programs, `.txt` for people, `.npz` to fuse.

    Args:
      sheet: the posteriors.
      file: without its ending.
      **about: how they came about, for the JSON.

    Returns:
      What stands in the JSON.
    """
    result = {
        **about,
        **report(sheet.log_posteriors, sheet.labels, sheet.class_names, sheet.image_ids),
        "origin": sheet.origin,
        "posteriors": f"{file}.npz",
        "versions": provenance.versions(),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    if not Path(f"{file}.npz").exists() or Sheet.load(Path(f"{file}.npz")).origin != sheet.origin:
        sheet.save(Path(f"{file}.npz"))
    atomic.write_json(Path(f"{file}.json"), result)
    text = f"{describe(result)}\n"
    atomic.write(Path(f"{file}.txt"), text.encode("utf-8", naming.ERRORS))
    return result


def describe(result: dict[str, Any]) -> str:
    """Return an evaluation as text: the errors, the worst classes, confusions and images."""
    errors = [
        (f"top-{k} error", f"{100 * result[f'top{k}_error']:.2f}", _between(result, k))
        for k in (1, 5)
    ]
    classes = [
        (row["name"], row["images"], 100 * row["top1_error"], 100 * row["top5_error"])
        for row in result["classes"][:_ROWS]
    ]
    confusions = [
        (row["true"], row["predicted"], row["images"]) for row in result["confusions"][:_ROWS]
    ]
    worst = [
        (row["image"], row["true"], *(f"{name} {says:.2f}" for name, says in row["best"]))
        for row in result["worst"][:_ROWS]
    ]
    labels = max((len(row) - 2 for row in worst), default=0)
    parts = [
        f"{naming.one_line(result['title'])}: {result['images']:,} images",
        tables.table(("", "%", "95 % interval"), errors),
        tables.table(("worst classes", "images", "top-1 %", "top-5 %"), classes),
        tables.table(("true class", "taken for", "images"), confusions),
        tables.table(("worst images", "true class", "best labels", *[""] * (labels - 1)), worst),
    ]
    return "\n\n".join(parts)


def _between(result: dict[str, Any], k: int) -> str:
    low, high = result[f"top{k}_interval"]
    return f"{100 * low:.2f} to {100 * high:.2f}"


def evaluate(
    runs: Sequence[Path],
    plan: Plan,
    *,
    posteriors: Sequence[Path] = (),
    dataset: dict[str, str] | None = None,
    out: Path | None = None,
    threads: int = 0,
) -> dict[str, Any]:
    """Evaluate runs and posteriors from earlier evaluations, together.

    Args:
      runs: folders of runs, or files of weights.
      plan: what is wanted of each.
      posteriors: `.npz` files, which count as much as a run.
      dataset: see `score_runs`.
      out: the folder of the results, and of all that is kept; by default `evaluation/<data set>` in
        the first run's for the results, and in each run's for what is kept of it.
      threads: see `score_runs`.

    Returns:
      What stands in the JSON file.

    Raises:
      UserError: if something has to be mended first.
    """
    if not runs and not posteriors:
        raise UserError("nothing to evaluate: give --workdir or --ensemble")
    saved = [Sheet.load(path) for path in posteriors]
    for path, sheet in zip(posteriors, saved, strict=True):
        check_labels(
            sheet.labels,
            len(sheet.class_names),
            dataset=str(path),
            name_of=sheet.image_ids.__getitem__,
        )
    scored = score_runs(runs, plan, dataset, out=out, threads=threads) if runs else []
    names = [run.name for run in scored] + list(map(_name, saved, posteriors))
    members = [combine(run.sheets) for run in scored] + saved
    file = scored[0].file if scored else posteriors[0].with_name(names[0])
    if len(names) > 1:
        others = "_with_".join(names[1:])
        if len(os.fsencode(others)) > _LONGEST_NAME:
            digest = hashlib.sha256(others.encode()).hexdigest()[:8]
            others = f"{len(names) - 1}_others_{digest}"
        file = file.with_name(f"{file.name}_with_{others}")
    if out is not None:
        file = out / file.name
    command_line.require_writable(file.parent, "--out=FOLDER writes the results elsewhere")
    combined = combine(members)
    protocol = scored[0].file.name if scored else None
    return summarize(
        combined,
        file,
        title=", ".join(
            filter(None, [" + ".join(names), protocol, combined.origin.get("dataset")])
        ),
        members=names,
    )


def _name(sheet: Sheet, path: Path) -> str:
    """Return what to call saved posteriors: by their run, if they are of one, and their file."""
    runs = {part.get("run") for part in sheet.origin.get("mean_of", [sheet.origin])}
    return f"{runs.pop()}_{path.stem}" if len(runs) == 1 and None not in runs else path.stem


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    command_line.define_weights(values)
    flags.DEFINE_enum(
        "protocol", "dense", [*PROTOCOLS], "How images are looked at.", flag_values=values
    )
    flags.DEFINE_list(
        "scales",
        [],
        "The shorter sides Q in pixels, such as 256,384,512; by default the config's.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "ensemble",
        [],
        "More runs and files of weights, or .npz files of posteriors.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "average",
        "scores",
        ["scores", "posteriors"],
        "What is averaged over the dense map.",
        flag_values=values,
    )
    flags.DEFINE_string("dataset", None, "Other images of the same classes.", flag_values=values)
    flags.DEFINE_string(
        "split",
        None,
        "Their split; by default the config's eval_split, or all of a plain folder.",
        flag_values=values,
    )
    flags.DEFINE_string("data_dir", None, "Where prepared data sets lie.", flag_values=values)
    flags.DEFINE_string(
        "out",
        None,
        "The folder of the results; nothing is then written elsewhere.",
        flag_values=values,
    )
    command_line.define_json(values, "the result")
    command_line.define_threads(values)


def main(options: flags.FlagValues, _: Sequence[str]) -> None:
    """Evaluate, then print the errors and where everything lies."""
    json_file = command_line.output_file(options, "json", ".json")
    named = [options.weights] if options.weights else []
    paths = [Path(name).absolute() for name in named + options.ensemble]
    if not paths:
        raise UserError("nothing to evaluate: give --weights or --ensemble")
    dataset = {
        "name": options.dataset,
        "data_dir": options.data_dir,
        "eval_split": options.split,
    }
    scales = command_line.whole_numbers(options, "scales")
    result = evaluate(
        [path for path in paths if path.suffix != ".npz"],
        Plan(options.protocol, scales, options.average, options.checkpoint),
        posteriors=[path for path in paths if path.suffix == ".npz"],
        dataset={key: value for key, value in dataset.items() if value is not None},
        out=Path(options.out).absolute() if options.out else None,
        threads=options.threads,
    )
    if json_file:
        atomic.write_json(json_file, result)
    print(f"{describe(result)}\n\nresults: {Path(result['posteriors']).with_suffix('.json')}")
