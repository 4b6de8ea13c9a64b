"""Write the activations of a network's layers for pictures.

    deepconv features --weights=vgg16.safetensors --layer=relu7 --out=x.npz cat.jpg photos

Layers have the names that `deepconv summary` prints: `conv3_3` and `fc7` are before the ReLU,
`relu3_3` and `relu7` after it. The central crop of each picture is used. Unreadable pictures are
reported on stderr and skipped; the exit status is then 2.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from deepconv import atomic, naming
from deepconv.commands import command_line
from deepconv.data.sources import pictures
from deepconv.exceptions import UserError
from deepconv.inference import activations
from deepconv.inference.model import open_model
from deepconv.run import hub

REQUIRED = ("weights", "layer", "out")
ARGUMENTS = sys.maxsize


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    command_line.define_weights(values)
    flags.DEFINE_list(
        "layer", None, "Layer names, such as relu7 or relu3_3,pool5.", flag_values=values
    )
    flags.DEFINE_string(
        "out",
        None,
        "The .npz file to write: one array per layer, and image_ids.",
        flag_values=values,
    )


def main(options: flags.FlagValues, arguments: Sequence[str]) -> None:
    """Write the activations of pictures' central crops."""
    out = command_line.output_file(options, "out", ".npz")
    assert out is not None  # the flag is required
    source = pictures.open_pictures([Path(name) for name in arguments])
    trained = open_model(hub.located(options.weights), checkpoint=options.checkpoint)
    try:
        activations.cut(trained.network, options.layer)
    except ValueError as error:
        raise UserError(f"--layer: {error}") from None
    source, refused = pictures.recognized(source, os.cpu_count() or 1)
    crops = activations.of_central_crops(trained, source, options.layer)
    suspects = sorted({*range(len(source))} - {*crops.records.tolist()})
    source, _, damaged = pictures.set_aside(source, suspects)
    image_ids = np.array(list(map(naming.decoded, source.file_names)), str)
    with atomic.replacing(out) as file:
        np.savez(file, image_ids=image_ids, **crops.outputs)  # type: ignore[arg-type]
    shapes = (f"{name} {'x'.join(map(str, x.shape))}" for name, x in crops.outputs.items())
    print(f"{out.absolute()}: {', '.join(shapes)}")
    command_line.complain(refused + damaged)
