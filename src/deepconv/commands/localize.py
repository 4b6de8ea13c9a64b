"""Find objects in pictures: a class, a box and a score for each of the best guesses.

    deepconv localize --boxes=runs/vgg_d_384_boxes_per_class --classifier=runs/vgg_d_384 photos
    deepconv localize --boxes=RUN --classifier=RUN photos --out=boxes.png --json=boxes.json

Both networks look at every place of each picture; the classifier says which classes are there, and
the boxes that the other network predicts at neighboring places are merged (VGG appendix A). Several
networks for boxes, separated by commas, and several scales are united. Pictures are files, or
folders, whose pictures are found at any depth. One that cannot be read is named on stderr and the
others are searched; the exit status is then 2.
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
from deepconv.data.pipeline import Source
from deepconv.data.sources import pictures
from deepconv.inference import buckets
from deepconv.inference.evaluate import Request
from deepconv.inference.model import open_model
from deepconv.inference.predict import log_posteriors
from deepconv.inference.rows import Memory
from deepconv.localization import find
from deepconv.localization.find import Guesses
from deepconv.run import hub
from deepconv.visualize import sheets
from deepconv.visualize.boxes import MOST_PICTURES, Boxed, box_sheet

REQUIRED = ("boxes", "classifier")
ARGUMENTS = sys.maxsize
# Largest shorter side of a picture on the sheet, in pixels.
_SHOWN = 480
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    flags.DEFINE_list(
        "boxes",
        None,
        "The folders of runs, or files of weights, of networks that predict boxes.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "classifier",
        None,
        "The folder of a run, or a file of weights, that says which classes are there.",
        flag_values=values,
    )
    command_line.define_checkpoint(values)
    command_line.define_scales(values)
    flags.DEFINE_integer(
        "guesses", find.GUESSES, "How many classes of each picture.", 1, flag_values=values
    )
    flags.DEFINE_string(
        "out",
        None,
        "Also draw the pictures with their boxes to this .png file.",
        flag_values=values,
    )
    command_line.define_json(values, "the boxes")
    command_line.define_threads(values)


def main(options: flags.FlagValues, arguments: Sequence[str]) -> None:
    """Find the boxes, print a table, and write what is asked for."""
    json_file = command_line.output_file(options, "json", ".json")
    out = command_line.output_file(options, "out", ".png")
    source = pictures.open_pictures([Path(name) for name in arguments])
    everywhere = parallel.replicated(parallel.data_mesh())
    nets = [
        open_model(hub.located(name), everywhere, checkpoint=options.checkpoint)
        for name in options.boxes
    ]
    for net in nets:
        find.require_boxes(net)
    classifier = open_model(
        hub.located(options.classifier), everywhere, checkpoint=options.checkpoint
    )
    classifier = classifier.named_like(nets[0])
    find.require_classifier(classifier, nets)
    scales = command_line.whole_numbers(options, "scales")
    members = [(net, scale) for net in nets for scale in scales or (net.config.evaluation.scale,)]
    threads = options.threads or os.cpu_count() or 1
    source, refused = pictures.recognized(source, threads)
    request = Request("dense", tuple(dict.fromkeys(scale for _, scale in members)))
    logs = log_posteriors(classifier, source, request, threads=threads)
    source, kept, damaged = pictures.set_aside(source, np.flatnonzero(np.isnan(logs).any(axis=1)))
    classes = np.argsort(-logs[kept], axis=1, kind="stable")[:, : options.guesses]
    survey = buckets.survey(source, threads)
    found = find.find(
        members,
        classifier,
        classes,
        source,
        survey,
        into=lambda _, __, ___, shape: Memory(shape),
        threads=threads,
    )
    names = list(map(naming.decoded, source.file_names))
    listed = _listed(names, survey.sizes, found, classifier.labels)
    print(_table(listed))
    if json_file:
        atomic.write_json(json_file, listed)
    if out:
        drawing.save(box_sheet(_drawn(source, names, found, classifier.labels)), out)
        print(f"\n{out.absolute()}")
    command_line.complain(refused + damaged)


def _listed(
    names: Sequence[str], sizes: np.ndarray, found: Guesses, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return what is found in each picture, in JSON; the boxes are in pixels of the picture."""
    listed = []
    for record, name in enumerate(names):
        height, width = sizes[record].tolist()
        corners = found.boxes[record] * [width, height, width, height]
        guesses = zip(found.classes[record], found.scores[record], corners.tolist(), strict=True)
        listed.append(
            {
                "picture": name,
                "width": width,
                "height": height,
                "boxes": [
                    {"label": class_names[label], "score": float(score)}
                    | dict(zip(_SIDES, box, strict=True))
                    for label, score, box in guesses
                ],
            }
        )
    return listed


def _table(listed: Sequence[dict[str, Any]]) -> str:
    rows = [
        (
            "" if number else row["picture"],
            box["label"],
            f"{box['score']:.2f}",
            *(round(box[side]) for side in _SIDES),
        )
        for row in listed
        for number, box in enumerate(row["boxes"])
    ]
    return tables.table(
        ("picture", "class", "score", *_SIDES), rows, width=command_line.terminal_width()
    )


def _drawn(
    source: Source, names: Sequence[str], found: Guesses, class_names: Sequence[str]
) -> list[Boxed]:
    drawn = []
    for record, name in enumerate(names[:MOST_PICTURES]):
        pixels = sheets.picture(source, record, shorter=_SHOWN)
        labels = [class_names[label] for label in found.classes[record]]
        drawn.append(Boxed(name, pixels, found.boxes[record], labels, found.scores[record]))
    return drawn
