"""Convert the tensors of these networks from other frameworks' names and layouts to ours.

    converted = convert(source)
    converted.params["conv1_1"]["kernel"]  # [3, 3, 3, 64], for pixels in 0..255 minus the mean

Tensors are matched by name, never by order. A network that normalizes its pixels, x = (p / 255 - m)
/ s, pads with zeros afterwards; ours pads p - 255 m, which is zero exactly where x is. So 1 / (255
s) is folded into the first kernel, its bias is unchanged, and every activation is the same,
including at the borders.

Batch normalization at test time, g (x - m) / sqrt(v + e) + b, is linear in the convolution's
output x, and is folded into its kernel and bias.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from deepconv import models
from deepconv.data.color import IMAGENET
from deepconv.exceptions import UserError
from deepconv.models import Network
from deepconv.models.layers import Conv, Dropout, Layer, map_size
from deepconv.weights.source import Source

Params = dict[str, dict[str, np.ndarray]]

# ImageNet's mean and deviation for pixels in 0..1, used by torchvision and timm.
TORCH_MEAN = 255 * np.array([0.485, 0.456, 0.406])
TORCH_STD = 255 * np.array([0.229, 0.224, 0.225])
# The mean over the pixels of bvlc_alexnet's mean image.
_BVLC_MEAN = np.array([122.67891434, 116.66876762, 104.00698793])


def convolutions(network: Network) -> list[Conv]:
    """Return the layers that have parameters, in order."""
    return [layer for layer in network.layers if isinstance(layer, Conv)]


def _torchvision(network: Network, *, normalized: bool = False) -> dict[str, str]:
    # A Sequential numbers all its modules, which correspond one to one to our layers, except that
    # a batch normalization may follow each convolution.
    names, head = {}, False
    number = 0
    for layer in network.layers:
        begins_head = isinstance(layer, Dropout) or (
            isinstance(layer, Conv) and layer.fully_connected
        )
        if begins_head and not head:
            head, number = True, 0
        if isinstance(layer, Conv):
            names[layer.name] = f"{'classifier' if head else 'features'}.{number}"
        number += 2 if normalized and isinstance(layer, Conv) and not head else 1
    return names


def _timm(network: Network, *, normalized: bool = False) -> dict[str, str]:
    head = {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "fc8": "head.fc"}
    return {**_torchvision(network, normalized=normalized), **head}


def _after(name: str) -> str:
    """Return the name of the module after `features.3`: `features.4`."""
    sequence, _, number = name.rpartition(".")
    return f"{sequence}.{int(number) + 1}"


def _same(network: Network) -> dict[str, str]:
    return {layer.name: layer.name for layer in convolutions(network)}


def _keras(network: Network) -> dict[str, str]:
    head = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
    return {
        layer.name: head.get(layer.name, layer.name.replace("conv", "block").replace("_", "_conv"))
        for layer in convolutions(network)
    }


class Dialect(NamedTuple):
    """How a framework writes these networks.

    Attributes:
      networks: its names of the networks, by our names.
      names: from a network to `{our layer: its layer}`.
      parts: its names for the kernel and the bias of `{layer}`.
      channels_first: whether kernels are `[O, I, H, W]` and fc6's inputs in the order C, H, W;
        otherwise `[H, W, I, O]`, and H, W, C.
      units_first: whether the weights of fully connected layers are `[O, I]`.
      bgr: whether the first kernel expects BGR.
      mean: RGB, 0..255, unless a file has its own.
      std: RGB, in gray levels.
      means: means of networks with a different one, by our names.
      options: options of `models.create` that are not the defaults, by our names.
      normalized: `names` of the networks with batch normalization after each convolution.
    """

    networks: Mapping[str, str]
    names: Callable[[Network], dict[str, str]]
    parts: tuple[str, str]
    channels_first: bool
    units_first: bool
    bgr: bool
    mean: np.ndarray
    std: np.ndarray
    means: Mapping[str, np.ndarray] = {}
    options: Mapping[str, Mapping[str, Any]] = {}
    normalized: Callable[[Network], dict[str, str]] | None = None


_VGG_16_19 = {"vgg_d": "vgg16", "vgg_e": "vgg19"}
_TORCH_VGG = {"vgg_a": "vgg11", "vgg_b": "vgg13", **_VGG_16_19}

_OF_TORCHVISION = Dialect(
    {"alexnet_owt": "alexnet", **_TORCH_VGG},
    _torchvision,
    ("{}.weight", "{}.bias"),
    channels_first=True,
    units_first=True,
    bgr=False,
    mean=TORCH_MEAN,
    std=TORCH_STD,
    normalized=functools.partial(_torchvision, normalized=True),
)
_OF_CAFFE = Dialect(
    {"alexnet": "bvlc_alexnet", "vgg_d": "VGG_ILSVRC_16_layers", "vgg_e": "VGG_ILSVRC_19_layers"},
    _same,
    ("{}/weight", "{}/bias"),
    channels_first=True,
    units_first=True,
    bgr=True,
    mean=IMAGENET.mean_rgb,
    std=np.ones(3),
    means={"alexnet": _BVLC_MEAN},
    options={"alexnet": {"lrn": "caffe"}},
)
_OF_KERAS = _OF_CAFFE._replace(
    networks=_VGG_16_19,
    names=_keras,
    parts=("{}/kernel", "{}/bias"),
    channels_first=False,
    units_first=False,
)
_OF_MATCONVNET = _OF_CAFFE._replace(
    networks={
        "alexnet": "imagenet-caffe-alex",
        "vgg_d": "imagenet-vgg-verydeep-16",
        "vgg_e": "imagenet-vgg-verydeep-19",
    },
    parts=("{}/filters", "{}/biases"),
    channels_first=False,
    units_first=False,
    bgr=False,
)
DIALECTS: dict[str, Dialect] = {
    "torchvision": _OF_TORCHVISION,
    "timm": _OF_TORCHVISION._replace(
        networks=_TORCH_VGG, names=_timm, normalized=functools.partial(_timm, normalized=True)
    ),
    "caffe": _OF_CAFFE,
    "keras": _OF_KERAS,
    "keras_channels_first": _OF_KERAS._replace(channels_first=True),
    "matconvnet": _OF_MATCONVNET,
}
# What the first kernel of a PyTorch file may expect: torchvision's pixels, or, in a file that was
# converted from Caffe, BGR in 0..255 minus the mean.
PIXELS: dict[str, dict[str, Any]] = {
    "torchvision": {},
    "caffe": {"bgr": True, "mean": IMAGENET.mean_rgb, "std": np.ones(3)},
}
# What a batch normalization has, in this order, and PyTorch's epsilon, which no file holds.
_NORMALIZATION = ("weight", "bias", "running_mean", "running_var")
_EPSILON = 1e-5
# The filters of networks trained on normalized pixels have norms around sqrt(2), where He's
# initialization begins; those of Caffe's, trained on gray levels, have smaller ones.
_SMALL_FILTERS = 0.7


class Row(NamedTuple):
    """What was done with a tensor."""

    there: str
    shape_there: str
    here: str
    shape_here: str
    done: str


class Converted(NamedTuple):
    """A converted network.

    Attributes:
      network: a key of `models.NETWORKS`.
      options: options of `models.create`, including `crop`.
      classes: number of classes.
      params: float32 `{layer: {"kernel": [K, K, C, F], "bias": [F]}}`.
      mean_rgb: `[3]`, 0..255, to subtract from pixels.
      rows: a row for every tensor.
      folded: whether batch normalization was folded into the convolutions.
    """

    network: str
    options: dict[str, Any]
    classes: int
    params: Params
    mean_rgb: np.ndarray
    rows: list[Row]
    folded: bool = False

    def create(self) -> Network:
        """Create the network without parameters."""
        return models.create(self.network, self.classes, **self.options)


def convert(source: Source) -> Converted:
    """Convert all tensors of a source; none may be missing or left over.

    Raises:
      UserError: if they do not match a network of the dialect; the message names the first
        mismatch.
    """
    dialect = dialect_of(source)
    name, names = _recognize(source, dialect)
    arrays = {
        layer: tuple(map(source.tensors.__getitem__, parts)) for layer, parts in names.items()
    }
    found = _options(name, arrays, dialect.networks[name], source.crop)
    options = {**found, **dialect.options.get(name, {})}
    classes = arrays["fc8"][1].size
    network = models.create(name, classes, **options)
    mean = dialect.means.get(name, dialect.mean) if source.mean_rgb is None else source.mean_rgb

    params: Params = {}
    rows = []
    factors = _dropout_factors(network.layers)
    shapes = kernel_shapes(network)
    for index, layer in enumerate(convolutions(network)):
        their_kernel, *vectors = arrays[layer.name]
        for there, vector in zip(names[layer.name][1:], vectors, strict=True):
            if vector.shape != (layer.features,):
                raise _wrong_shape(there, vector.shape, (layer.features,), name)
        kernel, done = _kernel(their_kernel, shapes[layer.name], layer, source)
        if kernel is None:
            wanted = _described(shapes[layer.name], layer, dialect)
            raise _wrong_shape(names[layer.name][0], their_kernel.shape, wanted, name)
        their_bias, *normalization = vectors
        if normalization:
            kernel, their_bias = _folded(kernel, their_bias, *normalization)
            done.append("batch normalization folded")
        if index == 0:
            if dialect.bgr:
                kernel = kernel[:, :, ::-1]
                done.append("BGR to RGB")
            if (dialect.std != 1).any():
                kernel = kernel / dialect.std[:, None]
                done.append("divided by 255 * std")
        if layer.name in factors:
            kernel = kernel * factors[layer.name]
            done.append(f"times {factors[layer.name]:g} for dropout at test time")
        params[layer.name] = {
            "kernel": np.ascontiguousarray(kernel, np.float32),
            "bias": np.ascontiguousarray(their_bias, np.float32),
        }
        if not all(np.isfinite(part).all() for part in params[layer.name].values()):
            raise UserError(f"{names[layer.name][0]} or its bias contains NaN or infinity")
        folded = "batch normalization folded"
        parts = ("kernel", "bias", *["bias"] * len(normalization))
        words = (
            ", ".join(done) or "unchanged",
            folded if normalization else "unchanged",
            *["folded into the convolution"] * len(normalization),
        )
        for part, there, word in zip(parts, names[layer.name], words, strict=True):
            rows.append(
                Row(
                    there,
                    _by(source.tensors[there].shape),
                    f"{layer.name}/{part}",
                    _by(params[layer.name][part].shape),
                    word,
                )
            )
    folded_any = any(len(parts) > 2 for parts in names.values())
    return Converted(name, options, classes, params, np.asarray(mean, np.float64), rows, folded_any)


def dialect_of(source: Source) -> Dialect:
    """Return how a source is written, with the pixels that it says.

    Raises:
      UserError: if it says pixels, and its dialect leaves no choice.
    """
    dialect = DIALECTS[source.dialect]
    if source.pixels is None:
        return dialect
    if dialect.normalized is None:
        raise UserError(
            f"--pixels is for PyTorch's files; those of {source.dialect} have no choice"
        )
    return dialect._replace(**PIXELS[source.pixels])


def describe_pixels(source: Source) -> str:
    """Return in one line which pixels the first kernel of a file is taken to expect."""
    dialect = dialect_of(source)
    formula = "p - mean" if (dialect.std == 1).all() else "(p / 255 - mean) / std"
    text = f"pixels: {'BGR' if dialect.bgr else 'RGB'}, {formula}"
    if dialect.normalized is None or source.pixels == "caffe":
        return text
    return f"{text}, as in torchvision; for a file converted from Caffe, use --pixels=caffe"


def doubt(source: Source, converted: Converted) -> str | None:
    """Return why a PyTorch file may expect other pixels than were assumed, or None.

    Names and shapes do not tell. The median norm of the first kernel's filters is a sign: small
    filters expect large pixels. It is no proof.

    Args:
      source: the file.
      converted: its network.
    """
    # A mean is in the files that we export, whose pixels are known; batch normalization makes the
    # norms of the filters in front of it arbitrary.
    known = source.mean_rgb is not None or converted.folded
    if DIALECTS[source.dialect].normalized is None or known:
        return None
    kernel = converted.params[convolutions(converted.create())[0].name]["kernel"]
    if source.pixels != "caffe":
        kernel = kernel * TORCH_STD[:, None]
    norm = float(np.median(np.sqrt((kernel**2).sum(axis=(0, 1, 2)))))
    if source.pixels == "caffe" and norm > _SMALL_FILTERS:
        return (
            f"the first filters are as large as those for normalized pixels (median norm "
            f"{norm:.2g}): if the file was not converted from Caffe, use --pixels=torchvision"
        )
    if source.pixels != "caffe" and norm < _SMALL_FILTERS:
        return (
            f"the first filters are small for normalized pixels (median norm {norm:.2g}): if the "
            "file was converted from Caffe, import it with deepconv weights import --pixels=caffe"
        )
    return None


def _folded(
    kernel: np.ndarray, bias: np.ndarray, *normalization: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the kernel `[K, K, C, F]` and bias of a convolution and its normalization, float64."""
    gain, shift, mean, variance = (array.astype(np.float64) for array in normalization)
    with np.errstate(invalid="ignore"):  # a negative variance becomes NaN, which is refused
        factor = gain / np.sqrt(variance + _EPSILON)
    return kernel * factor, (bias - mean) * factor + shift


