"""Where in a picture a network sees a class.

    python -m deepconv.saliency --weights=vgg16.safetensors --out=seen.png cat.jpg photos
    python -m deepconv.saliency --weights=vgg16.safetensors --out=seen.png --label="tabby" cat.jpg

Two views beside each picture. The dense score map (VGG, section 3.2): the posterior of the class at
every place of the map, drawn where the crop that it judges has its center; no gradient is needed.
Grad-CAM (Selvaraju et al. 2017): the last convolution's maps, weighted by the gradient of the
class's mean score.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from matplotlib.figure import Figure

from deepconv import command_line, scoring, summary
from deepconv.data import decode, pictures
from deepconv.data.pipeline import Source
from deepconv.features import cut
from deepconv.models import Network
from deepconv.models.layers import Activation, Conv
from deepconv.trained import Trained, load
from deepconv.user_error import UserError

MOST_PICTURES = 20  # in one file


def score_map(trained: Trained, pixels: jax.typing.ArrayLike) -> jax.Array:
    """Return the posteriors of all classes at every place of an image's score map.

    Args:
      trained: a fully convolutional network.
      pixels: RGB `[H, W, 3]`, 0..255, at least as large as a crop.

    Returns:
      float32 `[h, w, C]`.
    """
    scores: Any = trained.network.apply({"params": trained.params}, _without_mean(trained, pixels))
    return jax.nn.softmax(scores[0])


def grad_cam(trained: Trained, pixels: jax.typing.ArrayLike, label: int) -> jax.Array:
    """Weight the last convolution's maps by what each does for a class (Grad-CAM).

    L = relu(sum_k a_k A_k), a_k the mean over the map of dS/dA_k, S the class's score averaged over
    the score map, A the output of the last convolution's ReLU.

    Args:
      trained: a fully convolutional network.
      pixels: see `score_map`.
      label: the class's number.

    Returns:
      float32 `[h, w]`, at least 0.
    """
    below, above = _parts(trained.network)
    images = _without_mean(trained, pixels)
    outputs: Any = below.apply({"params": trained.params}, images)

    def score(maps: jax.Array) -> jax.Array:
        scores: Any = above.apply({"params": trained.params}, maps)
        return scores[..., label].mean()

    weights = jax.grad(score)(outputs).mean(axis=(1, 2), keepdims=True)
    return jax.nn.relu((weights * outputs).sum(axis=-1))[0]


def _without_mean(trained: Trained, pixels: jax.typing.ArrayLike) -> jax.Array:
    mean = jnp.asarray(trained.colors.mean_rgb, jnp.float32)
    return jnp.asarray(pixels, jnp.float32)[None] - mean


def _parts(network: Network) -> tuple[Network, Network]:
    """Split a network behind the ReLU of its last convolution."""
    layers = network.layers
    fully_connected = [isinstance(x, Conv) and x.fully_connected for x in layers].index(True)
    last = max(i for i in range(fully_connected) if isinstance(layers[i], Activation))
    return cut(network, [layers[last].name]), network.clone(layers=layers[last + 1 :])


def spread(values: np.ndarray, size: tuple[int, int], *, stride: int, first: float) -> np.ndarray:
    """Interpolate a map to the pixels of its image, linearly, beyond its outer places evenly.

    Args:
      values: `[h, w]`.
      size: (height, width) of the image.
      stride: distance of two places, in pixels.
      first: where the first one lies on either axis, in pixels.

    Returns:
      `[H, W]`.
    """
    rows, columns = (first + stride * np.arange(length) for length in values.shape)
    tall = [np.interp(np.arange(size[0]), rows, column) for column in values.T]
    return np.stack([np.interp(np.arange(size[1]), columns, row) for row in np.stack(tall, 1)])


def drawing(trained: Trained, source: Source, *, scale: int, label: int | None) -> Figure:
    """Draw pictures, each with both views of a class beside it.

    Args:
      trained: a fully convolutional network.
      source: the pictures.
      scale: their shorter side.
      label: the class's number; None: the one that the network thinks best of each picture.
    """
    network = trained.network
    stride = summary.layer_table(network.layers, network.crop)[-1].stride
    below, _ = _parts(network)
    cam_stride = summary.layer_table(below.layers, network.crop)[-1].stride
    columns = ("", "posteriors of the score map", "Grad-CAM")
    figure = Figure(figsize=(9, 3.2 * len(source)), dpi=100, layout="constrained")
    grid = figure.subplots(len(source), len(columns), squeeze=False)
    for number, row in enumerate(grid):
        pixels, _ = decode.load_crop(
            source[number]["image"], lambda height, width: decode.whole(height, width, scale)
        )
        says = np.asarray(score_map(trained, pixels))
        wanted = int(says.mean(axis=(0, 1)).argmax()) if label is None else label
        cam = np.asarray(grad_cam(trained, pixels, wanted))
        size = (pixels.shape[0], pixels.shape[1])
        views = (
            (spread(says[..., wanted], size, stride=stride, first=(network.crop - 1) / 2), 1.0),
            (spread(cam, size, stride=cam_stride, first=(cam_stride - 1) / 2), cam.max() or 1.0),
        )
        for axes, title in zip(row, columns, strict=True):
            axes.imshow(pixels)
            axes.axis("off")
            axes.set_title(title, fontsize=8)
        row[0].set_title(
            f"{trained.class_names[wanted]} {says[..., wanted].mean():.2f}", fontsize=8
        )
        for axes, (values, most) in zip(row[1:], views, strict=True):
            axes.imshow(values, cmap="inferno", alpha=0.6, vmin=0.0, vmax=most)
    return figure


def numbered(trained: Trained, label: str) -> int:
    """Return the number of a class.

    Raises:
      UserError: if the network knows no such class.
    """
    names = trained.class_names
    if label not in names:
        raise UserError(
            f"--label={label} is none of the {len(names)} classes, which begin with "
            f"{', '.join(names[:3])}"
        )
    return names.index(label)


def main(argv: Sequence[str]) -> None:
    """Draw where the network sees its best label, or the one that is asked for."""
    options = flags.FLAGS
    out = Path(options.out)
    if out.suffix != ".png" or not out.absolute().parent.is_dir():
        raise UserError(f"--out={out} is not a .png file in a folder that exists")
    source = pictures.open_pictures([Path(name) for name in argv[1:]])
    trained = load(Path(options.weights), which=options.which)
    # Twice a crop: a map of some places, which that of one crop is not.
    scale = options.scale or 2 * trained.network.crop
    scoring.check(trained, "dense", scale)
    label = None if options.label is None else numbered(trained, options.label)
    source, refused = pictures.readable(source, os.cpu_count() or 1)
    if len(source) > MOST_PICTURES:
        raise UserError(f"{len(source)} pictures do not fit one file; {MOST_PICTURES} do")
    drawing(trained, source, scale=scale, label=label).savefig(out)
    print(out.absolute())
    command_line.complain(refused)


if __name__ == "__main__":
    flags.DEFINE_string("weights", None, "The folder of a run, or a file of weights.")
    flags.DEFINE_string("out", None, "The .png file to write.")
    flags.DEFINE_string("label", None, "The name of a class; by default each picture's best.")
    flags.DEFINE_integer("scale", None, "The shorter side Q; by default twice the crop.", 1)
    flags.DEFINE_enum("which", "last", ["last", "best"], "Which of a run's parameters.")
    flags.mark_flags_as_required(["weights", "out"])
    command_line.run(main, arguments=sys.maxsize)
