"""Draw the figures of the AlexNet paper's section 6.1 for any network, or a run's curves.

`kernels` is Figure 3; `labels` and `neighbors` are the left and right of Figure 4; `curves` are the
losses, errors and learning rates of a run, also of one in progress or interrupted.

deepconv figures kernels --weights=runs/alexnet --out=kernels.png
deepconv figures labels --weights=runs/alexnet      # writes labels.png to the run's folder
deepconv figures neighbors --weights=runs/alexnet --gallery=50000
deepconv figures curves --weights=runs/alexnet
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from absl import flags
from matplotlib.figure import Figure

from deepconv import drawing, parallel
from deepconv.commands import command_line
from deepconv.data.sources import datasets, identity
from deepconv.exceptions import UserError
from deepconv.inference.model import Model, open_model, results_folder
from deepconv.run import curves, hub
from deepconv.run.workdir import require_writable
from deepconv.visualize import figures

REQUIRED = ("weights",)
ARGUMENTS = 1
CURVES = "curves"  # needs no network


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags."""
    command_line.define_weights(values)
    flags.DEFINE_string(
        "out",
        None,
        "The .png file to write; by default in the run's folder, or beside the weights file.",
        flag_values=values,
    )
    flags.DEFINE_integer("seed", 0, "Seed for choosing the images.", flag_values=values)
    flags.DEFINE_integer(
        "gallery", 10_000, "Number of training images to search.", 1, flag_values=values
    )


def main(options: flags.FlagValues, arguments: Sequence[str]) -> None:
    """Draw one of the figures of a network."""
    name = arguments[0] if arguments else ""
    if name not in (*FIGURES, CURVES):
        raise UserError(f"unknown figure {name!r}; choose from {', '.join((*FIGURES, CURVES))}")
    out = command_line.output_file(options, "out", ".png")
    if name == CURVES:
        print(curves.of_run(Path(options.weights), out).absolute())
        return
    weights = hub.located(options.weights)
    folder = results_folder(weights)
    beside = weights / f"{name}.png" if weights.is_dir() else Path(f"{folder}_{name}.png")
    everywhere = parallel.replicated(parallel.data_mesh(jax.devices()[:1]))
    trained = open_model(weights, everywhere, checkpoint=options.checkpoint)
    if out is None:
        require_writable(beside.parent, "--out=FILE.png writes it elsewhere")
    drawing.save(FIGURES[name](trained, options), out or beside)
    print((out or beside).absolute())


def _kernels(trained: Model, _: flags.FlagValues) -> Figure:
    return figures.kernels(trained)


def _labels(trained: Model, options: flags.FlagValues) -> Figure:
    dataset = _dataset(trained)
    images = figures.drawn(dataset.evaluation, figures.TEST_IMAGES, options.seed)
    scores = trained.network.layers[-1].name
    return figures.labels(trained, figures.look_at(trained, images, scores))


def _neighbors(trained: Model, options: flags.FlagValues) -> Figure:
    dataset = _dataset(trained)
    hidden = figures.last_hidden_layer(trained.network.layers)
    queries = figures.drawn(dataset.evaluation, figures.QUERIES, options.seed)
    gallery = figures.drawn(dataset.train, options.gallery, options.seed)
    return figures.neighbors(
        trained,
        figures.look_at(trained, queries, hidden),
        figures.look_at(trained, gallery, hidden),
    )


def _dataset(trained: Model) -> datasets.Dataset:
    """Open the data set that a network was trained on."""
    dataset = datasets.open_dataset(**trained.config.dataset)
    if change := identity.class_difference(trained.class_names, dataset.class_names):
        raise UserError(
            f"{trained.config.dataset.name} has changed since {trained.name} was trained: {change}"
        )
    return dataset


FIGURES: dict[str, Callable[[Model, flags.FlagValues], Figure]] = {
    "kernels": _kernels,
    "labels": _labels,
    "neighbors": _neighbors,
}
