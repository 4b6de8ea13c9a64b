"""The contents of another framework's file, before conversion."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Source(NamedTuple):
    """Tensors by their original names, and the preprocessing that the network expects.

    Attributes:
      dialect: a key of `conversion.DIALECTS`.
      tensors: tensors by name.
      mean_rgb: `[3]`, 0..255, if the file has one; None for the framework's own.
      mean_image: `[S, S, 3]` RGB, 0..255, of the crop or of the square it is cut from, if any.
      class_names: names of the outputs, in order, if the file has them.
      flipped: whether kernels are stored for true convolution, rotated by 180 degrees.
      pixels: a key of `conversion.PIXELS` if the first kernel expects others than the framework's.
      crop: side of the crops in pixels, if the file says it.
      scale: the shorter side that images are rescaled to, if the file says it.
      left: names of what else is in the file and is not used.
    """

    dialect: str
    tensors: Mapping[str, np.ndarray]
    mean_rgb: np.ndarray | None = None
    mean_image: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None
    flipped: bool = False
    pixels: str | None = None
    crop: int | None = None
    scale: int | None = None
    left: tuple[str, ...] = ()
