"""VGG's appendix B in small: what descriptors of narrow networks are worth on other data sets.

    python -m experiments.transfer --caltech=/data/caltech101 --photos=/data/photographs \
      --cifar10=/data/tfds --voc=/data/VOCdevkit/VOC2007 --workdir=runs/transfer --seeds=3

A proxy for two cores: nets A an eighth as wide, with crops of 64 pixels, are trained to classify
the photographs, CIFAR-10's images, and VOC's with several labels each, for as many updates. Linear
SVMs are fitted on descriptors of Caltech-101, and of VOC by the networks that have not seen its
labels: by the trained networks and by the weights they started from, of every layer, and on the
pixels of pictures so small that they have about as many numbers; by the networks of the photographs
also at several scales, and by two of them.

Each seed draws the weights, the order and the crops of its networks; the splits of Caltech-101 are
the same for all. C is chosen once for each row: by the network of seed 0, on a held-out fifth of
the first split's training images.
"""

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from configs import quickstart
from deepconv import parallel, preprocess
from deepconv.commands import command_line
from deepconv.data import decode
from deepconv.data.decode import Crop
from deepconv.data.pipeline import Source
from deepconv.evaluation import class_means
from deepconv.inference import rows
from deepconv.inference.activations import cut
from deepconv.inference.model import Model, open_model
from deepconv.inference.rows import Store
from deepconv.models import Network
from deepconv.transfer import aggregate, descriptors, linear, splits, svm
from deepconv.transfer.splits import Split
from deepconv.transfer.task import Images, Task, open_task
from experiments import comparison
from experiments.comparison import Condition

CROP = 64
SCALES = SHORTEST, SCALE, LONGEST = 72, 92, 112
LAYERS = ("pool1", "pool2", "pool3", "pool4", "pool5", "relu6", "relu7")
LAST = LAYERS[-1]
EPOCHS = 40.0
# Pictures that each network is trained on, counted as often as it sees them.
PICTURES = EPOCHS * 2400
THREADS = os.cpu_count() or 1

# What networks are trained on; their rows have the same names.
ON = ON_PHOTOGRAPHS, ON_CIFAR10, ON_VOC = "photographs", "CIFAR-10", "VOC"
RANDOM, PIXELS = "random weights", "raw pixels"
SHORT, LONG = f"{ON_PHOTOGRAPHS}, Q={SHORTEST}", f"{ON_PHOTOGRAPHS}, Q={LONGEST}"
STACKED, AVERAGED = (
    f"{ON_PHOTOGRAPHS}, three scales stacked",
    f"{ON_PHOTOGRAPHS}, three scales averaged",
)
TWO = f"{ON_PHOTOGRAPHS}, two networks"
PAIRS = (
    *((name, RANDOM) for name in ON),
    *((name, PIXELS) for name in (*ON, RANDOM)),
    (STACKED, ON_PHOTOGRAPHS),
    (STACKED, LONG),
    (AVERAGED, ON_PHOTOGRAPHS),
    (STACKED, AVERAGED),
    (TWO, ON_PHOTOGRAPHS),
)


class Row(NamedTuple):
    """What was measured of one kind of descriptor.

    Attributes:
      numbers: how many an image has.
      C: of the SVMs.
      seeds: the metric of each split (inner) and seed (outer), in percent; one, if no network is
        involved.
    """

    numbers: int
    C: float
    seeds: list[list[float]]


def config_of(dataset: str, epochs: float) -> ConfigDict:
    """Return the config of a narrow net A that is trained on a data set."""
    config = quickstart.get_config()
    config.model.crop, config.model.width = CROP, 1 / 8
    config.input.scale, config.evaluation.scale = (SHORTEST, LONGEST), SCALE
    config.dataset.name = dataset
    config.train.batch_size = 32
    config.train.epochs = epochs
    config.evaluation.every_epochs = epochs / 4
    config.optimizer.learning_rate = 0.01
    # In a trial, dropout took twice as many epochs to the same error.
    config.model.dropout = 0.0
    # A plateau would end networks at different lengths.
    config.schedule.name = "cosine"
    return config


