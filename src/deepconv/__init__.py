"""AlexNet and VGG, exactly as in their papers, in JAX."""

import os
import typing

if typing.TYPE_CHECKING:
    from deepconv.inference.model import Trained

__all__ = ["__version__", "load_weights"]

__version__ = "0.1.0"


def load_weights(path: str | os.PathLike[str]) -> "Trained":
    """Load a network from the folder of a run or from a file of `deepconv weights import`.

        trained = deepconv.load_weights("vgg16.safetensors")
        scores = model.network.apply({"params": model.params}, pixels - model.colors.mean_rgb)

    Args:
      path: of the folder or the file.

    Returns:
      The network, its parameters float32 on the first device, and what it takes to use it.

    Raises:
      UserError: if there is neither, or it is damaged.
    """
    # Nothing else here needs jax, and every command imports this module.
    from pathlib import Path

    from deepconv.inference import model

    return model.load(Path(path))
