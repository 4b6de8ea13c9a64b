"""Evaluate what a run has trained, by any test protocol of the papers.

    python -m deepconv.evaluate --workdir=runs/vgg_d_jitter --protocol=dense --scales=256,384,512
    python -m deepconv.evaluate --workdir=runs/vgg_d_jitter --ensemble=runs/vgg_e_jitter
    python -m deepconv.evaluate --ensemble=one.npz,another.npz --out=fused   # without any network
    python -m deepconv.evaluate --workdir=vgg16.safetensors    # a file of deepconv.weights import

Protocols: center, ten_crop, nine_view (3x3 crops, for the CIFAR-10 nets), dense, multi_crop (5x5
crops and their mirror images), and multi_crop_and_dense. Several scales, protocols and networks
count alike: posteriors are averaged.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from deepconv.commands import command_line
from deepconv.evaluation.protocols import PROTOCOLS
from deepconv.exceptions import UserError
from deepconv.inference.evaluate import Request, describe, evaluate


def main(_: Sequence[str]) -> None:
    """Evaluate, then print the errors and where everything lies."""
    named = [Path(name) for name in ([WORKDIR.value] if WORKDIR.value else []) + ENSEMBLE.value]
    dataset = {"name": DATASET.value, "data_dir": DATA_DIR.value, "eval_split": SPLIT.value}
    try:
        scales = tuple(map(int, SCALES.value))
    except ValueError:
        raise UserError(f"--scales={','.join(SCALES.value)} are not whole numbers") from None
    request = Request(PROTOCOL.value, scales, AVERAGE.value, CHECKPOINT.value)
    result = evaluate(
        [name.absolute() for name in named if name.suffix != ".npz"],
        request,
        posteriors=[name.absolute() for name in named if name.suffix == ".npz"],
        dataset={key: value for key, value in dataset.items() if value is not None},
        out=Path(OUT.value).absolute() if OUT.value else None,
        threads=THREADS.value,
    )
    print(f"{describe(result)}\n\nresults: {Path(result['posteriors']).with_suffix('.json')}")


if __name__ == "__main__":
    WORKDIR = flags.DEFINE_string("workdir", None, "The folder of a run, or a file of weights.")
    PROTOCOL = flags.DEFINE_enum("protocol", "dense", [*PROTOCOLS], "How images are looked at.")
    SCALES = flags.DEFINE_list(
        "scales", [], "The shorter sides Q in pixels, such as 256,384,512; by default the config's."
    )
    ENSEMBLE = flags.DEFINE_list("ensemble", [], "More of these, or .npz files of posteriors.")
    AVERAGE = flags.DEFINE_enum(
        "average", "scores", ["scores", "posteriors"], "What is averaged over the dense map."
    )
    CHECKPOINT = flags.DEFINE_enum("checkpoint", "last", ["last", "best"], "Which parameters.")
    DATASET = flags.DEFINE_string("dataset", None, "Other images of the same classes.")
    SPLIT = flags.DEFINE_string(
        "split", None, "Their split; by default the config's eval_split, or all of a plain folder."
    )
    DATA_DIR = flags.DEFINE_string("data_dir", None, "Where prepared data sets lie.")
    OUT = flags.DEFINE_string(
        "out", None, "The folder of the results; nothing is then written elsewhere."
    )
    THREADS = flags.DEFINE_integer("threads", 0, "That decode; 0: one for each core.", 0)
    command_line.run(main, interrupted="interrupted; the same command scores what is missing")
