"""Small pictures of classes that any network can tell apart, for the tests of transfer."""

import numpy as np
import PIL.Image


def draw_classes(folder, names, count, seed=0):
    """Write `count` pictures of each class, each class with a color of its own and noise."""
    rng = np.random.default_rng(seed)
    colors = np.random.default_rng(5).integers(0, 256, (len(names), 3))
    for name, color in zip(names, colors, strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            noise = rng.normal(0, 15, (32, 32 + 8 * (number % 2), 3))
            pixels = np.clip(color + noise, 0, 255).astype(np.uint8)
            PIL.Image.fromarray(pixels).save(folder / name / f"{number}.png")