def conditions_of(photos: str, cifar10: str, voc: str, voc_pictures: int) -> list[Condition]:
    """Return what networks are trained on, each for as many updates.

    Args:
      photos: folder of photographs, of one class each.
      cifar10: folder of prepared data sets that CIFAR-10 is in, or goes to; empty: without it.
      voc: folder of a year of VOC, whose pictures have several labels each; empty: without it.
      voc_pictures: how many pictures of VOC there are to train on.
    """
    found = [Condition(ON_PHOTOGRAPHS, config_of(f"folder:{photos}", EPOCHS))]
    if cifar10:
        config = config_of("cifar10", PICTURES / 50_000)
        config.dataset.data_dir, config.dataset.eval_split = cifar10, "test"
        found.append(Condition(ON_CIFAR10, config))
    if voc:
        config = config_of(f"voc:{voc}", PICTURES / voc_pictures)
        config.dataset.multilabel = True
        # The loss is summed over the 20 classes: with 0.01 one of two networks diverged.
        config.optimizer.learning_rate = 0.002
        config.dataset.train_split, config.dataset.eval_split = "trainval", "test"
        found.append(Condition(ON_VOC, config))
    return found


def with_first_weights(model: Model) -> Model:
    """Return the network with the random weights that its training started from."""
    key = jax.random.key(model.config.seed, impl="rbg")
    image = jnp.zeros((1, model.network.crop, model.network.crop, 3))
    params = model.network.init(key, image)["params"]
    return model._replace(params=jax.device_put(params, parallel.replicated(parallel.data_mesh())))


def of_every_layer(
    network: Network, mean: np.ndarray, params: Any, images: jax.Array, extents: jax.Array
) -> jax.Array:
    """Return the descriptors of all `LAYERS`, one after the other; see `aggregate.of_whole`."""
    return jnp.concatenate(
        [
            aggregate.of_whole(cut(network, [layer]), params, images, extents, mean)
            for layer in LAYERS
        ],
        axis=1,
    )


def layers_of(model: Model, images: Images, scale: int, kept: Path) -> np.ndarray:
    """Return the descriptors of all `LAYERS`, before they are normalized, float32 `[N, D]`.

    Args:
      model: the network.
      images: the pictures.
      scale: the shorter side Q, in pixels.
      kept: folder in which what has been computed is kept.
    """
    mean = preprocess.mean_for(model.colors, model.config.input.mean, square=None)
    shape = (len(images.source), sum(widths(model)))
    origin = {"run": model.digest, "step": model.step, "contents": images.part.digest}
    return rows.compute(
        functools.partial(of_every_layer, model.network, mean),
        model.params,
        images.source,
        images.survey.rescaled(scale),
        Store(kept, origin, shape),
        scale=scale,
        pixels=model.config.evaluation.batch_size * CROP**2,
        mesh=parallel.data_mesh(),
        threads=THREADS,
        description=kept.name,
    )


def widths(model: Model) -> list[int]:
    """Return the channels of each of `LAYERS`."""
    one = descriptors.How((SCALE,))
    return [descriptors.width([model], [layer], one) for layer in LAYERS]


def pixels_of(source: Source, numbers: int, mean: np.ndarray) -> np.ndarray:
    """Return pictures as squares of about so many numbers, float32 `[N, side * side * 3]`.

    Args:
      source: the pictures; each, whole, is scaled to the square.
      numbers: how many numbers are wanted.
      mean: RGB, which is subtracted.
    """
    side = round((numbers / 3) ** 0.5)
    window = Crop(side, side, 0, 0, side, side)
    squares = [
        decode.load_crop(source[record]["image"], lambda *_: window)[0]
        for record in range(len(source))
    ]
    return (np.stack(squares) - mean).reshape(len(squares), -1)


