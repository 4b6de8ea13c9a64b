"""AlexNet and VGG, exactly as in their papers, in JAX."""

import os
import typing

if typing.TYPE_CHECKING:
    from deepconv.inference.model import Model

__all__ = ["__version__", "load_model", "load_weights"]

__version__ = "0.1.0"


def load_model(path: str | os.PathLike[str]) -> "Model":
    """Load a network from a run's folder or from a weights file, ours or another framework's.

        model = deepconv.load_model("vgg16.safetensors")
        model.predict(["cat.jpg"])[0].best  # (("tabby", 0.71), ...)
        scores = model.network.apply({"params": model.params}, model.preprocess(["cat.jpg"]))

    Args:
      path: the run's folder, the file, or, on the Hugging Face hub,
        `hf:owner/name[@revision][/file]`.

    Returns:
      The network, its parameters float32 on the first device, and everything needed to apply it.

    Raises:
      UserError: if the path is neither, or its contents are damaged.
    """
    # Nothing else here needs jax, and every command imports this module.
    from deepconv.inference import model
    from deepconv.run import hub

    return model.open_model(hub.located(os.fspath(path)))


load_weights = load_model
