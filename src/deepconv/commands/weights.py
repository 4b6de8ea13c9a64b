"""Bring in weights of other frameworks, and take ours out.

python -m deepconv.weights import vgg16-397923af.pth vgg16.safetensors
python -m deepconv.weights import VGG_ILSVRC_16_layers.caffemodel vgg16.safetensors --classes=words
python -m deepconv.weights export runs/vgg_d_jitter vgg16.safetensors --format=deepconv
python -m deepconv.weights export runs/vgg_d_jitter vgg16_torch.safetensors --format=torchvision
python -m deepconv.weights export runs/vgg_d_jitter vgg16.stablehlo --format=stablehlo --view=dense
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags

from deepconv import tables
from deepconv.commands import command_line
from deepconv.exceptions import UserError
from deepconv.inference import model
from deepconv.weights import exporting, importing


def _import(path: Path, out: Path) -> None:
    options = flags.FLAGS
    imported = importing.read(
        path,
        class_names=Path(options.classes) if options.classes else None,
        mean=Path(options.mean) if options.mean else None,
    )
    importing.write(imported, out)
    converted = imported.converted
    print(tables.table(("there", "shape", "here", "shape", "done"), converted.rows))
    mean = ", ".join(f"{value:.3f}" for value in converted.mean_rgb)
    print(
        f"\n{out.absolute()}: {converted.network} of {converted.classes} classes, for crops of "
        f"{converted.options['crop']} in images of shorter side {imported.scale}; mean RGB {mean}"
    )


def _export(path: Path, out: Path) -> None:
    options = flags.FLAGS
    net = model.open_model(path, checkpoint=options.which)
    if options.format == "deepconv":
        exporting.to_deepconv(net, out)
        text = f"weights of {net.config.model.name}, which every command takes"
    elif options.format == "torchvision":
        exporting.to_torchvision(net, out)
        text = f"torchvision's tensors of {net.config.model.name}"
    else:
        exporting.to_stablehlo(net, out, view=options.view)
        text = (
            f"{net.config.model.name} as StableHLO, and what it takes and gives in {out.name}.json"
        )
    print(f"{out.absolute()}: {text}")


ACTIONS: dict[str, Callable[[Path, Path], None]] = {"import": _import, "export": _export}


def main(argv: Sequence[str]) -> None:
    """Import or export a file."""
    if len(argv) != 4 or argv[1] not in ACTIONS:
        raise UserError("usage: python -m deepconv.weights import|export SOURCE OUT")
    source, out = Path(argv[2]), Path(argv[3])
    if not out.absolute().parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}")
    ACTIONS[argv[1]](source, out)


if __name__ == "__main__":
    flags.DEFINE_string("classes", None, "A text file: the names of the classes, one a line.")
    flags.DEFINE_string("mean", None, "Caffe's mean image, a .binaryproto.")
    flags.DEFINE_enum(
        "format", "torchvision", ["torchvision", "stablehlo", "deepconv"], "Of the exported file."
    )
    flags.DEFINE_enum("view", "crop", [*exporting.VIEWS], "What a StableHLO program looks at.")
    flags.DEFINE_enum("which", "last", ["last", "best"], "Which of a run's parameters.")
    command_line.run(main, arguments=3)
