"""The networks in float64 numpy as Caffe, Keras and MatConvNet define them, to compare ours with.

Maps are [C, H, W] and kernels [O, I, H, W], as Caffe has them; nothing here is deepconv's.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

VGG11 = (1, 1, 2, 2, 2)
VGG16 = (2, 2, 3, 3, 3)
VGG19 = (2, 2, 4, 4, 4)


def convolve(x, weight, bias, *, pad=0, stride=1, groups=1):
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    side = weight.shape[-1]
    inputs, outputs = len(x) // groups, len(weight) // groups
    found = []
    for group in range(groups):
        part = x[group * inputs : (group + 1) * inputs]
        windows = sliding_window_view(part, (side, side), axis=(1, 2))[:, ::stride, ::stride]
        kernel = weight[group * outputs : (group + 1) * outputs]
        found.append(np.einsum("chwij,ocij->ohw", windows, kernel, optimize=True))
    return np.concatenate(found) + bias[:, None, None]


def pool(x, side, stride):
    windows = sliding_window_view(x, (side, side), axis=(1, 2))[:, ::stride, ::stride]
    return windows.max(axis=(3, 4))


def normalize(x, *, size=5, alpha=1e-4, beta=0.75, k=1.0):
    """Caffe's LRN across channels: alpha is divided by the window."""
    squares = np.pad(x**2, ((size // 2, size // 2), (0, 0), (0, 0)))
    sums = sum(squares[i : i + len(x)] for i in range(size))
    return x / (k + alpha / size * sums) ** beta


def batch_normalize(x, weight, bias, mean, variance, *, epsilon=1e-5):
    """PyTorch's BatchNorm2d in evaluation."""
    columns = (array.astype(np.float64)[:, None, None] for array in (weight, bias, mean, variance))
    weight, bias, mean, variance = columns
    return weight * (x - mean) / np.sqrt(variance + epsilon) + bias


class Trace:
    """Outputs by name, in the order of computation."""

    def __init__(self, tensors, x, normalization=None):
        self.tensors, self.x, self.found = tensors, x, {}
        self.normalization = normalization or {}

    def conv(self, label, **geometry):
        x = convolve(self.x, *self.tensors[f"conv{label}"], **geometry)
        if f"conv{label}" in self.normalization:
            x = batch_normalize(x, *self.normalization[f"conv{label}"])
        self.keep(f"conv{label}", x)
        self.keep(f"relu{label}", np.maximum(self.x, 0))

    def keep(self, name, x):
        self.x = self.found[name] = x

    def head(self, flatten):
        """Compute the fully connected layers, weights [O, I], from a flattened map."""
        x = flatten(self.x)
        for number in (6, 7, 8):
            weight, bias = self.tensors[f"fc{number}"]
            x = weight @ x + bias
            self.found[f"fc{number}"] = x[:, None, None]
            if number < 8:
                x = np.maximum(x, 0)
                self.found[f"relu{number}"] = x[:, None, None]
        return self.found


def vgg(blocks, tensors, x, *, flatten=np.ravel, normalization=None):
    """Run VGG.

    Args:
      blocks: convolutions of each block.
      tensors: {name: (weight, bias)}.
      x: [C, H, W], its mean subtracted.
      flatten: from the last map to the vector that fc6 sees.
      normalization: {name of a convolution: (weight, bias, mean, variance)} behind it.
    """
    trace = Trace(tensors, x, normalization)
    for block, convolutions in enumerate(blocks, start=1):
        for index in range(1, convolutions + 1):
            trace.conv(f"{block}_{index}", pad=1)
        trace.keep(f"pool{block}", pool(trace.x, 2, 2))
    return trace.head(flatten)


def alexnet(tensors, x, *, flatten=np.ravel):
    """Run bvlc_alexnet (models/bvlc_alexnet/deploy.prototxt); see `vgg`."""
    trace = Trace(tensors, x)
    trace.conv("1", stride=4)
    trace.keep("norm1", normalize(trace.x))
    trace.keep("pool1", pool(trace.x, 3, 2))
    trace.conv("2", pad=2, groups=2)
    trace.keep("norm2", normalize(trace.x))
    trace.keep("pool2", pool(trace.x, 3, 2))
    trace.conv("3", pad=1)
    trace.conv("4", pad=1, groups=2)
    trace.conv("5", pad=1, groups=2)
    trace.keep("pool5", pool(trace.x, 3, 2))
    return trace.head(flatten)


def random_vgg(blocks, *, width, side, classes, seed=0):
    """Return {name: (weight, bias)} float32 of a narrow VGG."""
    rng = np.random.default_rng(seed)
    tensors, inputs = {}, 3
    for block, (convolutions, channels) in enumerate(
        zip(blocks, (64, 128, 256, 512, 512), strict=True), start=1
    ):
        for index in range(1, convolutions + 1):
            outputs = int(channels * width)
            tensors[f"conv{block}_{index}"] = random_layer(rng, (outputs, inputs, 3, 3))
            inputs = outputs
    return {**tensors, **random_head(rng, inputs * side**2, int(4096 * width), classes)}


def random_normalization(tensors, *, seed=1):
    """Return {name: (weight, bias, mean, variance)} for the convolutions of `tensors`."""
    rng = np.random.default_rng(seed)
    ranges = ((0.5, 1.5), (-0.2, 0.4), (-0.3, 0.3), (0.3, 3.0))
    return {
        name: tuple(rng.uniform(*each, len(bias)).astype(np.float32) for each in ranges)
        for name, (_, bias) in tensors.items()
        if name.startswith("conv")
    }


def random_alexnet(*, width, side, classes, seed=0):
    """Return {name: (weight, bias)} float32 of a narrow AlexNet of two towers."""
    rng = np.random.default_rng(seed)
    c1, c2, c3, c4, c5 = (int(c * width) for c in (96, 256, 384, 384, 256))
    shapes = ((c1, 3, 11), (c2, c1 // 2, 5), (c3, c2, 3), (c4, c3 // 2, 3), (c5, c4 // 2, 3))
    tensors = {
        f"conv{number}": random_layer(rng, (outputs, inputs, side, side))
        for number, (outputs, inputs, side) in enumerate(shapes, start=1)
    }
    return {**tensors, **random_head(rng, c5 * side**2, int(4096 * width), classes)}


def random_head(rng, inputs, hidden, classes):
    return {
        "fc6": random_layer(rng, (hidden, inputs)),
        "fc7": random_layer(rng, (hidden, hidden)),
        "fc8": random_layer(rng, (classes, hidden)),
    }


def random_layer(rng, shape):
    weight = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    return weight.astype(np.float32), rng.uniform(-0.1, 0.4, shape[0]).astype(np.float32)
