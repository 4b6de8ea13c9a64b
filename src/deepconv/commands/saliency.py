"""Draw where in a picture a network sees a class.

    deepconv saliency --weights=vgg16.safetensors --out=seen.png cat.jpg photos
    deepconv saliency --weights=vgg16.safetensors --out=seen.png --label="tabby" cat.jpg

Without --label, the class is the network's best one at its own scale, as in predict. Two views are
drawn beside each picture: the class's posterior at every position of the dense score map (VGG,
section 3.2), with crops beyond the edges filled with the mean color, and Grad-CAM (Selvaraju et al.
2017).
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
from absl import flags

from deepconv import drawing
from deepconv.commands import command_line
from deepconv.data import decode, imagenet
from deepconv.data.pipeline import Source
from deepconv.data.sources import pictures
from deepconv.exceptions import UserError
from deepconv.inference import scoring
from deepconv.inference.model import Model, open_model
from deepconv.run import hub
from deepconv.visualize import saliency

REQUIRED = ("weights", "out")
ARGUMENTS = sys.maxsize


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    command_line.define_weights(values)
    flags.DEFINE_string("out", None, "The .png file to write.", flag_values=values)
    flags.DEFINE_string(
        "label",
        None,
        "The name or number of a class; by default each picture's best one.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "scale",
        None,
        "The shorter side Q in pixels; by default the network's own, as in predict.",
        1,
        flag_values=values,
    )


def main(options: flags.FlagValues, arguments: Sequence[str]) -> None:
    """Draw where the network sees the given class, or else the best one."""
    out = command_line.output_file(options, "out", ".png")
    assert out is not None  # the flag is required
    source = pictures.open_pictures([Path(name) for name in arguments])
    trained = open_model(hub.located(options.weights), checkpoint=options.checkpoint)
    own = trained.config.evaluation.scale
    scale = options.scale or own
    for side in (own, scale):
        scoring.require_view(trained, "dense", side)
    label = None if options.label is None else numbered(trained, options.label)
    source, refused = pictures.recognized(source, os.cpu_count() or 1)
    if len(source) > saliency.MOST_PICTURES:
        raise UserError(
            f"{len(source)} pictures are too many: the limit is {saliency.MOST_PICTURES}"
        )
    decoded = [_decoded(source, record) for record in range(len(source))]
    _, _, damaged = pictures.set_aside(source, [n for n, x in enumerate(decoded) if x is None])
    whole = [image for image in decoded if image is not None]
    if label is None:
        look = saliency.viewer(trained)
        labels = [look(_rescaled(image, own), None).label for image in whole]
    else:
        labels = [label] * len(whole)
    figure = saliency.draw(trained, [_rescaled(image, scale) for image in whole], labels)
    drawing.save(figure, out)
    print(out.absolute())
    command_line.complain(refused + damaged)


def numbered(trained: Model, label: str) -> int:
    """Return the number of a class that is given by its name or, if no name matches, its number.

    A class of ImageNet may be given by its wnid or any of its names.

    Raises:
      UserError: if there is no such class, or several have this name.
    """
    names = trained.class_names
    found = [number for number, name in enumerate(names) if name == label]
    if not found:
        wnids = imagenet.find(label)
        found = [number for number, name in enumerate(names) if name in wnids]
    if len(found) > 1:
        raise UserError(
            f"--label={label} is the name of classes {', '.join(map(str, found))}; give the number"
        )
    if found:
        return found[0]
    if label.isascii() and label.isdecimal() and int(label) < len(names):
        return int(label)
    raise UserError(
        f"--label={label} is not one of the {len(names)} classes, which begin with "
        f"{', '.join(trained.labels[:3])}"
    )


def _decoded(source: Source, record: int) -> PIL.Image.Image | None:
    try:
        return decode.decode(source[record]["image"])
    except decode.UnreadableImageError:
        return None


def _rescaled(image: PIL.Image.Image, scale: int) -> np.ndarray:
    return decode.resample(image, decode.whole(image.height, image.width, scale))
