"""Torchvision's AlexNet and VGG in plain torch.nn, under its names; every activation by ours."""

import torch
from torch import nn

# torchvision's own lists of VGG's channels (models/vgg.py); M is a pooling.
CHANNELS = {
    "vgg11": "64 M 128 M 256 256 M 512 512 M 512 512 M",
    "vgg13": "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    "vgg16": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    "vgg19": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}
MEAN = torch.tensor([0.485, 0.456, 0.406])
STD = torch.tensor([0.229, 0.224, 0.225])


class Net(nn.Module):
    def __init__(self, features, classifier):
        super().__init__()
        self.features, self.classifier = nn.Sequential(*features), nn.Sequential(*classifier)

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


def vgg(name, *, width, side, classes, normalized=False):
    features, channels = [], 3
    for word in CHANNELS[name].split():
        if word == "M":
            features.append(nn.MaxPool2d(kernel_size=2, stride=2))
        else:
            out = int(int(word) * width)
            features.append(nn.Conv2d(channels, out, 3, padding=1))
            features += [nn.BatchNorm2d(out)] if normalized else []
            features.append(nn.ReLU(inplace=False))
            channels = out
    hidden = int(4096 * width)
    return Net(
        features,
        [
            *(nn.Linear(channels * side * side, hidden), nn.ReLU(), nn.Dropout()),
            *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout()),
            nn.Linear(hidden, classes),
        ],
    )


def alexnet(*, width, side, classes):
    c1, c2, c3, c4, c5, hidden = (int(c * width) for c in (64, 192, 384, 256, 256, 4096))
    return Net(
        [
            *(nn.Conv2d(3, c1, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(c1, c2, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(c2, c3, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(c3, c4, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(c4, c5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        ],
        [
            *(nn.Dropout(), nn.Linear(c5 * side * side, hidden), nn.ReLU()),
            *(nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU()),
            nn.Linear(hidden, classes),
        ],
    )


def create(name, *, width, side, classes, seed):
    """Return a net in evaluation mode whose activations neither vanish nor explode."""
    torch.manual_seed(seed)
    if name == "alexnet":
        net = alexnet(width=width, side=side, classes=classes)
    else:
        plain = name.removesuffix("_bn")
        net = vgg(plain, width=width, side=side, classes=classes, normalized=plain != name)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            nn.init.uniform_(module.bias, -0.1, 0.4)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.4)
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.3, 3.0)
    return net.eval()


def activations(net, pixels):
    """Return {our name: the output of every module that computes}, NCHW.

    Args:
      net: the network.
      pixels: uint8 [N, H, W, 3].
    """
    x = (torch.from_numpy(pixels).float() / 255 - MEAN) / STD
    x = x.permute(0, 3, 1, 2)
    found, block, index, fully_connected = {}, 1, 0, 5
    is_alexnet = net.features[0].kernel_size == (11, 11)
    with torch.no_grad():
        for module in net.features:
            x = module(x)
            if isinstance(module, nn.Conv2d):
                index += 1
                label = f"{index}" if is_alexnet else f"{block}_{index}"
                found[f"conv{label}"] = x
            elif isinstance(module, nn.BatchNorm2d):  # ours is part of the convolution
                found[f"conv{label}"] = x
            elif isinstance(module, nn.ReLU):
                found[f"relu{label}"] = x
            else:
                found[f"pool{index if is_alexnet else block}"] = x
                block, index = block + 1, index if is_alexnet else 0
        x = torch.flatten(x, 1)
        for module in net.classifier:
            x = module(x)
            if isinstance(module, nn.Linear):
                fully_connected += 1
                found[f"fc{fully_connected}"] = x[:, :, None, None]
            elif isinstance(module, nn.ReLU):
                found[f"relu{fully_connected}"] = x[:, :, None, None]
    return {name: value.numpy() for name, value in found.items()}
