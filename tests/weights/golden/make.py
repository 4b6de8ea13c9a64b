"""Make the golden files: narrow nets saved by real PyTorch, and what it computes with them.

python -m tests.weights.golden.make
"""

from pathlib import Path

import numpy as np
import torch

from tests.weights import torch_nets

# name: (width, side of fc6, crop, the older format?)
NETS = {"vgg11": (1 / 64, 1, 32, False), "alexnet": (1 / 64, 2, 96, True)}


def main():
    folder = Path(__file__).parent
    for name, (width, side, crop, old) in NETS.items():
        net = torch_nets.create(name, width=width, side=side, classes=5, seed=3)
        torch.save(net.state_dict(), folder / f"{name}.pth", _use_new_zipfile_serialization=not old)
        pixels = np.random.default_rng(0).integers(0, 256, (1, crop, crop, 3), np.uint8)
        outputs = torch_nets.activations(net, pixels)
        assert all((value != 0).any() for value in outputs.values())
        np.savez_compressed(folder / f"{name}.npz", pixels=pixels, **outputs)


if __name__ == "__main__":
    main()
