"""Classify pictures: print the five best labels of each.

    deepconv predict --weights=vgg16.safetensors cat.jpg photos
    deepconv predict --weights=runs/vgg_d_jitter photos --protocol=ten_crop --json=x.json
    deepconv predict --weights=runs/vgg_d_jitter photos --sheet=sheet.png
    deepconv predict --weights=vgg16.safetensors --svm=svm.safetensors photos

With --svm, the SVM of deepconv transfer --save labels the pictures from the descriptors of the
networks that it was fitted on; its scores, positive for what is present, replace posteriors.

Arguments are pictures, or folders, which are searched at any depth. Unreadable pictures are
reported on stderr and skipped; the exit status is then 2.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from deepconv import atomic, drawing, naming, parallel, tables
from deepconv.commands import command_line
from deepconv.data.sources import pictures
from deepconv.data.sources.folder import FolderSource
from deepconv.exceptions import UserError
from deepconv.inference import scoring
from deepconv.inference.evaluate import Request
from deepconv.inference.model import open_model
from deepconv.inference.predict import BEST, Prediction, best, log_posteriors
from deepconv.run import hub
from deepconv.transfer import predict as transfer
from deepconv.transfer import svm_file
from deepconv.visualize.sheets import (
    MOST_PICTURES,
    Scored,
    contact_sheet,
    picture,
    score_sheet,
)

REQUIRED = ("weights",)
ARGUMENTS = sys.maxsize
# Labels of each picture that even a narrow terminal shows.
_FEWEST = 2


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    command_line.define_weights(values)
    command_line.define_protocol(values)
    command_line.define_json(values, "the labels")
    flags.DEFINE_string(
        "sheet",
        None,
        "Also draw the pictures and their labels to this .png file.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "svm",
        None,
        "The .safetensors file of an SVM that was fitted on the descriptors of --weights.",
        flag_values=values,
    )
    command_line.define_threads(values)


def main(options: flags.FlagValues, arguments: Sequence[str]) -> None:
    """Classify the pictures, print a table, and write the requested files."""
    json_file = command_line.output_file(options, "json", ".json")
    sheet_file = command_line.output_file(options, "sheet", ".png")
    source = pictures.open_pictures([Path(name) for name in arguments])
    if options.svm:
        _by_svm(options, source, json_file, sheet_file)
        return
    everywhere = parallel.replicated(parallel.data_mesh())
    model = open_model(hub.located(options.weights), everywhere, checkpoint=options.checkpoint)
    request = Request(options.protocol, command_line.whole_numbers(options, "scales"))
    for view in request.views:
        for scale in request.scales or (model.config.evaluation.scale,):
            scoring.require_view(model, view, scale)
    threads = options.threads or os.cpu_count() or 1
    source, refused = pictures.recognized(source, threads)
    logs = log_posteriors(model, source, request, threads=threads)
    source, kept, damaged = pictures.set_aside(source, np.flatnonzero(np.isnan(logs).any(axis=1)))
    logs = logs[kept]
    names = list(map(naming.decoded, source.file_names))
    predictions = best(logs, names, model.labels)
    print(_table(predictions, command_line.terminal_width()))
    if json_file:
        atomic.write_json(json_file, [_listed(each, model.class_names) for each in predictions])
    if sheet_file:
        drawing.save(contact_sheet(source, logs, predictions, model.labels), sheet_file)
    command_line.complain(refused + damaged)


def _table(predictions: Sequence[Prediction], width: int | None) -> str:
    """Lay out the labels; on a narrow terminal fewer of them, which can be read."""

    def laid_out(columns: int, cut_to: int | None) -> str:
        rows = [
            (
                each.picture,
                *(f"{label} {posterior:.2f}" for label, posterior in each.best[:columns]),
            )
            for each in predictions
        ]
        headers = ("picture", "best labels", *[""] * (columns - 1))
        return tables.table(headers, rows, width=cut_to)

    columns = len(predictions[0].best)
    while width and columns > _FEWEST and _widest(laid_out(columns, None)) > width:
        columns -= 1
    return laid_out(columns, width)


def _widest(table: str) -> int:
    return max(map(naming.width, table.splitlines()))


def _listed(prediction: Prediction, class_names: Sequence[str]) -> dict[str, Any]:
    """Return a picture's labels in JSON; `class` is the class's own name, such as a wnid."""
    return {
        "picture": prediction.picture,
        "best": [
            {"label": label, "index": number, "class": class_names[number], "posterior": posterior}
            for number, (label, posterior) in zip(prediction.classes, prediction.best, strict=True)
        ],
    }


def _by_svm(
    options: flags.FlagValues, source: FolderSource, json_file: Path | None, sheet_file: Path | None
) -> None:
    for name in ("protocol", "scales"):
        if options[name].present:
            raise UserError(f"--svm describes pictures as it was fitted, so --{name} has no effect")
    classifier = svm_file.load(Path(options.svm))
    everywhere = parallel.replicated(parallel.data_mesh())
    nets = [
        open_model(hub.located(name), everywhere, checkpoint=options.checkpoint)
        for name in options.weights.split(",")
    ]
    how, layers = transfer.require(classifier, nets)
    threads = options.threads or os.cpu_count() or 1
    source, refused = pictures.recognized(source, threads)
    scores = transfer.predict(classifier, nets, how, layers, source, threads=threads)
    suspects = np.flatnonzero(np.isnan(scores).any(axis=1))
    source, kept, damaged = pictures.set_aside(source, suspects)
    names = list(map(naming.decoded, source.file_names))
    order = np.argsort(-scores[kept], axis=1, kind="stable")[:, :BEST]
    labels = [
        [(classifier.class_names[number], float(row[number])) for number in numbers]
        for row, numbers in zip(scores[kept], order.tolist(), strict=True)
    ]
    lines = [
        (name, *(f"{label} {score:.2f}" for label, score in row))
        for name, row in zip(names, labels, strict=True)
    ]
    headers = ("picture", "best scores", *[""] * (len(labels[0]) - 1))
    print(tables.table(headers, lines))
    if json_file:
        listed = [
            {"picture": name, "best": [{"label": label, "score": score} for label, score in row]}
            for name, row in zip(names, labels, strict=True)
        ]
        atomic.write_json(json_file, listed)
    if sheet_file:
        drawn = [
            Scored(Path(name).name, picture(source, number), row)
            for number, (name, row) in enumerate(zip(names, labels, strict=True))
            if number < MOST_PICTURES
        ]
        drawing.save(score_sheet(drawn), sheet_file)
    command_line.complain(refused + damaged)
