"""The AlexNet paper's four-layer net on CIFAR-10, as in cuda-convnet's example files.

    deepconv train --config=cifar10 --workdir=runs/cifar10

The published binary files belong in ~/tensorflow_datasets/downloads/manual/cifar-10-batches-bin (or
under $TFDS_DATA_DIR). Paper: 13 percent test error without local response normalization, 11 percent
with it (section 3.3); `--config=configs/cifar10.py:11pct` selects that net. The paper's code
tests on nine crops: `deepconv evaluate --weights=runs/cifar10 --protocol=nine_view`.
"""

from ml_collections import ConfigDict

from deepconv.config.schema import default, variants


def get_config(variant: str = "13pct") -> ConfigDict:
    """Return layer-params-conv-local-13pct.cfg, or the one of the 11pct net."""
    (net,) = variants("cifar10", variant, ("13pct", "11pct"))
    config = default()
    config.model.name = f"cifar10_{net}"
    config.model.initializer = "paper"
    config.model.crop = 24
    config.dataset.name = "cifar10"
    config.dataset.eval_split = "test"
    config.input.scale = (32, 32)
    config.input.square = True
    config.input.mean = "image"
    config.input.color = "computed"
    config.augment.pca_std = 0.0
    config.optimizer.learning_rate = 0.001
    config.optimizer.weight_decay = 0.004
    fc10_decay = 2.5 if net == "11pct" else 1.0
    config.optimizer.multipliers = (
        (r".*/bias", 2.0, 0.0),
        (r"conv[12]/kernel", 1.0, 0.0),
        (r"fc10/kernel", 1.0, fc10_decay),
    )
    config.plateau.patience = 10
    config.plateau.max_drops = 2
    config.train.batch_size = 128
    config.train.epochs = 150.0
    config.train.log_steps = 100
    config.evaluation.scale = 32
    return config
