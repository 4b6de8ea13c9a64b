"""Dense evaluation at three scales against 150 crops; see `experiments.bench_dense`."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from deepconv import models
from experiments import bench_dense
from experiments.gpu.networks import PRECISIONS
from experiments.gpu.report import markdown

SECONDS, LEAST = 75.0, 30.0


def cases(rehearse: bool) -> dict[str, dict[str, Any]]:
    """Return the arguments of each case."""
    options = {"width": 1 / 32, "crop": 32} if rehearse else {}
    return {
        f"vgg_d, {precision}": {"precision": precision, "options": options}
        for precision in ("bfloat16", "tf32")
    }


def measure(precision: str, options: dict[str, Any]) -> dict[str, Any]:
    """Time both ways with VGG-D, 2 images in a batch and 5 repeats; see `bench_dense.measure`."""
    dtype, matmul, _ = PRECISIONS[precision]
    with jax.default_matmul_precision(matmul):
        network = models.create("vgg_d", dtype=dtype, **options)
        return bench_dense.measure(network, images=2, repeats=5)


def text(results: Mapping[str, Any]) -> str:
    """Return the medians, and both ratios."""
    rows = []
    for case, one in results.items():
        dense, crops = (np.array(one["seconds"][way]) for way in ("dense", "multi_crop"))
        arithmetic = one["macs"]["dense"] / one["macs"]["multi_crop"]
        times = [1e3 * float(np.median(way)) for way in (dense, crops)]
        rows.append((case, *times, float(np.median(dense / crops)), arithmetic))
    columns = ("", "dense, ms per image", "150 crops, ms per image", "ratio of times")
    return markdown((*columns, "ratio of multiply-accumulates"), rows)