def kernel_shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Return the shapes `[K, K, C, F]` of a network's kernels, by layer."""
    crop = jax.ShapeDtypeStruct((1, network.crop, network.crop, 3), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), crop)["params"]
    return {layer: tuple(parts["kernel"].shape) for layer, parts in params.items()}


def _recognize(source: Source, dialect: Dialect) -> tuple[str, dict[str, tuple[str, ...]]]:
    """Return the network with these tensor names, and `{our layer: names of its tensors}`.

    They are the kernel, the bias and, after it, what a batch normalization has.
    """
    known = {
        (name, theirs): _tensors(models.create(name), dialect, normalized)
        for normalized in ((False, True) if dialect.normalized else (False,))
        for name in dialect.networks
        if (theirs := _theirs(name, dialect, normalized)) is not None
    }
    found = {name for name in source.tensors if not name.endswith(".num_batches_tracked")}
    wanted = {
        key: {part for parts in names.values() for part in parts} for key, names in known.items()
    }
    name, theirs = key = min(wanted, key=lambda each: len(wanted[each] ^ found))
    missing, extra = wanted[key] - found, found - wanted[key]
    if len(missing) > len(wanted[key]) // 2:
        raise UserError(
            f"unknown network, with tensors {_few(list(source.tensors))}; known networks of "
            f"{source.dialect}: {', '.join(theirs for _, theirs in known)}"
        )
    if missing:
        raise UserError(f"tensors of {theirs} are missing: {_few(sorted(missing))}")
    if extra:
        raise UserError(
            f"{_few(sorted(extra))}: not part of {theirs}, the most similar known network"
        )
    return name, known[key]


