"""Import weights from other frameworks, export ours, or publish them.

deepconv weights import vgg16-397923af.pth vgg16.safetensors
deepconv weights import VGG_ILSVRC_16_layers.caffemodel vgg16.safetensors --classes=words
deepconv weights import vgg16-00b39a1b.pth vgg16.safetensors --pixels=caffe
deepconv weights export runs/vgg_d_jitter vgg16.safetensors --format=deepconv
deepconv weights export runs/vgg_d_jitter vgg16_torch.safetensors --format=torchvision
deepconv weights export runs/vgg_d_jitter vgg16.stablehlo --format=stablehlo --view=dense
deepconv weights push runs/flowers --to=me/flowers --license=apache-2.0
"""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags

from deepconv import tables
from deepconv.commands import command_line
from deepconv.exceptions import UserError
from deepconv.inference import model
from deepconv.run import hub, weights_file
from deepconv.weights import card, conversion, exporting, importing

ARGUMENTS = 3
_ENDING = ".safetensors"
_OF_PYTORCH = (".pth", ".pt", ".bin")


def _import(options: flags.FlagValues, path: Path, out: Path) -> None:
    imported = importing.read(
        path,
        class_names=Path(options.classes) if options.classes else None,
        mean=Path(options.mean) if options.mean else None,
        pixels=options.pixels,
    )
    importing.write(imported, out)
    converted = imported.converted
    print(
        tables.table(
            ("source tensor", "shape", "our tensor", "shape", "conversion"), converted.rows
        )
    )
    mean = ", ".join(f"{value:.3f}" for value in converted.mean_rgb)
    print(f"\n{conversion.describe_pixels(imported.source)}")
    if converted.folded:
        print(importing.FOLDED)
    if imported.source.left:
        print(f"not used: {importing.left_over(imported)}")
    print(
        f"{out.absolute()}: {converted.network}, {converted.classes} classes, "
        f"{converted.options['crop']}-pixel crops of images rescaled to a shorter side of "
        f"{imported.scale}; mean RGB {mean}"
    )


def _export(options: flags.FlagValues, path: Path, out: Path) -> None:
    net = model.open_model(path, checkpoint=options.checkpoint)
    if options.format == "deepconv":
        exporting.to_deepconv(net, out)
        text = f"weights of {net.config.model.name}, for --weights of every command"
    elif options.format == "torchvision":
        exporting.to_torchvision(net, out)
        text = f"{net.config.model.name} in torchvision's format"
    else:
        exporting.to_stablehlo(net, out, view=options.view)
        text = (
            f"{net.config.model.name} as StableHLO; {out.name}.json describes its input and output"
        )
    print(f"{out.absolute()}: {text}")


def _push(options: flags.FlagValues, source: str) -> None:
    if not options.to:
        raise UserError("deepconv weights push needs --to=OWNER/NAME, a repository on the hub")
    path = Path(source)
    if path.is_file() and not weights_file.is_ours(path):
        raise UserError(
            f"{path} is not our own file: convert it with deepconv weights import first"
        )
    net = model.open_model(path, checkpoint=options.checkpoint)
    text = card.model_card(
        net,
        card.results_of(model.results_folder(path)),
        repo=options.to,
        license=options.license,
    )
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "model.safetensors"
        if path.is_file():
            shutil.copyfile(path, weights)
        else:
            exporting.to_deepconv(net, weights)
        (Path(folder) / "README.md").write_text(text, encoding="utf-8")
        what = f"{net.config.model.name}, {len(net.class_names)} classes"
        print(hub.upload(Path(folder), options.to, message=what))


_ACTIONS: dict[str, Callable[[flags.FlagValues, Path, Path], None]] = {
    "import": _import,
    "export": _export,
}


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    flags.DEFINE_string(
        "classes",
        None,
        "For import: a text file with one class name per line.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "mean", None, "For import: Caffe's mean image, a .binaryproto file.", flag_values=values
    )
    flags.DEFINE_enum(
        "pixels",
        None,
        [*conversion.PIXELS],
        "For import of a PyTorch file: the pixels that its first kernel expects; caffe for a file "
        "converted from Caffe (BGR, 0..255), by default torchvision (RGB, normalized).",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "format",
        "torchvision",
        ["torchvision", "stablehlo", "deepconv"],
        "For export: the file's format.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "view",
        "crop",
        [*exporting.VIEWS],
        "For export: the view that a StableHLO program evaluates.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "to",
        None,
        "For push: the repository on the Hugging Face hub, OWNER/NAME, created if missing.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "license",
        "unknown",
        "For push: the license of the weights, an identifier such as apache-2.0.",
        flag_values=values,
    )
    command_line.define_checkpoint(values)


def _require_ending(options: flags.FlagValues, action: str, out: Path) -> None:
    """Check that a file's name says what will be in it.

    Raises:
      UserError: if its ending is that of another format.
    """
    stablehlo = action == "export" and options.format == "stablehlo"
    if stablehlo and out.suffix in (_ENDING, *_OF_PYTORCH):
        raise UserError(f"cannot write {out}: --format=stablehlo writes a .stablehlo file")
    if not stablehlo and out.suffix != _ENDING:
        raise UserError(
            f"cannot write {out}: what is written is a safetensors file, so its name must end in "
            f"{_ENDING}, as in {out.with_suffix(_ENDING).name}"
        )


def main(options: flags.FlagValues, arguments: Sequence[str]) -> None:
    """Import, export or push a file."""
    if len(arguments) == 2 and arguments[0] == "push":
        _push(options, arguments[1])
        return
    if len(arguments) != 3 or arguments[0] not in _ACTIONS:
        raise UserError(
            "usage: deepconv weights import|export SOURCE OUT, or push SOURCE --to=OWNER/NAME"
        )
    action, out = arguments[0], Path(arguments[2])
    if not out.absolute().parent.is_dir():
        raise UserError(f"cannot write {out}: there is no folder {out.parent}")
    _require_ending(options, action, out)
    _ACTIONS[action](options, hub.located(arguments[1]), out)
