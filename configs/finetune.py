"""Fine-tune a network for new classes: a new fc8, slow layers below it, and frozen first layers.

    deepconv train --config=finetune --workdir=runs/flowers \
        --config.dataset.name=folder:/data/flowers --config.init.checkpoint=vgg16.safetensors
    deepconv train --config=finetune:tiny --workdir=runs/finetuned \
        --config.init.checkpoint=runs/quickstart_seed0

It starts from a run's folder or a weights file of any network, and takes the network, its crop, its
scales and its mean from there. `tiny` is short and in small batches. optimizer.trained_layers
selects the layers that train; with fewer pictures, train fewer layers ("fc8": a linear classifier
on fixed features). Neither paper has a recipe for this; docs/results.md has the error of the tiny
variant on photographs.
"""

from ml_collections import ConfigDict

from deepconv.config.recipe import ALL_BUT_FC8
from deepconv.config.schema import INHERITED, default, variants


def get_config(variant: str = "") -> ConfigDict:
    """Return the config; `tiny` is for minutes on two cores, by default on drawn images."""
    chosen = variants("finetune", variant, ("tiny",))
    config = default()
    config.model.name, config.model.crop = INHERITED, 0
    config.input.scale, config.evaluation.scale = (0, 0), 0
    # Layers that keep their weights must see pixels with the same preprocessing as before.
    config.input.color = "inherited"
    config.init.layers = ALL_BUT_FC8
    # Caffe's rates for fine-tuning: 0.01 for new layers, a tenth of it for the others.
    config.optimizer.learning_rate = 0.01
    config.optimizer.trained_layers = r"conv[45].*|fc.*"
    config.optimizer.multipliers = (
        (r"fc8/kernel", 1.0, 1.0),
        (r"fc8/bias", 1.0, 0.0),
        (r".*/kernel", 0.1, 1.0),
        (r".*/bias", 0.1, 0.0),
    )
    config.train.batch_size = 64
    config.train.epochs = 20.0
    if "tiny" in chosen:
        config.dataset.name = "shapes"
        config.plateau.patience = 8
        config.train.epochs = 5.0
    return config