def tables_of(
    task: Task, models: Mapping[str, Sequence[Model]], root: Path
) -> dict[str, list[np.ndarray]]:
    """Describe the pictures of a data set in every way.

    Args:
      task: the data set.
      models: the networks trained on each data set, one per seed; ON_PHOTOGRAPHS among them.
      root: folder in which what has been computed is kept.

    Returns:
      The descriptors by the names of the rows, `[N, D]` of each seed, each of length 1; those that
      no network is involved in once.
    """

    def described(model: Model, name: str, scale: int) -> dict[str, np.ndarray]:
        parts = [
            layers_of(model, images, scale, root / f"{name}_q{scale}_{number}")
            for number, images in enumerate(task.images)
        ]
        ends = np.cumsum(widths(model))[:-1]
        return dict(zip(LAYERS, np.split(np.concatenate(parts), ends, axis=1), strict=True))

    photographs = models[ON_PHOTOGRAPHS]
    found = {
        name: [described(model, f"{name}_seed{seed}", SCALE) for seed, model in enumerate(nets)]
        for name, nets in models.items()
    }
    found[RANDOM] = [
        described(with_first_weights(model), f"random_seed{seed}", SCALE)
        for seed, model in enumerate(photographs)
    ]
    last = [
        {scale: described(model, f"{ON_PHOTOGRAPHS}_seed{seed}", scale)[LAST] for scale in SCALES}
        for seed, model in enumerate(photographs)
    ]
    mean = preprocess.mean_for(photographs[0].colors, "rgb", square=None)
    pixels = [pixels_of(images.source, last[0][SCALE].shape[1], mean) for images in task.images]
    stack, average = aggregate.stack, aggregate.average
    tables = {PIXELS: [stack([np.concatenate(pixels)])]}
    for name, seeds in found.items():
        for layer in LAYERS:
            tables[of_layer(name, layer)] = [stack([layers[layer]]) for layers in seeds]
    tables |= {
        SHORT: [stack([scales[SHORTEST]]) for scales in last],
        LONG: [stack([scales[LONGEST]]) for scales in last],
        AVERAGED: [average([*scales.values()]) for scales in last],
        STACKED: [stack([*scales.values()]) for scales in last],
    }
    if len(last) > 1:
        # Each network with the next one, the last with the first.
        pairs = zip(last, last[1:] + last[:1], strict=True)
        tables[TWO] = [stack([one[SCALE], other[SCALE]]) for one, other in pairs]
    return tables


def of_layer(name: str, layer: str) -> str:
    """Return the name of the row of a layer; the last one has the network's."""
    return name if layer == LAST else f"{name}, {layer}"


def measure(task: Task, tables: Mapping[str, Sequence[np.ndarray]]) -> dict[str, Row]:
    """Fit and test linear SVMs on every kind of descriptor.

    Args:
      task: the data set.
      tables: descriptors of its pictures, `[N, D]`, of each seed.
    """
    targets = np.concatenate([images.targets for images in task.images])
    drawn = splits_of(task)
    rule = task.rule or "11-point"
    found = {}
    for name, seeds in tables.items():
        x, y = seeds[0][drawn[0].train], targets[drawn[0].train]
        C = svm.choose_C(x, y, rule=rule, threads=THREADS).C
        metrics = [[_tested(task, table, targets, split, C) for split in drawn] for table in seeds]
        found[name] = Row(seeds[0].shape[1], C, metrics)
        each = comparison.each(np.ravel(metrics).tolist())
        print(f"{task.column}, {name}: C={C:g}, {each}", flush=True)
    return found


def _tested(task: Task, table: np.ndarray, targets: np.ndarray, split: Split, C: float) -> float:
    """Return the metric of one split, in percent."""
    fitted = svm.fit(table[split.train], targets[split.train], C, threads=THREADS)
    scores = linear.scores(fitted, table[split.test])
    return 100 * metric_of(task, scores, targets[split.test])


def splits_of(task: Task) -> tuple[Split, ...]:
    """Return the splits of all pictures of a data set, drawn or its own."""
    first = task.images[0].survey.image_ids
    if task.test is None:
        rule = splits.CALTECH[task.column]
        return splits.draw(rule, first, task.train.targets.tolist(), seed=0)
    numbers = np.arange(len(first) + len(task.test.source))
    return (Split(numbers[: len(first)], numbers[len(first) :]),)


