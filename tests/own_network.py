"""Train a network of one's own, with 5x5 kernels, and stop after the third step if told to.

python -m tests.own_network RUN DATA_DIR [stop]
"""

import sys
from pathlib import Path

from configs import quickstart
from deepconv import models, parallel
from deepconv.models.layers import Activation, Conv, Dropout, Pool
from deepconv.training import loop


def mine(num_classes, *, crop=32, width=4):
    """Return the layers."""
    return (
        Conv("conv1", width, 5, padding=(2, 2)), Activation("relu1"), Pool("pool1", 2, 2),
        Conv("conv2", 2 * width, 5, padding=(2, 2)), Activation("relu2"), Pool("pool2", 2, 2),
        Conv("fc3", 16, crop // 4, fully_connected=True), Activation("relu3"), Dropout("drop3"),
        Conv("fc4", num_classes, 1, fully_connected=True),
    )  # fmt: skip


models.NETWORKS["mine"] = mine
run, data_dir, *stop = sys.argv[1:]
config = quickstart.get_config().unlock()
config.model = {"name": "mine", "initializer": "he", "dtype": "float32", "crop": 32, "width": 6}
config.dataset.data_dir = data_dir
config.input.scale, config.evaluation.scale = (36, 36), 36
config.train.batch_size, config.train.epochs, config.evaluation.batch_size = 16, 6 * 16 / 3600, 200
if stop:
    steps = iter(range(3))
    parallel.Preemption.reached = lambda self: next(steps) == 2
loop.train(config.lock(), Path(run))
