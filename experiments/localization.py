"""VGG's Tables 8 and 9 in small: which boxes, which layers, how many places and scales.

    python -m experiments.localization --datasets=shapes --workdir=runs/localization --seeds=3
    python -m experiments.localization --datasets=shapes,voc:/data/VOCdevkit/VOC2007

A proxy for two cores: a net A an eighth as wide, with crops of 64 pixels from images of S = 112, is
trained to classify each data set; from it, networks for boxes are trained with one box (SCR) and
with one for each class (PCR), the fully connected layers alone or all of them. Each seed draws the
weights, the order and the crops of all of its networks, so differences are paired.

Two baselines need no network for boxes: the mean box of the training set, and the box of the
classifier's Grad-CAM (the part of the picture above a fifth of its maximum that contains it).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.ndimage
from absl import flags
from ml_collections import ConfigDict

from configs import quickstart
from deepconv import boxes as geometry
from deepconv.commands import command_line
from deepconv.config.recipe import ALL_BUT_FC8, EVERYTHING, FULLY_CONNECTED
from deepconv.data import decode
from deepconv.data.decode import Crop
from deepconv.data.pipeline import Geometry
from deepconv.data.sources import datasets
from deepconv.inference.activations import cut
from deepconv.inference.model import Model, open_model
from deepconv.localization import find, merging, windows
from deepconv.localization.evaluate import Request, evaluate
from deepconv.localization.report import report_given_class
from deepconv.visualize import saliency
from experiments import comparison
from experiments.comparison import Condition

# In the proportion of the paper's 224 to 384; the paper's second scale is 352.
CROP, SCALE = 64, 112
DENSE = {"one scale": (112,), "two scales": (103, 112)}
# Images that a network sees, in all its epochs together: a smaller set is seen more often.
IMAGES = {"classes": 60_000, "boxes": 20_000}
MOST_EPOCHS = 200
# The paper's first learning rate of its networks for boxes.
BOXES_RATE = 0.001
LAST_MAP, CAM_SHARE = "relu5_2", 0.2
CLASSIFIER, BEST = "classifier", "PCR, all layers"
NETWORKS = {
    "SCR, fc6 to fc8": ("single", FULLY_CONNECTED),
    "PCR, fc6 to fc8": ("per_class", FULLY_CONNECTED),
    "SCR, all layers": ("single", EVERYTHING),
    "PCR, all layers": ("per_class", EVERYTHING),
}
PAIRS = (
    ("PCR, all layers: center", "SCR, all layers: center"),
    ("PCR, fc6 to fc8: center", "SCR, fc6 to fc8: center"),
    ("PCR, all layers: center", "PCR, fc6 to fc8: center"),
    ("PCR, all layers: center", "mean box"),
    ("PCR, all layers: center", "Grad-CAM"),
    ("PCR, all layers: dense, one scale", "PCR, all layers: center"),
    ("PCR, all layers: crops at the places of one scale", "PCR, all layers: dense, one scale"),
    ("PCR, all layers: crops at the places of one scale", "PCR, all layers: center"),
    ("PCR, all layers: dense, two scales", "PCR, all layers: dense, one scale"),
)


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set of the experiment.

    Attributes:
      name: as in `config.dataset.name`.
      train_split: its split to train on.
      eval_split: its split to evaluate on.
    """

    name: str
    train_split: str
    eval_split: str

    @property
    def label(self) -> str:
        """What to call it in tables and folders."""
        return Path(self.name.rpartition(":")[2]).name


def data_of(text: str) -> Data:
    """Return a data set from `NAME`, or from `NAME@TRAIN_SPLIT@EVAL_SPLIT`."""
    name, *splits = text.split("@")
    train_split, eval_split = splits or ("train", "validation")
    return Data(name, train_split, eval_split)


def config_of(data: Data, images: int, size: int) -> ConfigDict:
    """Return the config of a classifier that sees so many images of a set of this size."""
    config = quickstart.get_config()
    config.model.crop, config.model.width = CROP, 1 / 8
    config.input.scale, config.evaluation.scale = (SCALE, SCALE), SCALE
    config.dataset.update(name=data.name, train_split=data.train_split, eval_split=data.eval_split)
    config.train.batch_size = 32
    config.train.epochs = float(min(MOST_EPOCHS, max(1, round(images / size))))
    config.evaluation.every_epochs = config.train.epochs / 4
    # A plateau would end networks at different lengths.
    config.schedule.name = "cosine"
    return config


