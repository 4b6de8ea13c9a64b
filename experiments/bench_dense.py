"""Time dense evaluation at three scales against 150 crops, with the same net.

    python -m experiments.bench_dense --network=vgg_d --images=2 --repeats=3

The full-width net has random weights, and its input is noise in the shape of a 4:3 photograph, at
the paper's scales 256, 384 and 512. Both methods take turns in one process, after a warm-up. The
ratio of multiply-accumulates, a lower bound for exact evaluation, is printed with the measured one.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from deepconv import compilation, models, preprocess, tables
from deepconv.commands import command_line
from deepconv.data.color import IMAGENET
from deepconv.data.decode import rescaled_size
from deepconv.evaluation.protocols import VIEWS
from deepconv.models.layers import Conv, output_size

SCALES = (256, 384, 512)
CROPS = 50


def macs(network: models.Network, height: int, width: int) -> int:
    """Return the multiply-accumulates of one image, without biases."""
    total, channels = 0, 3
    for layer in network.layers:
        height, width = output_size(layer, height), output_size(layer, width)
        if isinstance(layer, Conv):
            kernel = layer.kernel**2 * channels // layer.groups
            total += height * width * kernel * layer.features
            channels = layer.features
    return total


def measure(network: models.Network, *, images: int, repeats: int) -> dict[str, Any]:
    """Time both ways on the same images, in turn, after a warm-up.

    Args:
      network: its weights are random.
      images: number of images in a batch, at each of `SCALES` relative to a crop of 224 pixels.
      repeats: number of timed pairs.

    Returns:
      `seconds` per image and `macs` of one image for "dense" and "multi_crop"; `seconds` has every
      repeat.
    """
    crop = network.crop
    key = jax.random.key(0, impl="rbg")
    params = jax.jit(network.init)(key, jnp.zeros((1, crop, crop, 3)))["params"]
    rng = np.random.default_rng(0)
    sizes = [rescaled_size(375, 500, scale * crop // 224) for scale in SCALES]
    canvases = [rng.integers(0, 256, (images, *size, 3), np.uint8) for size in sizes]
    mean = preprocess.mean_for(IMAGENET, "rgb", square=None)

    def jitted(view: str) -> Callable[[], float]:
        step = compilation.jit(lambda x, extents: VIEWS[view](network, params, x, extents, mean))

        def run() -> float:
            start = time.perf_counter()
            for x in canvases:
                extents = np.full((len(x), 2), x.shape[1:3])
                jax.block_until_ready(step(x, extents))
            return time.perf_counter() - start

        return run

    ways = {"dense": jitted("dense"), "multi_crop": jitted("multi_crop")}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(repeats + 1):
        for way, run in ways.items():
            took = run()
            if repeat:
                seconds[way].append(took / images)
    dense_macs = sum(2 * macs(network, *size) for size in sizes)
    crop_macs = len(SCALES) * CROPS * macs(network, crop, crop)
    return {"seconds": seconds, "macs": {"dense": dense_macs, "multi_crop": crop_macs}}


def main(_: Sequence[str]) -> None:
    """Time both, then print the table."""
    network = models.create(NETWORK.value)
    result = measure(network, images=IMAGES.value, repeats=REPEATS.value)
    seconds, arithmetic = result["seconds"], result["macs"]
    names = {"dense": "dense, Q = 256, 384, 512", "multi_crop": "150 crops"}
    rows = [
        (name, float(np.median(seconds[way])), arithmetic[way] / 1e9) for way, name in names.items()
    ]
    columns = ("", "seconds per image, median", "10^9 multiply-accumulates")
    print(tables.table(columns, rows, decimals=2))
    ratios = np.array(seconds["dense"]) / np.array(seconds["multi_crop"])
    print(
        f"\n{NETWORK.value}: dense / crops in time: median {np.median(ratios):.3f}, "
        f"{ratios.min():.3f} to {ratios.max():.3f} in {REPEATS.value} pairs; in arithmetic: "
        f"{arithmetic['dense'] / arithmetic['multi_crop']:.3f}"
    )


if __name__ == "__main__":
    NETWORK = flags.DEFINE_enum("network", "vgg_d", [*models.NETWORKS], "The network.")
    IMAGES = flags.DEFINE_integer("images", 2, "Images in a batch.", lower_bound=1)
    REPEATS = flags.DEFINE_integer("repeats", 3, "Number of timed pairs.", lower_bound=1)
    command_line.run(main)
