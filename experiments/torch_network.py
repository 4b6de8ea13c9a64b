"""Build any of our networks in PyTorch from the same layer records, with the same parameters.

network = create(model.layers)
load(network, model.layers, params)
scores = network(images.permute(0, 3, 1, 2))  # [N, C]

It is written as a PyTorch user would write it: PyTorch's convolutions, pooling and normalization,
and matrix products for fully connected layers. It takes crops only, not larger images.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from deepconv.models.layers import LRN, Activation, Conv, Dropout, Layer, LocalConv, Pool, map_size

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "tanh": nn.Tanh,
}


class LocalConvolution(nn.Module):
    """A convolution with a kernel `[h * w, C * K * K, F]` of its own at every position."""

    def __init__(self, layer: LocalConv, channels: int, size: int) -> None:
        super().__init__()
        positions = map_size([layer], size) ** 2
        self.side, self.padding = layer.kernel, layer.padding
        self.weight = nn.Parameter(
            torch.empty(positions, channels * layer.kernel**2, layer.features)
        )
        self.bias = nn.Parameter(torch.empty(positions, layer.features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[N, C, H, W]` to `[N, F, h, w]`."""
        x = functional.pad(x, 2 * self.padding)
        height, width = (length - self.side + 1 for length in x.shape[2:])
        patches = functional.unfold(x, self.side)
        out = torch.einsum("nkp,pkf->npf", patches, self.weight) + self.bias
        return out.transpose(1, 2).reshape(len(x), -1, height, width)


class Normalization(nn.Module):
    """PyTorch's local response normalization, in float32, within each group of channels."""

    def __init__(self, layer: LRN) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[N, C, H, W]` to the same shape."""
        layer = self.layer
        # PyTorch divides alpha by the size of the window.
        parts = [
            functional.local_response_norm(
                part.float(), layer.size, layer.alpha * layer.size, layer.beta, layer.k
            )
            for part in x.chunk(layer.groups, dim=1)
        ]
        return (torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]).to(x.dtype)


class ScaledDropout(nn.Module):
    """AlexNet's dropout: kept units are not scaled; at test time all are multiplied by 1 - rate."""

    def __init__(self, layer: Dropout) -> None:
        super().__init__()
        self.rate = layer.rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same shape."""
        return functional.dropout(x, self.rate, self.training) * (1 - self.rate)


def create(layers: Sequence[Layer], crop: int) -> nn.Sequential:
    """Return the network, `[N, 3, H, W]` to `[N, C]`; its modules have our layers' names.

    Args:
      layers: ours.
      crop: side of the images, in pixels.
    """
    network = nn.Sequential()
    channels, size, flat = 3, crop, False
    for layer in layers:
        if isinstance(layer, Conv) and layer.fully_connected and not flat:
            network.add_module("flatten", nn.Flatten())
            channels, size, flat = channels * size**2, 1, True
        if isinstance(layer, Conv) and not layer.fully_connected and _uneven(layer):
            network.add_module(f"{layer.name}_padding", nn.ZeroPad2d(2 * layer.padding))
        network.add_module(layer.name, _module(layer, channels, size))
        if isinstance(layer, Conv | LocalConv):
            channels = layer.features
        size = 1 if flat else map_size([layer], size)
    return network


def _uneven(layer: Conv) -> bool:
    return layer.padding[0] != layer.padding[1]


def _module(layer: Layer, channels: int, size: int) -> nn.Module:
    match layer:
        case Conv(fully_connected=True):
            return nn.Linear(channels, layer.features)
        case Conv():
            return nn.Conv2d(
                channels,
                layer.features,
                layer.kernel,
                layer.stride,
                padding=0 if _uneven(layer) else layer.padding[0],
                groups=layer.groups,
            )
        case LocalConv():
            return LocalConvolution(layer, channels, size)
        case LRN():
            return Normalization(layer)
        case Pool():
            return nn.MaxPool2d(layer.window, layer.stride, ceil_mode=layer.ceil)
        case Activation():
            return ACTIVATIONS[layer.function]()
        case Dropout(scale_at="train"):
            return nn.Dropout(layer.rate)
        case Dropout():
            return ScaledDropout(layer)


def load(
    network: nn.Module, layers: Sequence[Layer], params: Mapping[str, Mapping[str, Any]]
) -> None:
    """Copy our parameters into the network.

    Args:
      network: see `create`.
      layers: ours.
      params: `{layer: {"kernel": [K, K, C, F], "bias": [F]}}`.
    """
    tensors = {}
    for layer in layers:
        if isinstance(layer, Conv | LocalConv):
            kernel, bias = (np.asarray(params[layer.name][part]) for part in ("kernel", "bias"))
            if isinstance(layer, LocalConv):
                bias = bias.reshape(-1, layer.features)
            tensors[f"{layer.name}.weight"] = torch.tensor(_kernel(layer, kernel))
            tensors[f"{layer.name}.bias"] = torch.tensor(bias)
    network.load_state_dict(tensors)


def _kernel(layer: Conv | LocalConv, kernel: np.ndarray) -> np.ndarray:
    if isinstance(layer, LocalConv):
        # Our patches are ordered row, column, channel; those of `unfold` channel, row, column.
        height, width, _, features = kernel.shape
        patches = kernel.reshape(height * width, layer.kernel**2, -1, features)
        return patches.transpose(0, 2, 1, 3).reshape(height * width, -1, features)
    there = kernel.transpose(3, 2, 0, 1)
    return there.reshape(len(there), -1) if layer.fully_connected else there