def boxes_of(data: Data, size: int, boxes: str, layers: str) -> ConfigDict:
    """Return the config of a network for boxes."""
    config = config_of(data, IMAGES["boxes"], size)
    with config.unlocked():
        config.model.boxes = boxes
    config.optimizer.learning_rate = BOXES_RATE
    # A random fc8 on a fc7 of a classifier gives outputs far from boxes; at the full rate from the
    # first step on, some seeds diverge.
    config.schedule.warmup_epochs = config.train.epochs / 20
    config.optimizer.trained_layers = layers
    config.init.layers = ALL_BUT_FC8
    config.input.color = "inherited"
    return config


def train(data: Data, root: Path, seeds: int) -> dict[str, list[Path]]:
    """Train what is missing; return each network's folders, one per seed."""
    opened = datasets.open_dataset(
        data.name, train_split=data.train_split, eval_split=data.eval_split, boxes=True
    )
    size = len(opened.train)
    conditions = [Condition(CLASSIFIER, config_of(data, IMAGES["classes"], size))]
    conditions += [
        Condition(label, boxes_of(data, size, *what), CLASSIFIER)
        for label, what in NETWORKS.items()
    ]
    return comparison.run(conditions, root, seeds)


def errors_of(data: Data, folders: Mapping[str, Sequence[Path]], seed: int) -> dict[str, float]:
    """Return every condition's localization error of one seed, in percent."""
    classifier = folders[CLASSIFIER][seed]
    errors = {}
    for label in NETWORKS:
        center = evaluate([folders[label][seed]], None, Request("center", (SCALE,))).about
        errors[f"{label}: center"] = center["localization_error"]
    for name, scales in DENSE.items():
        dense = evaluate([folders[BEST][seed]], classifier, Request("dense", scales)).about
        errors[f"{BEST}: dense, {name}, five guesses"] = dense["top5_localization_error"]
        errors[f"classifier: dense, {name}, top-5"] = missed = dense["top5_error"]
        # Where the true class is among the guesses, which is what the center crop is given.
        errors[f"{BEST}: dense, {name}"] = (dense["top5_localization_error"] - missed) / (
            1 - missed
        )
    errors[f"{BEST}: crops at the places of one scale"] = at_crops(
        data, folders[BEST][seed], classifier
    )
    errors |= baselines(data, classifier)
    return {label: 100 * error for label, error in errors.items()}


