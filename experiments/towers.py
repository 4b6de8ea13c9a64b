"""AlexNet's Figure 3: the kernels of one tower are colorless, those of the other colored.

The color of conv1's kernels in a tower is the share of their energy that is not gray:

    sum |w - mean of w over R, G, B|^2 / sum |w|^2    (2/3 for random kernels)

Two halves of any set of kernels differ in it by chance, so the difference between the towers is
compared with the mean difference between random halves of the same net's kernels. In the control,
one tower, every kernel of conv2 sees all of conv1, and the two halves mean nothing.

Decided before the seeds were run: the net, data and length of `alexnet_parts`, CIFAR-10, whose
pictures are photographs.
"""

from typing import Any

import numpy as np

from deepconv.inference.model import open_model
from experiments import alexnet_parts
from experiments.claim import Claim, Contrast, Run, measured
from experiments.comparison import Condition

RANDOM_HALVES = 1000


def conditions(width: float) -> list[Condition]:
    """Return the net of two towers, and that of one."""
    one = alexnet_parts.base_config(width)
    one.model.towers = 1
    return [
        Condition("two towers", alexnet_parts.base_config(width)),
        Condition("one tower", one),
    ]


def color_shares(kernels: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """Return the share of the energy that is not gray, of sets of kernels.

    Args:
      kernels: `[K, K, 3, F]`.
      halves: bool `[H, F]`, which kernels each set has.

    Returns:
      `[H]`, from 0 (gray) to 1.
    """
    kernels = np.asarray(kernels, np.float64)
    colored = ((kernels - kernels.mean(axis=2, keepdims=True)) ** 2).sum(axis=(0, 1, 2))
    energy = (kernels**2).sum(axis=(0, 1, 2))
    shares: np.ndarray = (halves @ colored) / (halves @ energy)
    return shares


def measure(run: Run) -> dict[str, Any]:
    """Return each tower's share of color, their difference, and that of random halves."""
    kernels = np.asarray(open_model(run.folder).params["conv1"]["kernel"])
    count = kernels.shape[-1]
    first = np.arange(count) < count // 2
    rng = np.random.default_rng(0)
    drawn = np.stack([rng.permutation(first) for _ in range(RANDOM_HALVES)])
    halves = np.concatenate([[first], drawn])
    differences = np.abs(color_shares(kernels, halves) - color_shares(kernels, ~halves))
    towers = color_shares(kernels, np.stack([first, ~first]))
    return {
        "less colored": towers.min(),
        "more colored": towers.max(),
        "difference": differences[0],
        "random halves": differences[1:].mean(),
        "p": (differences[1:] >= differences[0]).mean(),
    }


DIFFERENCE = measured("difference", "difference in the share of color", decimals=3)
RANDOM = measured("random halves", "that of random halves, mean", decimals=3)
CLAIM = Claim(
    name="towers",
    title="Colors of the towers (AlexNet Figure 3)",
    width=1 / 4,
    conditions=conditions,
    contrasts=(
        Contrast(
            "the kernels of one tower are colorless, those of the other colored",
            "in every run",
            "two towers",
            "two towers",
            DIFFERENCE,
            RANDOM,
        ),
        Contrast(
            "the towers differ more than the halves of one tower",
            "-",
            "two towers",
            "one tower",
            DIFFERENCE,
        ),
    ),
    columns=(
        measured("less colored", "share of color of the less colored half", decimals=3),
        measured("more colored", "of the more colored", decimals=3),
        RANDOM,
        measured("p", "random halves that differ as much", decimals=3),
    ),
    measure=measure,
)
