"""Import weights files of other frameworks into our format.

imported = read(Path("vgg16-397923af.pth"))
write(imported, Path("vgg16.safetensors"))
"""

import codecs
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deepconv import naming
from deepconv.data import imagenet
from deepconv.exceptions import UserError
from deepconv.models.network import network_to_json
from deepconv.run import weights_file
from deepconv.run.provenance import versions
from deepconv.weights import caffe, conversion, keras, matconvnet, torch_file, wrappers
from deepconv.weights.conversion import Converted
from deepconv.weights.source import Source

_LOG = logging.getLogger(__name__)

# What is said of a network with batch normalization.
FOLDED = (
    "batch normalization is folded into the convolutions, which is exact in evaluation and is not "
    "trained further"
)
# Names of unused things that are printed.
_MOST_LEFT = 6
# The second byte of a pickle, its protocol.
_PROTOCOLS = (b"\x02", b"\x03", b"\x04", b"\x05")


class Imported(NamedTuple):
    """A converted network and where it comes from."""

    path: Path
    source: Source
    converted: Converted

    @property
    def scale(self) -> int:
        """The shorter side that images are rescaled to, as the file says.

        Otherwise the papers' 256 for crops of 224 and 227, and in the same proportion for others;
        a mean image larger than the crop has its own scale.
        """
        if self.source.scale is not None:
            return self.source.scale
        crop = self.converted.options["crop"]
        image = self.source.mean_image
        if image is not None and len(image) > crop:
            return len(image)
        return 256 if crop in (224, 227) else round(crop * 256 / 224)

    @property
    def mean_image(self) -> np.ndarray | None:
        """The mean image `[S, S, 3]` of squares of side `scale`, RGB, or None.

        One of the crop's size is centered, where the central crop lies, and its edges are repeated
        outward.
        """
        image = self.source.mean_image
        if image is None or len(image) == self.scale:
            return image
        before = (self.scale - len(image)) // 2
        after = self.scale - len(image) - before
        return np.pad(image, ((before, after), (before, after), (0, 0)), mode="edge")


def read(
    path: Path,
    *,
    class_names: Path | None = None,
    mean: Path | None = None,
    pixels: str | None = None,
) -> Imported:
    """Read and convert a file; its first bytes determine the format.

    Args:
      path: the file.
      class_names: a text file with one name per line, in the order of the outputs.
      mean: Caffe's mean image, a `.binaryproto`.
      pixels: a key of `conversion.PIXELS`, for a PyTorch file; by default torchvision's.

    Raises:
      UserError: if the file cannot be read or converted; the message names the file.
    """
    source = _reader(path)(path)._replace(pixels=pixels)
    if class_names is not None:
        source = source._replace(class_names=read_class_names(class_names))
    if mean is not None:
        image = caffe.read_mean(mean)
        source = source._replace(mean_image=image, mean_rgb=image.mean(axis=(0, 1)))
    try:
        converted = conversion.convert(source)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if (doubt := conversion.doubt(source, converted)) is not None:
        _LOG.warning("%s: %s", path, doubt)
    if source.class_names is not None and len(source.class_names) != converted.classes:
        raise UserError(
            f"{path} was trained on {converted.classes} classes, but "
            f"{class_names or 'it'} has {len(source.class_names)} class names"
        )
    if source.scale is not None and source.scale < converted.options["crop"]:
        raise UserError(
            f"{path} says that images are rescaled to {source.scale} pixels, less than the crop, "
            f"{converted.options['crop']}"
        )
    if source.mean_image is not None and len(source.mean_image) < converted.options["crop"]:
        raise UserError(
            f"the mean image has side {len(source.mean_image)}, less than the crop, "
            f"{converted.options['crop']}"
        )
    return Imported(path, source, converted)


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read a text file with one name per line: UTF-8, or UTF-16 with a byte-order mark.

    Any line endings are accepted, and blank lines at the end are ignored. Two classes may have the
    same name, like ImageNet's two cranes.

    Raises:
      UserError: if it is in another encoding, or a line before the end is blank or not text; the
        message names the line.
    """
    data = path.read_bytes()
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
    try:
        text = data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode(encoding, "ignore")
        raise UserError(
            f"{path}, line {len(_lines(before))}, is not {encoding.upper()}: save the file as UTF-8"
        ) from None
    names = [line.strip() for line in _lines(text.rstrip())]
    for number, name in enumerate(names, start=1):
        if not name:
            raise UserError(f"{path}, line {number}, is blank: every class needs a name")
        if naming.one_line(name) != name.replace("\t", "\\t"):
            raise UserError(
                f"{path}, line {number}, has characters that are not text "
                f"({naming.shortened(name, 40)}): save the file as UTF-8"
            )
    return tuple(names)


def _lines(text: str) -> list[str]:
    """Split lines as editors do; `str.splitlines` also splits at form feeds and the like."""
    return re.split("\r\n|\n|\r", text)


def describe(imported: Imported) -> str:
    """Return in one line what a file was imported as."""
    converted, source = imported.converted, imported.source
    text = f"imported from {source.dialect} as {converted.network} with {converted.classes} classes"
    if source.class_names is None and converted.classes == imagenet.CLASSES:
        text += ", taken to be ImageNet's"
    if converted.folded:
        text += f"; {FOLDED}"
    return f"{text}; not used: {left_over(imported)}" if source.left else text


def left_over(imported: Imported) -> str:
    """Return the names of what is in a file and is not used, as one short line."""
    left = imported.source.left
    more = f" and {len(left) - _MOST_LEFT} more" if len(left) > _MOST_LEFT else ""
    return naming.one_line(", ".join(left[:_MOST_LEFT]) + more)


def contents(imported: Imported) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the tensors for a weights file of ours, and their description in JSON."""
    converted, source = imported.converted, imported.source
    dialect = conversion.dialect_of(source)
    about = {
        "network": converted.network,
        "options": converted.options,
        "classes": converted.classes,
        "class_names": source.class_names,
        "mean_rgb": converted.mean_rgb.tolist(),
        "scale": imported.scale,
        **network_to_json(converted.create()),
        "source": {
            "file": imported.path.name,
            "dialect": source.dialect,
            "channels": "BGR" if dialect.bgr else "RGB",
            "mean": converted.mean_rgb.tolist(),
            "std": dialect.std.tolist(),
            "batch_normalization": "folded" if converted.folded else None,
            "done": {row.here: row.done for row in converted.rows},
        },
        "version": versions()["deepconv"],
    }
    return weights_file.named(converted.params, imported.mean_image), about


