"""Evaluate a trained network by any test protocol of the papers.

    deepconv evaluate --weights=runs/vgg_d_jitter --protocol=dense --scales=256,384,512
    deepconv evaluate --weights=runs/vgg_d_jitter --ensemble=runs/vgg_e_jitter
    deepconv evaluate --ensemble=one.npz,another.npz --out=fused   # without any network
    deepconv evaluate --weights=vgg16.safetensors    # from deepconv weights import

Protocols: center, ten_crop, nine_view (3x3 crops, for the CIFAR-10 nets), dense, multi_crop (5x5
crops and their mirror images), and multi_crop_and_dense. The posteriors of several scales and
networks are averaged with equal weight.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from deepconv import atomic
from deepconv.commands import command_line
from deepconv.exceptions import UserError
from deepconv.inference.evaluate import Request, describe, evaluate

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
    flags.DEFINE_string(
        "out",
        None,
        "Write everything to this folder instead of the runs' own.",
        flag_values=values,
    )
    command_line.define_json(values, "the result")
    command_line.define_threads(values)


def main(options: flags.FlagValues, _: Sequence[str]) -> None:
    """Evaluate, then print the errors and the path of the results."""
    json_file = command_line.output_file(options, "json", ".json")
    out = command_line.output_folder(options, "out")
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
        Request(options.protocol, scales, options.average, options.checkpoint),
        posteriors=[path for path in paths if path.suffix == ".npz"],
        dataset={key: value for key, value in dataset.items() if value is not None},
        out=out,
        threads=options.threads,
    )
    if json_file:
        atomic.write_json(json_file, result)
    print(f"{describe(result)}\n\nresults: {Path(result['posteriors']).with_suffix('.json')}")
