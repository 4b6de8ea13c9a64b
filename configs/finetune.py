"""New classes for a trained network: fc8 anew, the layers below it slowly, the first not at all.

    deepconv train --config=finetune --workdir=runs/flowers \
        --config.dataset.name=folder:/data/flowers --config.init.checkpoint=vgg16.safetensors
    deepconv train --config=finetune:tiny --workdir=runs/finetuned \
        --config.init.checkpoint=runs/quickstart_seed0

What it starts from is the folder of a run or a file of `deepconv weights import`; another network
than VGG-D is --config.model.name=vgg_a, or alexnet_owt. `tiny` is the quickstart's: narrow,
embedded data. Which layers train, optimizer.trained_layers says; fewer suit fewer pictures ("fc8":
a linear classifier of fixed features). Neither paper has a recipe for this; what the tiny one
reaches on photographs stands in docs/results.md.
"""

from ml_collections import ConfigDict

from deepconv.config.recipe import ALL_BUT_FC8
from deepconv.config.schema import default, tiny, variants


def get_config(variant: str = "") -> ConfigDict:
    """Return the config; `tiny` fits the quickstart's network."""
    chosen = variants("finetune", variant, ("tiny",))
    config = default()
    with config.unlocked():
        config.model.name = "vgg_d"
        config.model.width = 1.0
        config.model.dropout = 0.5
    config.init.layers = ALL_BUT_FC8
    # Caffe's rates for fine-tuning: 0.01 for what is new, a tenth of it for what is not.
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
        tiny(config, crop=48, scale=56)
        config.model.name = "vgg_a"
        config.train.epochs = 5.0
    # Layers that keep their weights have to see pixels as they did.
    config.input.color = "inherited"
    return config
