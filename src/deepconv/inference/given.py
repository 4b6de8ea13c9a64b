"""What a network says of the pictures that a program has; the methods of `Model` are these.

crops = preprocess(net, "cat.jpg")  # float32 [1, S, S, 3]
predictions = predict(net, ["cat.jpg", image], protocol="center")
relu7 = features(net, pictures, "relu7")  # float32 [N, 1, 1, 4096]
"""

import os
from collections.abc import Sequence

import jax
import numpy as np

from deepconv import parallel
from deepconv.data import decode
from deepconv.data.pipeline import Geometry
from deepconv.data.sources.given import Given, Picture, open_given
from deepconv.evaluation.protocols import PROTOCOLS
from deepconv.exceptions import UserError
from deepconv.inference import activations
from deepconv.inference import predict as predicting
from deepconv.inference.evaluate import Request
from deepconv.inference.model import Model
from deepconv.inference.predict import Prediction


def preprocess(model: Model, pictures: Picture | Sequence[Picture]) -> np.ndarray:
    """Return the central crops of pictures as the network takes them.

    Args:
      model: the network; images are rescaled to a shorter side of its `config.evaluation.scale`.
      pictures: see `open_given`.

    Returns:
      float32 RGB `[N, S, S, 3]`, S the crop, the mean subtracted.

    Raises:
      UserError: if a picture cannot be read.
    """
    config, source = model.config, open_given(pictures)
    scale = config.evaluation.scale
    geometry = Geometry(model.network.crop, (scale, scale), config.input.square)
    crops = [_central(source, record, geometry) for record in range(len(source))]
    return np.asarray(np.stack(crops) - model.central_mean, np.float32)


def _central(source: Given, record: int, geometry: Geometry) -> np.ndarray:
    try:
        return decode.load_crop(source[record]["image"], geometry.central)[0]
    except decode.UnreadableImageError as error:
        raise _unreadable(source, record, str(error)) from None


def predict(
    model: Model,
    pictures: Picture | Sequence[Picture],
    *,
    protocol: str = "center",
    scales: Sequence[int] = (),
) -> list[Prediction]:
    """Return the five best classes of pictures, as the command of this name.

    Args:
      model: the network.
      pictures: see `open_given`.
      protocol: a key of `protocols.PROTOCOLS`.
      scales: shorter sides Q in pixels; by default the network's own.

    Raises:
      UserError: if a picture cannot be read, or the protocol is unknown or does not fit.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"unknown protocol {protocol!r}; choose from {', '.join(PROTOCOLS)}")
    source = open_given(pictures)
    devices = {
        device
        for leaf in jax.tree.leaves(model.params)
        if isinstance(leaf, jax.Array)
        for device in leaf.devices()
    }
    logs = predicting.log_posteriors(
        model,
        source,
        Request(protocol, tuple(scales)),
        threads=os.cpu_count() or 1,
        mesh=parallel.data_mesh(sorted(devices, key=lambda device: device.id) or jax.devices()[:1]),
    )
    for record in np.flatnonzero(np.isnan(logs).any(axis=1)):
        raise _unreadable(source, int(record), "it is damaged")
    return predicting.best(logs, source.file_names, model.labels)


def features(
    model: Model, pictures: Picture | Sequence[Picture], layers: str | Sequence[str]
) -> np.ndarray | dict[str, np.ndarray]:
    """Return the outputs of layers for the central crops of pictures.

    Args:
      model: the network.
      pictures: see `open_given`.
      layers: the name of a layer, or several; see `deepconv summary`.

    Returns:
      float32 `[N, h, w, C]`, or a dict of such by layer if several names are given.

    Raises:
      UserError: if a picture cannot be read.
      ValueError: if there is no such layer.
    """
    source = open_given(pictures)
    names = [layers] if isinstance(layers, str) else list(layers)
    activations.cut(model.network, names)  # before anything is read
    crops = activations.of_central_crops(model, source, names)
    for record in sorted({*range(len(source))} - {*crops.records.tolist()}):
        raise _unreadable(source, record, "it is damaged, or no image of a known format")
    return crops.outputs[layers] if isinstance(layers, str) else crops.outputs


def _unreadable(source: Given, record: int, reason: str) -> UserError:
    return UserError(f"{source.file_names[record]} cannot be read as a picture: {reason}")