def metric_of(task: Task, scores: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean class recall or, of several labels, the mean average precision."""
    if task.rule is None:
        predicted = scores.argmax(axis=1)
        return class_means.mean_class_recall(predicted, targets, len(task.class_names)).mean
    return class_means.mean_average_precision(scores, targets, task.rule).mean


def table_of(found: Mapping[str, Row]) -> list[tuple[str | float | None, ...]]:
    """Return a table's rows: the mean over the seeds, its interval, and each seed's mean."""
    lines: list[tuple[str | float | None, ...]] = []
    for name, row in found.items():
        means = of_seeds(row)
        mean, reach = comparison.interval(means)
        lines.append((name, row.numbers, f"{row.C:g}", mean, reach, comparison.each(means)))
    return lines


def figure(found: Mapping[str, Row], ylabel: str) -> Figure:
    """Draw the metric of every layer: a point for each seed, a line for the mean."""
    drawn = Figure(figsize=(8, 5), layout="constrained")
    axes = drawn.subplots()
    ticks = [f"{layer}\n{found[of_layer(RANDOM, layer)].numbers}" for layer in LAYERS]
    for number, name in enumerate(name for name in (*ON, RANDOM) if name in found):
        points = np.array([of_seeds(found[of_layer(name, layer)]) for layer in LAYERS])
        label = name if name == RANDOM else f"trained on {name}"
        axes.plot(ticks, points, ".", color=f"C{number}", alpha=0.5)
        axes.plot(ticks, points.mean(axis=1), color=f"C{number}", label=label)
    axes.axhline(float(np.mean(found[PIXELS].seeds)), color="0.4", linestyle=":", label=PIXELS)
    axes.set(xlabel="layer, and how many numbers an image has", ylabel=ylabel)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    return drawn


def of_seeds(row: Row) -> list[float]:
    """Return the mean over the splits of each seed."""
    return np.mean(row.seeds, axis=1).tolist()


def pairs_of(found: Mapping[str, Row]) -> list[tuple[str, str]]:
    """Return which rows are compared: `PAIRS`, every layer with random weights, the best layers.

    The best layer is the one with the highest mean, on the test images.
    """
    pairs = [pair for pair in PAIRS if {*pair} <= {*found}]
    for name in (each for each in ON if each in found):
        layers = [of_layer(name, layer) for layer in LAYERS]
        pairs += [(of_layer(name, layer), of_layer(RANDOM, layer)) for layer in LAYERS[:-1]]
        best = max(layers, key=lambda row: np.mean(found[row].seeds))
        if best != name:
            pairs += [(best, name), (best, PIXELS)]
    return pairs


def report(task: Task, found: Mapping[str, Row], root: Path) -> None:
    """Write the table and the figure of a data set."""
    metric = "mean class recall" if task.rule is None else f"mean average precision, {task.rule}"
    seeds = len(found[ON_PHOTOGRAPHS].seeds)
    means = [
        {name: float(np.mean(row.seeds[seed % len(row.seeds)])) for name, row in found.items()}
        for seed in range(seeds)
    ]
    note = "\n".join(comparison.difference(means, *pair) for pair in pairs_of(found))
    columns = (f"{metric}, %", "numbers", "C", "mean", "±", "each seed")
    drawn = figure(found, f"{metric}, %")
    comparison.write_table(root, task.column, columns, table_of(found), drawn, note=note)


def main(_: Sequence[str]) -> None:
    """Train what is missing, then measure each data set."""
    root = Path(WORKDIR.value)
    names = [f"caltech101:{CALTECH.value}"] + ([f"voc:{VOC.value}"] if VOC.value else [])
    # Fails on an unusable folder before anything trains.
    tasks = [open_task(name, threads=THREADS) for name in names]
    voc_pictures = len(tasks[-1].train.source)
    conditions = conditions_of(PHOTOS.value, CIFAR10.value, VOC.value, voc_pictures)
    folders = comparison.run(conditions, root, SEEDS.value)
    for label, runs in folders.items():
        metric = "ranking_error" if label == ON_VOC else "top1_error"
        print(f"{label}: {metric} %: {comparison.each(comparison.last_errors(runs, metric))}")
    replicated = parallel.replicated(parallel.data_mesh())
    models = {
        label: [open_model(run, replicated) for run in runs] for label, runs in folders.items()
    }
    for task in tasks:
        # What was trained on VOC has seen its labels.
        used = {name: nets for name, nets in models.items() if not task.rule or name != ON_VOC}
        report(task, measure(task, tables_of(task, used, root / task.column)), root)


if __name__ == "__main__":
    CALTECH = flags.DEFINE_string("caltech", None, "Folder of Caltech-101.", required=True)
    PHOTOS = flags.DEFINE_string(
        "photos",
        None,
        "Folder of pictures to train on, with a subfolder for each class.",
        required=True,
    )
    CIFAR10 = flags.DEFINE_string(
        "cifar10", "", "Folder of prepared data sets, with CIFAR-10; empty: without its networks."
    )
    VOC = flags.DEFINE_string("voc", "", "Folder of VOC, VOC2007; empty: without it.")
    WORKDIR = flags.DEFINE_string("workdir", "runs/transfer", "Folder of all the runs.")
    SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds.", lower_bound=1)
    command_line.run(main)