def write(imported: Imported, out: Path) -> None:
    """Write a file that `deepconv.load_model` and every command accept.

    Raises:
      UserError: if it cannot be written.
    """
    weights_file.write(out, *contents(imported))


def _reader(path: Path) -> Callable[[Path], Source]:
    """Return the function that reads a file, chosen by its first bytes."""
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith(b"\x89HDF"):
        return keras.read
    if start.startswith(b"MATLAB"):
        return matconvnet.read
    if weights_file.is_one(path):
        return _read_safetensors
    if path.suffix == ".caffemodel":
        return caffe.read
    # A zip archive, or a pickle of protocol 2 to 5.
    if start.startswith(b"PK\x03\x04") or (start[:1] == b"\x80" and start[1:2] in _PROTOCOLS):
        return _read_torch
    raise UserError(
        f"{path} is not a .pth, .safetensors, .caffemodel, .h5 (Keras) or .mat (MatConvNet) file, "
        "or its beginning is damaged"
    )


def _read_torch(path: Path) -> Source:
    state = torch_file.load(path)
    source = _of_torch(path, state.tensors)
    return source._replace(left=state.skipped + source.left)


def _read_safetensors(path: Path) -> Source:
    tensors, metadata = weights_file.read_tensors(path)
    source = _of_torch(path, tensors)
    try:
        if "class_names" in metadata:
            names = json.loads(metadata["class_names"])
            source = source._replace(class_names=tuple(map(str, names)))
        if "mean_rgb" in metadata:
            mean = np.array(json.loads(metadata["mean_rgb"]), np.float64)
            source = source._replace(mean_rgb=mean.reshape(3))
        if "crop" in metadata:
            source = source._replace(crop=int(metadata["crop"]))
        if "resize" in metadata:
            source = source._replace(scale=int(metadata["resize"]))
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: its metadata is not what export writes: {error}") from None
    return source


def _of_torch(path: Path, tensors: dict[str, np.ndarray]) -> Source:
    try:
        names, left = wrappers.unwrap(tensors)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    own = {ours: tensors[name] for name, ours in names.items()}
    timm = any(name.startswith("pre_logits.") for name in own)
    source = Source("timm" if timm else "torchvision", own, left=left)
    return _as_in_timms_config(source, path.with_name("config.json"))


def _as_in_timms_config(source: Source, file: Path) -> Source:
    """Return a source with the pixels that the `config.json` beside its file says, if it is timm's.

    Raises:
      UserError: if they are not normalized with ImageNet's deviations.
    """
    try:
        about = json.loads(file.read_text())
        said, names = about["pretrained_cfg"], about.get("label_names")
        mean, std = (np.array(said[key], np.float64) for key in ("mean", "std"))
        crop, share = said["input_size"][-1], said["crop_pct"]
        source = source._replace(
            mean_rgb=255 * mean.reshape(3),
            crop=int(crop),
            scale=int(crop / share),
            class_names=tuple(map(str, names)) if names else source.class_names,
        )
    except (OSError, KeyError, TypeError, ValueError):
        return source
    if not np.allclose(255 * std, conversion.TORCH_STD, atol=0.1):
        raise UserError(
            f"{file} says that pixels are divided by {std.tolist()}, which is not supported: only "
            f"ImageNet's {(conversion.TORCH_STD / 255).tolist()} is"
        )
    return source
