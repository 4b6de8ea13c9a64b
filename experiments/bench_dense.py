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


def main(_: Sequence[str]) -> None:
    """Time both, then print the table."""
    network = models.create(NETWORK.value)
    crop = network.crop
    key = jax.random.key(0, impl="rbg")
    params = jax.jit(network.init)(key, jnp.zeros((1, crop, crop, 3)))["params"]
    rng = np.random.default_rng(0)
    sizes = [rescaled_size(375, 500, scale) for scale in SCALES]
    images = [rng.integers(0, 256, (IMAGES.value, *size, 3), np.uint8) for size in sizes]
    mean = preprocess.mean_for(IMAGENET, "rgb", square=None)

    def jitted(view: str) -> Callable[[], float]:
        step = compilation.jit(lambda x, extents: VIEWS[view](network, params, x, extents, mean))

        def run() -> float:
            start = time.perf_counter()
            for x in images:
                extents = np.full((len(x), 2), x.shape[1:3])
                jax.block_until_ready(step(x, extents))
            return time.perf_counter() - start

        return run

    ways = {"dense": jitted("dense"), "multi_crop": jitted("multi_crop")}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(REPEATS.value + 1):
        for way, run in ways.items():
            took = run()
            if repeat:
                seconds[way].append(took / IMAGES.value)
    dense_macs = sum(2 * macs(network, *size) for size in sizes)
    crop_macs = len(SCALES) * CROPS * macs(network, crop, crop)
    rows: list[tuple[Any, ...]] = [
        ("dense, Q = 256, 384, 512", float(np.median(seconds["dense"])), dense_macs / 1e9),
        ("150 crops", float(np.median(seconds["multi_crop"])), crop_macs / 1e9),
    ]
    columns = ("", "seconds per image, median", "10^9 multiply-accumulates")
    print(tables.table(columns, rows, decimals=2))
    ratios = np.array(seconds["dense"]) / np.array(seconds["multi_crop"])
    print(
        f"\n{NETWORK.value}: dense / crops in time: median {np.median(ratios):.3f}, "
        f"{ratios.min():.3f} to {ratios.max():.3f} in {REPEATS.value} pairs; in arithmetic: "
        f"{dense_macs / crop_macs:.3f}"
    )


if __name__ == "__main__":
    NETWORK = flags.DEFINE_enum("network", "vgg_d", [*models.NETWORKS], "The network.")
    IMAGES = flags.DEFINE_integer("images", 2, "Images in a batch.", lower_bound=1)
    REPEATS = flags.DEFINE_integer("repeats", 3, "Number of timed pairs.", lower_bound=1)
    command_line.run(main)
