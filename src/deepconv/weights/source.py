"""What a file of another framework holds, before anything is converted."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Source(NamedTuple):
    """Tensors by their names there, and the pixels that the network expects.

    Attributes:
      dialect: a key of `conversion.DIALECTS`.
      tensors: by name.
      mean_rgb: `[3]`, 0..255, if the file states one; None: the framework's.
      mean_image: `[S, S, 3]` RGB, 0..255, of the crop or of the square it is cut from, if any.
      class_names: of the outputs, in order, if the file states them.
      flipped: whether kernels are stored for true convolution, turned by 180 degrees.
    """

    dialect: str
    tensors: Mapping[str, np.ndarray]
    mean_rgb: np.ndarray | None = None
    mean_image: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None
    flipped: bool = False
