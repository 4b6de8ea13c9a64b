"""Evaluate a trained network by any test protocol of the papers.

    deepconv evaluate --weights=runs/vgg_d_jitter --protocol=dense --scales=256,384,512
    deepconv evaluate --weights=runs/vgg_d_jitter --ensemble=runs/vgg_e_jitter
    deepconv evaluate --ensemble=one.npz,another.npz --out=fused   # without any network
    deepconv evaluate --weights=vgg16.safetensors    # a file of deepconv weights import
    deepconv evaluate --weights=runs/vgg_d_384_boxes_per_class --protocol=center
    deepconv evaluate --weights=runs/vgg_d_384_boxes_per_class --classifier=runs/vgg_d_384

Protocols: center, ten_crop, nine_view (3x3 crops, for the CIFAR-10 nets), dense, multi_crop (5x5
crops and their mirror images), and multi_crop_and_dense. Several scales, protocols and networks
count alike: posteriors are averaged.

A network that predicts boxes is evaluated on the localization task: center scores the box of the
true class, dense five guesses of class and box, whose classes --classifier names; the boxes of
several networks (--ensemble) and scales are merged.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from deepconv import atomic
from deepconv.commands import command_line
from deepconv.exceptions import UserError
from deepconv.config.schema import predicts_boxes
from deepconv.inference.evaluate import Request, describe, evaluate
from deepconv.inference.model import load_input
from deepconv.localization import evaluate as localization

INTERRUPTED = "interrupted; run the same command to score the remaining images"


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    command_line.define_weights(values)
    command_line.define_protocol(values)
    flags.DEFINE_list(
        "ensemble",
        [],
        "More runs and files of weights, or .npz files of posteriors.",
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
    replaced = {key: value for key, value in dataset.items() if value is not None}
    out = Path(options.out).absolute() if options.out else None
    if named and _predicts_boxes(paths[0]):
        _localization(options, paths, scales, replaced, out, json_file)
        return
    if options.classifier:
        raise UserError(f"--classifier is for networks that predict boxes, and {paths[0]} does not")
    result = evaluate(
        [path for path in paths if path.suffix != ".npz"],
        Request(options.protocol, scales, options.average, options.checkpoint),
        posteriors=[path for path in paths if path.suffix == ".npz"],
        dataset=replaced,
        out=out,
        threads=options.threads,
    )
    if json_file:
        atomic.write_json(json_file, result)
    print(f"{describe(result)}\n\nresults: {Path(result['posteriors']).with_suffix('.json')}")


def _predicts_boxes(path: Path) -> bool:
    # Files of other frameworks, which take long to read, are of classifiers.
    known = path.is_dir() or path.suffix == ".safetensors"
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
        Path(options.classifier).absolute() if options.classifier else None,
        localization.Request(options.protocol, scales, options.checkpoint),
        dataset=dataset,
        out=out,
        threads=options.threads,
    )
    if json_file:
        atomic.write_json(json_file, result.about)
    print(f"{result.text}\n\nworst:   {result.file.with_suffix('.png')}\nresults: {result.file}")