def at_crops(data: Data, boxes: Path, classifier: Path) -> float:
    """Return the error of the true class's box merged from crops, as a fraction.

    The crops lie where those of the places of the dense map do, but each is seen by itself, with
    zeros beyond its edge as in training; on the whole image the padding is beyond the image's.
    """
    opened = datasets.open_dataset(
        data.name, train_split=data.train_split, eval_split=data.eval_split, boxes=True
    )
    net, names = open_model(boxes), open_model(classifier)
    stride = windows.stride_of(net.network.layers, CROP)
    mean = net.colors.mean_rgb
    apply = jax.jit(lambda crops: (_on(net, crops), jax.nn.softmax(_on(names, crops))))
    labels, true, found = [], [], []
    for record in range(len(opened.evaluation)):
        example = opened.evaluation[record]
        labels.append(int(example["label"]))
        true.append(np.asarray(example["boxes"]))
        pixels, _ = decode.load_crop(
            example["image"], lambda height, width: decode.whole(height, width, SCALE)
        )
        height, width = pixels.shape[:2]
        corners = np.array(
            [
                (top, left)
                for top in range(0, height - CROP + 1, stride)
                for left in range(0, width - CROP + 1, stride)
            ]
        )
        crops = [pixels[top : top + CROP, left : left + CROP] for top, left in corners]
        # A few sizes of batches, so that few programs are compiled.
        padded = np.zeros((-(-len(crops) // 8) * 8, CROP, CROP, 3), np.float32)
        padded[: len(crops)] = np.stack(crops) - mean
        codes, posteriors = (np.asarray(x, np.float64)[: len(crops)] for x in apply(padded))
        own = codes.reshape(len(crops), -1, 4)[:, labels[-1]]
        start = np.concatenate([corners[:, ::-1]] * 2, axis=1)
        in_image = (geometry.decode(own) * CROP + start) / ([width, height] * 2)
        merged, sums = merging.merge_boxes(
            in_image, posteriors[:, labels[-1]], threshold=find.MERGE
        )
        found.append(np.clip(merged[sums.argmax()], 0.0, 1.0))
    ids = [str(number) for number in range(len(labels))]
    report = report_given_class(np.array(found), np.array(labels), true, opened.class_names, ids)
    error: float = report["localization_error"]
    return error


def _on(model: Model, crops: jax.Array) -> jax.Array:
    outputs: Any = model.network.apply({"params": model.params}, crops)
    scores: jax.Array = outputs[:, 0, 0]
    return scores


def baselines(data: Data, classifier: Path) -> dict[str, float]:
    """Return the errors of boxes of the true class that no network was trained for."""
    opened = datasets.open_dataset(
        data.name, train_split=data.train_split, eval_split=data.eval_split, boxes=True
    )
    mean = np.mean(
        [opened.train[record]["boxes"][0] for record in range(len(opened.train))], axis=0
    )
    model = open_model(classifier)
    look = saliency.viewer(model)
    stride = windows.stride_of(cut(model.network, [LAST_MAP]).layers, CROP)
    central = Geometry(SCALE, (SCALE, SCALE)).central  # one size for all, compiled once
    labels, true, seen = [], [], []
    for record in range(len(opened.evaluation)):
        example = opened.evaluation[record]
        pixels, window = decode.load_crop(example["image"], central)
        labels.append(int(example["label"]))
        true.append(np.asarray(example["boxes"]))
        seen.append(cam_box(look(pixels, labels[-1]).grad_cam, window, stride))
    arguments = (np.array(labels), true, opened.class_names, [str(n) for n in range(len(labels))])
    always = np.tile(mean, (len(labels), 1))
    return {
        "mean box": report_given_class(always, *arguments)["localization_error"],
        "Grad-CAM": report_given_class(np.array(seen), *arguments)["localization_error"],
    }


def cam_box(values: np.ndarray, window: Crop, stride: int) -> np.ndarray:
    """Return the box of a Grad-CAM, as fractions of the picture.

    Args:
      values: `[h, w]`, at least 0.
      window: the crop that it is of.
      stride: distance of two places, in pixels.
    """
    size = (window.rows, window.columns)
    spread = saliency.spread(values, size, stride=stride, first=[(stride - 1) / 2] * 2)
    parts, _ = scipy.ndimage.label(spread >= CAM_SHARE * spread.max())
    rows, columns = np.nonzero(parts == parts.flat[spread.argmax()])
    corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    found = np.array(corners) + np.array([window.left, window.top] * 2)
    return np.asarray(found / np.array([window.width, window.height] * 2))


def main(_: Sequence[str]) -> None:
    """Run what is missing, evaluate, then write a table for each data set."""
    for text in DATASETS.value:
        data = data_of(text)
        root = Path(WORKDIR.value) / data.label
        folders = train(data, root, SEEDS.value)
        seeds = [errors_of(data, folders, seed) for seed in range(SEEDS.value)]
        rows = [
            (
                label,
                float(np.mean([s[label] for s in seeds])),
                comparison.each([s[label] for s in seeds]),
            )
            for label in seeds[0]
        ]
        note = "\n".join(
            comparison.difference(seeds, *pair) for pair in PAIRS if {*pair} <= {*seeds[0]}
        )
        columns = (f"{data.label}: localization error %", "mean", "each seed")
        comparison.write_table(root, "localization", columns, rows, note=note)


if __name__ == "__main__":
    DATASETS = flags.DEFINE_list(
        "datasets", ["shapes"], "Data sets with boxes, NAME or NAME@TRAIN_SPLIT@EVAL_SPLIT."
    )
    WORKDIR = flags.DEFINE_string("workdir", "runs/localization", "Folder of all the runs.")
    SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds.", lower_bound=1)
    command_line.run(main)