def _theirs(name: str, dialect: Dialect, normalized: bool) -> str | None:
    """Return a framework's name of a network; None if there is none with normalization."""
    theirs = dialect.networks[name]
    if not normalized:
        return theirs
    return f"{theirs}_bn" if name.startswith("vgg") else None


def _tensors(network: Network, dialect: Dialect, normalized: bool) -> dict[str, tuple[str, ...]]:
    names = dialect.names if not normalized or dialect.normalized is None else dialect.normalized
    theirs = names(network)
    found = {}
    for layer in convolutions(network):
        there = theirs[layer.name]
        found[layer.name] = tuple(part.format(there) for part in dialect.parts)
        if normalized and not layer.fully_connected:
            found[layer.name] += tuple(f"{_after(there)}.{part}" for part in _NORMALIZATION)
    return found


def _options(
    name: str, arrays: Mapping[str, tuple[np.ndarray, ...]], theirs: str, crop: int | None
) -> dict[str, Any]:
    """Determine the width of the network and the crop size: `crop`, or one that fc6 fits."""
    full = models.create(name)
    first, *_, last = [layer for layer in convolutions(full) if not layer.fully_connected]
    width = arrays[first.name][1].size / first.features
    kernel, bias = arrays["fc6"]
    side = math.isqrt(kernel.size // (bias.size * arrays[last.name][1].size))
    trunk = full.layers[: full.layers.index(_fc6(full))]
    # The other frameworks do not pad conv1. Ours pads the right and bottom edges, which makes no
    # difference for crops with remainder 3 modulo 4, such as 227.
    likely = (227, *range(35, 512, 4)) if name == "alexnet" else (224, *range(32, 512))
    for each in likely if crop is None else (crop,):
        try:
            if map_size(trunk, each) == side:
                return {"crop": each} if width == 1 else {"crop": each, "width": width}
        except ValueError:
            continue
    sizes = (
        f"match no crop size of {theirs}"
        if crop is None
        else f"do not match crops of {crop} pixels"
    )
    raise UserError(f"fc6 has weights {_by(kernel.shape)}, which {sizes}")


def _fc6(network: Network) -> Layer:
    return next(layer for layer in network.layers if layer.name == "fc6")


def _kernel(
    array: np.ndarray, shape: tuple[int, ...], layer: Conv, source: Source
) -> tuple[np.ndarray | None, list[str]]:
    """Return a kernel as `[K, K, C, F]` and what was done to it; None if its shape is wrong."""
    dialect = DIALECTS[source.dialect]
    side, _, channels, features = shape
    inputs = side * side * channels
    done = []
    if not dialect.channels_first:
        # Axes of length one may have been dropped by Matlab.
        found = _without_ones(array.shape)
        if layer.fully_connected and found == _without_ones((inputs, features)):
            done += ["unflattened from HWC"] if side > 1 else []
        elif found != _without_ones(shape):
            return None, []
        kernel = array.reshape(shape)
    else:
        if layer.fully_connected and not dialect.units_first:
            array = array.T
            done.append("transposed")
        theirs = (features, channels, side, side)
        if layer.fully_connected and array.shape == (features, inputs):
            done += ["unflattened from CHW"] if side > 1 else []
        elif array.shape != theirs:
            return None, []
        kernel = array.reshape(theirs).transpose(2, 3, 1, 0)
        done.append("OIHW to HWIO")
    if source.flipped and not layer.fully_connected:
        kernel = kernel[::-1, ::-1]
        done.append("rotated by 180 degrees")
    return kernel, done


def _dropout_factors(layers: tuple[Layer, ...]) -> dict[str, float]:
    """Return the factors of the kernels that follow dropout.

    AlexNet's dropout multiplies by 1 - rate at test time; all these frameworks divide by it in
    training instead.
    """
    factors, pending = {}, 1.0
    for layer in layers:
        if isinstance(layer, Dropout) and layer.scale_at == "test":
            pending /= 1 - layer.rate
        if isinstance(layer, Conv):
            if pending != 1:
                factors[layer.name] = pending
            pending = 1.0
    return factors


def to_torchvision(network: str, layers: Network, params: Params) -> dict[str, np.ndarray]:
    """Convert parameters to torchvision's names and layout, the reverse of `convert`.

    The first kernel is multiplied by 255 * std, so that it expects pixels normalized with
    torchvision's deviations and the mean of these parameters.

    Args:
      network: a key of `models.NETWORKS`.
      layers: the network.
      params: its parameters.

    Raises:
      UserError: if torchvision has no such network.
    """
    dialect = DIALECTS["torchvision"]
    if network not in dialect.networks:
        raise UserError(
            f"torchvision has no equivalent of {network}, only of {', '.join(dialect.networks)}"
        )
    names = dialect.names(models.create(network))
    tensors = {}
    for index, layer in enumerate(convolutions(layers)):
        kernel = np.asarray(params[layer.name]["kernel"])
        if index == 0:
            kernel = (kernel * TORCH_STD[:, None]).astype(np.float32)
        there = kernel.transpose(3, 2, 0, 1)
        if layer.fully_connected:
            there = there.reshape(len(there), -1)
        tensors[f"{names[layer.name]}.weight"] = there
        tensors[f"{names[layer.name]}.bias"] = np.asarray(params[layer.name]["bias"])
    return tensors


def _wrong_shape(
    there: str, found: tuple[int, ...], wanted: tuple[int, ...], network: str
) -> UserError:
    return UserError(f"{there} is {_by(found)}, but a {network} like this has {_by(wanted)}")


def _described(shape: tuple[int, ...], layer: Conv, dialect: Dialect) -> tuple[int, ...]:
    side, _, channels, features = shape
    if layer.fully_connected:
        inputs = side * side * channels
        return (features, inputs) if dialect.units_first else (inputs, features)
    return (features, channels, side, side) if dialect.channels_first else shape


def _without_ones(shape: tuple[int, ...]) -> list[int]:
    return [length for length in shape if length > 1]


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _few(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
