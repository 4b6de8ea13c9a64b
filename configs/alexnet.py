"""AlexNet, trained as in Krizhevsky, Sutskever & Hinton (2012), sections 4 and 5.

    python -m deepconv.main --config=configs/alexnet.py --workdir=runs/alexnet
    python -m deepconv.main --config=configs/alexnet.py:tiny    # narrow, embedded data, two cores

Paper: 40.7 / 18.2 percent top-1 / top-5 error on ILSVRC-2012's validation set (Table 2: 1 CNN, ten
crops); about 90 epochs, 5 to 6 days on two GTX 580. Not run here.
"""

from ml_collections import ConfigDict

from deepconv.config import default, tiny, variants


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe of the paper, or its `tiny` variant."""
    chosen = variants("alexnet", variant, ("tiny",))
    config = default()
    with config.unlocked():
        config.model.name = "alexnet"
        config.model.width = 1.0
        config.model.dropout = 0.5
        config.model.towers = 2
        config.model.lrn = "paper"
        config.model.pooling = "overlapping"
    # The released code's: from the paper's std of 0.01 the net hardly tells images apart at first.
    config.model.initializer = "original_code"
    config.input.square = True
    config.input.mean = "image"
    config.input.color = "computed"
    config.train.batch_size = 128
    config.train.epochs = 90.0
    return tiny(config, crop=64, scale=72) if "tiny" in chosen else config
