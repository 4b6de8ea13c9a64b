"""Evaluate a trained network by any test protocol of the papers.

    deepconv evaluate --weights=runs/vgg_d_jitter --protocol=dense --scales=256,384,512
    deepconv evaluate --weights=runs/vgg_d_jitter --ensemble=runs/vgg_e_jitter
    deepconv evaluate --ensemble=one.npz,another.npz --out=fused   # without any network
    deepconv evaluate --weights=vgg16.safetensors    # from deepconv weights import
    deepconv evaluate --weights=runs/vgg_d_384_boxes_per_class --protocol=center
    deepconv evaluate --weights=runs/vgg_d_384_boxes_per_class --classifier=runs/vgg_d_384

Protocols: center, ten_crop, nine_view (3x3 crops, for the CIFAR-10 nets), dense, multi_crop (5x5
crops and their mirror images), and multi_crop_and_dense. The posteriors of several scales and
networks are averaged with equal weight.

A folder whose classes are some of the network's (--classes=part) is scored among all of them:

    deepconv evaluate --weights=vgg16.pth --dataset=folder:/data/some_wnids --classes=part
    deepconv evaluate --weights=vgg16.pth --dataset=folder:/data/val --labels=LOC_val_solution.csv

A network that predicts boxes is evaluated on localization: center scores the box of the true class;
dense scores five guesses of a class and a box, with the classes from --classifier. The boxes of
several scales and networks (--ensemble) are merged.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from deepconv import atomic, drawing
from deepconv.commands import command_line
from deepconv.config.schema import predicts_boxes
from deepconv.exceptions import UserError
from deepconv.inference.evaluate import Request, describe, describe_labels, evaluate
from deepconv.inference.model import load_input
from deepconv.localization import evaluate as localization
from deepconv.run import hub, weights_file
from deepconv.visualize import sheets
from deepconv.visualize.boxes import Boxed, box_sheet

# Images of the sheet of a localization, and the largest shorter side of one, in pixels.
_WORST_DRAWN = 12
_SHOWN = 320

INTERRUPTED = "interrupted; run the same command to score the remaining images"


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    command_line.define_weights(values)
    command_line.define_protocol(values)
    flags.DEFINE_list(
        "ensemble",
        [],
        "More runs or weights files, or .npz files of posteriors.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "classifier",
        None,
        "Of networks that predict boxes: the run or file that says which classes are there.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "average",
        "scores",
        ["scores", "posteriors"],
        "What to average over the dense score map.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "dataset",
        None,
        "Another data set with the same classes, such as folder:/path; by default the config's.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "classes",
        "same",
        ["same", "part"],
        "Whether the data set must have the network's classes, or may have some of them, under "
        "their names, ImageNet's wnids and names, or numbers.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "labels",
        None,
        "A CSV file of the pictures in --dataset=folder:/path and their classes, which may be some "
        "of the network's.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "split",
        None,
        "The split to evaluate; by default the config's eval_split, or all of a plain folder.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "data_dir",
        None,
        "The folder of prepared data sets; by default the config's.",
        flag_values=values,
    )
    command_line.define_out_folder(values)
    command_line.define_json(values, "the result")
    command_line.define_threads(values)


def main(options: flags.FlagValues, _: Sequence[str]) -> None:
    """Evaluate, then print the errors and the path of the results."""
    json_file = command_line.output_file(options, "json", ".json")
    out = command_line.output_folder(options, "out")
    named = [options.weights] if options.weights else []
    paths = [hub.located(name).absolute() for name in named + options.ensemble]
    if not paths:
        raise UserError("nothing to evaluate: give --weights or --ensemble")
    dataset = {
        "name": options.dataset,
        "data_dir": options.data_dir,
        "eval_split": options.split,
        "labels": options.labels,
    }
    scales = command_line.whole_numbers(options, "scales")
    replaced = {key: value for key, value in dataset.items() if value is not None}
    if options.labels and not options.dataset:
        raise UserError("--labels needs the folder of the pictures: --dataset=folder:/path")
    if named and _predicts_boxes(paths[0]):
        if options.classes == "part":
            raise UserError("--classes=part is not for networks that predict boxes")
        _localization(options, paths, scales, replaced, out, json_file)
        return
    if options.classifier:
        raise UserError(f"--classifier is for networks that predict boxes, and {paths[0]} does not")
    result = evaluate(
        [path for path in paths if path.suffix != ".npz"],
        Request(
            options.protocol,
            scales,
            options.average,
            options.checkpoint,
            part=options.classes == "part",
        ),
        posteriors=[path for path in paths if path.suffix == ".npz"],
        dataset=replaced,
        out=out,
        threads=options.threads,
    )
    if json_file:
        atomic.write_json(json_file, result)
    width = command_line.terminal_width()
    if "top1_error" in result:
        text = describe(result, width=width)
    else:
        text = describe_labels(result, width=width)
    print(f"{text}\n\nresults: {Path(result['posteriors']).with_suffix('.json')}")


def _predicts_boxes(path: Path) -> bool:
    # Files of other frameworks, which take long to read, are of classifiers.
    known = path.is_dir() or (path.is_file() and weights_file.is_ours(path))
    return known and predicts_boxes(load_input(path)[0])


def _localization(
    options: flags.FlagValues,
    paths: Sequence[Path],
    scales: tuple[int, ...],
    dataset: dict[str, str],
    out: Path | None,
    json_file: Path | None,
) -> None:
    result = localization.evaluate(
        paths,
        hub.located(options.classifier).absolute() if options.classifier else None,
        localization.Request(options.protocol, scales, checkpoint=options.checkpoint),
        dataset=dataset,
        out=out,
        threads=options.threads,
    )
    if json_file:
        atomic.write_json(json_file, result.about)
    sheet = result.file.with_suffix(".png")
    drawing.save(box_sheet(_worst(result)), sheet)
    print(f"{result.text}\n\nworst:   {sheet}\nresults: {result.file}")


def _worst(result: localization.Result) -> list[Boxed]:
    """Return the worst images with the boxes that were found and the true ones."""
    records = {name: record for record, name in enumerate(result.images.survey.image_ids)}
    drawn = []
    for row in result.about["worst"][:_WORST_DRAWN]:
        record = records[row["image"]]
        pixels = sheets.picture(result.images.source, record, shorter=_SHOWN)
        names = [result.images.class_names[label] for label in result.guesses.classes[record]]
        drawn.append(
            Boxed(
                f"{row['image']}: {row['true']}",
                pixels,
                result.guesses.boxes[record],
                names,
                result.guesses.scores[record],
                result.true_boxes[record],
            )
        )
    return drawn
