"""AlexNet, trained as in Krizhevsky, Sutskever & Hinton (2012), sections 4 and 5.

    deepconv train --config=alexnet --workdir=runs/alexnet
    deepconv train --config=alexnet:caffe         # a preset, see below
    deepconv train --config=alexnet:tiny          # narrow, embedded data
    deepconv train --config=alexnet:caffe,tiny
    deepconv train --config=alexnet:pretrained    # with conv6, on a larger set

Paper: 40.7 / 18.2 percent top-1 / top-5 error on ILSVRC-2012's validation set (Table 2: 1 CNN, ten
crops); about 90 epochs, 5 to 6 days on two GTX 580. Not run here.

The paper, its released code, and Caffe's net of the same name differ. Without a preset this is the
paper's recipe with the initial weights of the released code, because with the paper's own weights
the activations hardly depend on the image at first.
"""

from ml_collections import ConfigDict

from deepconv.config.schema import default, tiny, variants
from deepconv.exceptions import UserError


def get_config(variant: str = "") -> ConfigDict:
    """Return the recipe, with a preset if one is named; `tiny` makes it small.

    `pretrained` is the net of the paper's starred rows (section 6.1), 39.0 / 16.6 percent: six
    convolutions, trained on ImageNet's Fall 2011 release, prepared under the name below, or
    `--config.recipe.pretrain_dataset=folder:/path`, and fine-tuned on ILSVRC-2012.
    """
    chosen = variants("alexnet", variant, (*PRESETS, "pretrained", "tiny"))
    config = default()
    with config.unlocked():
        config.model.name = "alexnet"
        config.model.width = 1.0
        config.model.dropout = 0.5
        config.model.towers = 2
        config.model.half = False
        config.model.lrn = "paper"
        config.model.pooling = "overlapping"
        config.model.without = ""
        config.model.conv6 = False
        config.model.keep_gain = False
    config.model.initializer = "original_code"
    config.input.square = True
    config.input.mean = "image"
    config.input.color = "computed"
    config.train.batch_size = 128
    config.train.epochs = 90.0
    presets = [name for name in chosen if name in PRESETS]
    if len(presets) > 1:
        raise UserError(f"configs/alexnet.py:{variant} names {len(presets)} presets; choose one")
    for name in presets:
        PRESETS[name](config)
    if "pretrained" in chosen:
        config.model.conv6 = True
        config.recipe.name = "pretrained"
        config.recipe.pretrain_dataset = "imagenet_fall2011"
    if "tiny" in chosen:
        tiny(config, crop=64, scale=72)
        if config.recipe.pretrain_dataset:
            config.recipe.pretrain_dataset = "shapes"
        config.model.keep_gain = True  # otherwise the signal vanishes in the narrow net
    return config


def paper(config: ConfigDict) -> None:
    """Follow the paper to the letter: std 0.01 in every layer (section 5).

    LRN with alpha times the plain sum of squares (section 3.3), one learning rate for all (section
    5), lambda of RGB in 0..1 (section 4.1 gives no unit; in 0..255 a shift would be ~820 levels).
    """
    config.model.initializer = "paper"


def original_code(config: ConfigDict) -> None:
    """Follow the code and layer files that the Computer History Museum published in 2025.

    Weights of std 0.03 in conv3 to conv5 (layers-145.cfg), alpha of LRN divided by the window
    (layer.py), twice the learning rate and no decay for biases (layer-params-145.cfg), color noise
    times the square roots of the eigenvalues (convdata_jpeg.py). Not followed: LRN before the ReLU
    in layer 1, a second normalization in layer 2, and the division of the noisy image by 1.1.
    """
    config.model.initializer = "original_code"
    config.model.lrn = "original_code"
    config.optimizer.multipliers = ((r".*/bias", 2.0, 0.0),)
    config.augment.pca_magnitude = "sqrt"


def caffe(config: ConfigDict) -> None:
    """Follow models/bvlc_alexnet of BVLC's Caffe: train_val.prototxt and solver.prototxt.

    227-pixel crops, weights of std 0.005 in fc6 and fc7 and biases of 0.1, LRN with k = 1, alpha
    divided by the window and windows across both towers, twice the learning rate and no decay for
    biases, no color noise, the rate dropped every 100,000 updates of 256 images. Not followed:
    dropout's factor in training instead of testing, images squashed to squares.
    """
    config.model.crop = 227
    config.model.initializer = "caffe"
    config.model.lrn = "caffe"
    config.optimizer.multipliers = ((r".*/bias", 2.0, 0.0),)
    config.augment.pca_std = 0.0
    config.schedule.name = "steps"
    config.schedule.drop_epochs = (20.0, 40.0, 60.0, 80.0)
    config.train.batch_size = 256


PRESETS = {"paper": paper, "original_code": original_code, "caffe": caffe}
