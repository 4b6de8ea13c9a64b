"""Where in a picture a network sees a class.

    seen = viewer(trained)(pixels, None)
    figure = draw(trained, images, labels)

Two views are drawn beside each picture. The dense score map (VGG, section 3.2): the class's
posterior at every position of the map, drawn at the center of the crop that it belongs to; it needs
no gradient. The picture has margins of the mean color there, so that crops are centered everywhere
in it, at the scale that the network is used to. Grad-CAM (Selvaraju et al. 2017): the last
convolution's maps, weighted by the gradient of the class's mean score.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from deepconv import compilation, drawing, naming, preprocess
from deepconv.inference.activations import cut
from deepconv.inference.model import Model, require_classes
from deepconv.models import Network, summary
from deepconv.models.layers import Activation, Conv

MOST_PICTURES = 20  # in one file
LONGEST_NAME = 34  # columns for the name of a class
WIDTH, TITLE = 3.0, 0.25  # of a picture and the title above it, in inches


class Seen(NamedTuple):
    """Where a class is seen in an image.

    Attributes:
      label: the class's number.
      posteriors: of all classes at every position of the score map, float32 `[h, w, C]`; see
        `margin`.
      grad_cam: over the map of the last convolution, float32 `[h', w']`, at least 0.
    """

    label: int
    posteriors: np.ndarray
    grad_cam: np.ndarray


def viewer(trained: Model) -> Callable[[jax.typing.ArrayLike, int | None], Seen]:
    """Return a function that finds where a class is seen; it is compiled once per image size.

    Grad-CAM: L = relu(sum_k a_k A_k), a_k the mean over the map of dS/dA_k, S the class's score
    averaged over the score map, A the output of the last convolution's ReLU.

    Args:
      trained: a fully convolutional network.

    Returns:
      A function from an RGB image `[H, W, 3]`, 0..255, at least as large as a crop, and a class's
      number (None: the class with the highest mean posterior) to `Seen`. It raises ValueError if
      there is no such class.
    """
    require_classes(trained)
    posteriors_of = jax.nn.sigmoid if trained.multilabel else jax.nn.softmax
    below, above = _parts(trained.network)
    mean = jnp.asarray(preprocess.mean_for(trained.colors, trained.config.input.mean, square=None))

    stride = _stride(trained.network)

    @compilation.jit
    def look(params: Any, pixels: jax.Array, label: jax.Array) -> tuple[jax.Array, ...]:
        pixels = pixels - mean
        around = [margin(side, trained.network.crop, stride) for side in pixels.shape[:2]]
        canvas = jnp.pad(pixels, [(n, n) for n in around] + [(0, 0)])
        places: Any = trained.network.apply({"params": params}, canvas[None])
        maps: Any = below.apply({"params": params}, pixels[None])
        scores: Any
        scores, pull = jax.vjp(lambda maps: above.apply({"params": params}, maps), maps)
        best = posteriors_of(scores[0].astype(jnp.float32)).mean(axis=(0, 1)).argmax()
        label = jnp.where(label < 0, best, label)
        number = scores.shape[1] * scores.shape[2]
        (slopes,) = pull(jnp.zeros_like(scores).at[..., label].set(1 / number))
        weights = slopes.mean(axis=(1, 2), keepdims=True)
        cam = jax.nn.relu((weights * maps).sum(axis=-1))[0].astype(jnp.float32)
        return label, posteriors_of(places[0].astype(jnp.float32)), cam

    def seen(pixels: jax.typing.ArrayLike, label: int | None) -> Seen:
        classes = len(trained.class_names)
        if label is not None and not 0 <= label < classes:
            raise ValueError(f"label {label} is not in 0 to {classes - 1}")
        found = look(
            trained.params, jnp.asarray(pixels, jnp.float32), -1 if label is None else label
        )
        return Seen(int(found[0]), np.asarray(found[1]), np.asarray(found[2]))

    return seen


def margin(side: int, crop: int, stride: int) -> int:
    """Return the width of the margins that let crops be centered all over an image.

    The first center is within a stride of the edge, and one crop is the central one.

    Args:
      side: height or width of the image, in pixels.
      crop: side of the crop.
      stride: distance between two positions of the score map.
    """
    least = max(0, (crop - stride) // 2)
    return least + (-((side - crop) // 2 + least)) % stride


def _stride(network: Network) -> int:
    return summary.layer_table(network.layers, network.crop)[-1].stride


def _parts(network: Network) -> tuple[Network, Network]:
    """Split a network after the ReLU of its last convolution."""
    layers = network.layers
    fully_connected = [isinstance(x, Conv) and x.fully_connected for x in layers].index(True)
    last = max(i for i in range(fully_connected) if isinstance(layers[i], Activation))
    return cut(network, [layers[last].name]), network.clone(layers=layers[last + 1 :])


def spread(
    values: np.ndarray, size: tuple[int, int], *, stride: int, first: Sequence[float]
) -> np.ndarray:
    """Interpolate a map linearly to its image's pixels; it is constant beyond the outer positions.

    Args:
      values: `[h, w]`.
      size: (height, width) of the image.
      stride: distance between two positions, in pixels.
      first: coordinates of the first position, (y, x), in pixels.

    Returns:
      `[H, W]`.
    """
    rows, columns = (
        start + stride * np.arange(length)
        for start, length in zip(first, values.shape, strict=True)
    )
    tall = [np.interp(np.arange(size[0]), rows, column) for column in values.T]
    return np.stack([np.interp(np.arange(size[1]), columns, row) for row in np.stack(tall, 1)])


def draw(trained: Model, images: Sequence[np.ndarray], labels: Sequence[int]) -> Figure:
    """Draw images, each with both views of a class beside it.

    Args:
      trained: a fully convolutional network.
      images: RGB `[H, W, 3]`, 0..255.
      labels: the class's number, for each.
    """
    network = trained.network
    stride = _stride(network)
    below, _ = _parts(network)
    cam_stride = summary.layer_table(below.layers, network.crop)[-1].stride
    look = viewer(trained)
    heights = [WIDTH * pixels.shape[0] / pixels.shape[1] + TITLE for pixels in images]
    figure = Figure(figsize=(3 * WIDTH, sum(heights)), dpi=100, layout="constrained")
    grid = figure.subplots(len(images), 3, squeeze=False, height_ratios=heights)
    for pixels, label, row in zip(images, labels, grid, strict=True):
        _, posteriors, cam = look(pixels, label)
        says = posteriors[..., label]
        size = (pixels.shape[0], pixels.shape[1])
        first = [(network.crop - 1) / 2 - margin(side, network.crop, stride) for side in size]
        views = (
            spread(says, size, stride=stride, first=first),
            spread(cam, size, stride=cam_stride, first=[(cam_stride - 1) / 2] * 2),
        )
        name = naming.shortened(trained.labels[label], LONGEST_NAME)
        titles = (name, f"posterior at each place, 0 to {views[0].max():.2f}", "Grad-CAM")
        for axes, title in zip(row, titles, strict=True):
            axes.axis("off")
            axes.set_title(title, fontsize=8, **drawing.LITERAL)
        row[0].imshow(pixels)
        for axes, values in zip(row[1:], views, strict=True):
            most = values.max() or 1.0
            # In gray, because the picture's colors would be mistaken for the map's.
            axes.imshow(pixels.mean(axis=-1), cmap="gray", vmin=0, vmax=255)
            opacity = 0.8 * np.clip(values / most, 0.0, 1.0)
            axes.imshow(values, cmap="inferno", alpha=opacity, vmin=0.0, vmax=most)
    return figure
