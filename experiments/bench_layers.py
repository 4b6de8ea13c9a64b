"""Time a network's convolutions one by one, ours and PyTorch's in turn.

    python -m experiments.bench_layers --config=configs/vgg_d.py --batch=4

Three passes are timed on float32 noise, without bias or ReLU: forward, the gradient of the input
(which a first layer does not need) and the gradient of the kernel. Ours is `layers.convolve`,
compiled like our programs; PyTorch runs eagerly, channels last, with as many threads as this
process has cores. GFLOP/s count two operations for each multiply-accumulate of `deepconv summary`,
and divide by the median of the rounds.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from ml_collections import config_flags

from deepconv import compilation, tables
from deepconv.benchmark import timing
from deepconv.benchmark.session import cores
from deepconv.commands import command_line
from deepconv.config import recipe
from deepconv.config.check import check_config
from deepconv.config.schema import create_model
from deepconv.models import Network, summary
from deepconv.models.layers import Conv, convolve
from experiments.bench_torch import require_torch

WHAT = ("forward", "input's gradient", "kernel's gradient")


class Place(NamedTuple):
    """A convolution in its network.

    Attributes:
      layer: the convolution.
      input: height, width and channels of its input.
      row: its counts in `deepconv summary`.
    """

    layer: Conv
    input: tuple[int, int, int]
    row: summary.LayerRow


def places(network: Network) -> Iterator[Place]:
    """Yield the convolutions in order, without the fully connected layers."""
    rows = {row.name: row for row in summary.layer_table(network.layers, network.crop)}
    shape = (network.crop, network.crop, 3)
    for layer in network.layers:
        if isinstance(layer, Conv) and not layer.fully_connected:
            yield Place(layer, shape, rows[layer.name])
        if layer.name in rows:
            shape = rows[layer.name].output


def arrays(place: Place, batch: int) -> list[np.ndarray]:
    """Draw maps `[N, H, W, C]`, a kernel `[K, K, C / groups, F]` and slopes `[N, h, w, F]`."""
    rng = np.random.default_rng(0)
    shapes = ((batch, *place.input), place.row.kernel, (batch, *place.row.output))
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def ours(place: Place, batch: int) -> dict[str, Callable[[], Any]]:
    """Return functions that each run one of our passes and wait for it."""
    layer = place.layer
    maps, kernel, slopes = map(jax.device_put, arrays(place, batch))

    def forward(maps: jax.Array, kernel: jax.Array) -> jax.Array:
        return convolve(
            maps, kernel, stride=layer.stride, padding=layer.padding, groups=layer.groups
        )

    alone = compilation.jit(forward)
    of_maps = compilation.jit(lambda x, k, y: jax.vjp(lambda x: forward(x, k), x)[1](y))
    of_kernel = compilation.jit(lambda x, k, y: jax.vjp(lambda k: forward(x, k), k)[1](y))
    calls = (
        lambda: alone(maps, kernel),
        lambda: of_maps(maps, kernel, slopes),
        lambda: of_kernel(maps, kernel, slopes),
    )
    waiting = [lambda call=call: jax.block_until_ready(call()) for call in calls]
    return dict(zip(WHAT, waiting, strict=True))


def theirs(place: Place, batch: int) -> dict[str, Callable[[], Any]]:
    """Return functions that each run one of PyTorch's passes and wait for it."""
    import torch

    from experiments import torch_peer

    device = torch_peer.use_device(cores())
    layer = place.layer
    drawn, *others = arrays(place, batch)
    padding, after = layer.padding
    if padding != after:  # PyTorch pads both sides alike
        drawn = np.pad(drawn, ((0, 0), layer.padding, layer.padding, (0, 0)))
        padding = 0
    maps, kernel, slopes = (torch.tensor(array, device=device) for array in (drawn, *others))
    # Views as [N, C, H, W] whose channels are last in memory.
    x, y = maps.permute(0, 3, 1, 2), slopes.permute(0, 3, 1, 2)
    w = kernel.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)

    def backward(*wanted: bool) -> Any:
        sides = [[layer.stride] * 2, [padding] * 2, [1, 1], False, [0, 0], layer.groups]
        return torch.ops.aten.convolution_backward(y, x, w, None, *sides, wanted)

    calls = (
        lambda: torch.conv2d(x, w, None, layer.stride, padding, 1, layer.groups),
        lambda: backward(True, False, False),
        lambda: backward(False, True, False),
    )

    def done(found: Any) -> Any:
        torch_peer.wait(device)
        return found

    waiting = [lambda call=call: done(call()) for call in calls]
    return dict(zip(WHAT, waiting, strict=True))


def timed(call: Callable[[], Any]) -> timing.Run:
    """Return a function that repeats a call; see `timing.Run`."""

    def run(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            call()
        return (time.perf_counter() - start) / steps

    return run


def rates(place: Place, batch: int, *, rounds: int, steps: int) -> dict[str, float]:
    """Return the GFLOP/s of each pass of each side, by "pass, side"."""
    first = place.input[2] == 3
    contenders = {
        f"{what}, {side}": timed(call)
        for side, calls in (("ours", ours(place, batch)), ("torch", theirs(place, batch)))
        for what, call in calls.items()
        if not (first and what == "input's gradient")
    }
    seconds = timing.alternate(contenders, rounds=rounds, steps=steps)
    work = batch * summary.FLOPS_OF_A_MAC * place.row.macs / 1e9
    return {key: work / timing.spread(values).median for key, values in seconds.items()}


def main(_: Sequence[str]) -> None:
    """Time every convolution of the config's network, and print the table."""
    require_torch()
    config = recipe.stages(CONFIG.value)[-1].config
    check_config(config)
    batch = BATCH.value or config.train.batch_size
    rows = []
    for place in places(create_model(config, num_classes=1000)):
        found = rates(place, batch, rounds=ROUNDS.value, steps=STEPS.value)
        cells = []
        for what in WHAT:
            pair = [found.get(f"{what}, {side}") for side in ("ours", "torch")]
            cells.append(", ".join(f"{rate:.0f}" for rate in pair if rate is not None) or "-")
        rows.append((place.layer.name, "x".join(map(str, place.input)), *cells))
    print(f"{config.model.name}, batches of {batch}; GFLOP/s: ours, PyTorch's\n")
    print(tables.table(("layer", "input", *WHAT), rows))


if __name__ == "__main__":
    CONFIG = config_flags.DEFINE_config_file("config", None, "The config file.")
    BATCH = flags.DEFINE_integer(
        "batch", None, "Images per batch; by default the config's.", lower_bound=1
    )
    ROUNDS = flags.DEFINE_integer("rounds", 5, "Number of timed rounds.", lower_bound=1)
    STEPS = flags.DEFINE_integer("steps", 2, "Runs of each pass per round.", lower_bound=1)
    flags.mark_flag_as_required("config")
    command_line.run(main)
