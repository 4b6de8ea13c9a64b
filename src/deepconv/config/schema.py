"""The settings of a run: every key with its default and its meaning.

    config = default()               # locked: a key that is not here cannot be set
    config.optimizer.learning_rate = 0.001
    check_config(config)             # see check.py

The files under `configs/` start from here and set what their papers specify.
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from deepconv import models
from deepconv.exceptions import UserError
from deepconv.models.network import Network

# The `model.name` of a config that takes its network from what the run starts from.
INHERITED = "inherited"


def default() -> ConfigDict:
    """Return the settings that both papers share; the comments document the keys."""
    config = ConfigDict()
    config.seed = 0  # from 0 to 2^32 - 1

    # The network and its options, as in `models.create`; a config has only those of its network.
    # One that predicts boxes has `boxes`, "single" or "per_class". The name "inherited" stands for
    # the network of what the run starts from, with its options and its input: its mean, its square,
    # and its crop, input.scale and evaluation.scale where those here are 0.
    config.model = ConfigDict(
        {"name": "vgg_a", "initializer": "glorot", "dtype": "float32", "crop": 224}
    )

    # The stages to run; see recipe.py.
    config.recipe = ConfigDict()
    # One run, or "vgg", "pretrained" or "localization": several stages, each in a folder of the
    # work directory.
    config.recipe.name = "single"
    # Last stage of "vgg" to run: 256, 384, jitter or jitter_fc. Of "localization": 256 or 384.
    config.recipe.stage = ""
    config.recipe.pretrain = False  # whether "vgg" starts from net A
    # The larger data set that "pretrained" trains on first; see dataset.
    config.recipe.pretrain_dataset = ""
    config.recipe.pretrain_train_split = "train"
    config.recipe.pretrain_eval_split = "validation"

    # What a run starts from if it has neither a checkpoint of its own nor a stage before it. In a
    # recipe this applies only to the first stage; the recipe decides what the others copy.
    config.init = ConfigDict()
    config.init.checkpoint = ""  # any run's folder, or a weights file; empty: random weights
    config.init.layers = ".*"  # regular expression: the layers to copy; the others are random

    config.dataset = ConfigDict()
    config.dataset.name = "imagenet2012"  # or shapes, cifar10, folder:/path, any tfds name
    config.dataset.data_dir = ""  # empty: $TFDS_DATA_DIR, else ~/tensorflow_datasets
    # Whether a picture may have several labels, as in VOC or a folder with a labels.csv; the
    # network then predicts each class by itself (sigmoid cross-entropy).
    config.dataset.multilabel = False
    config.dataset.train_split = "train"
    config.dataset.eval_split = "validation"

    config.input = ConfigDict()
    # The shorter side S is drawn uniformly from the integers between these, inclusive.
    config.input.scale = (256, 256)
    config.input.square = False  # whether only the central SxS square is kept (AlexNet)
    config.input.mean = "rgb"  # subtract the mean RGB, or "image": the mean image (AlexNet)
    # Mean and principal components: published ones, "computed" over the training set, or
    # "inherited" from what the run starts from.
    config.input.color = "imagenet"
    config.input.max_unreadable = 0.01  # a larger share of unreadable images stops the run
    config.input.threads = 0  # decoding threads in each process; 0: one per core
    config.input.workers = 0  # extra decoding processes; worthwhile from about ten cores

    config.augment = ConfigDict()
    config.augment.flip = True
    config.augment.pca_std = 0.1  # of the RGB jitter's factors; 0 turns it off
    config.augment.pca_magnitude = "lambda"  # or "sqrt"; see color.pca_magnitudes

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 0.01
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    # (regular expression on "layer/kernel" or "layer/bias", lr_mult, decay_mult); the first
    # match applies. The papers decay only the weights and use one learning rate for all.
    config.optimizer.multipliers = ((r".*/bias", 1.0, 0.0),)
    # Regular expression: the layers to train; the others keep the parameters the run starts from.
    # In a recipe this applies only to the last stage; before it, all layers train.
    config.optimizer.trained_layers = ".*"

    # How the learning rate changes: "plateau" follows the validation error, as in both papers; the
    # others depend only on the epoch, and the run ends at train.epochs. See training/schedule.py.
    config.schedule = ConfigDict()
    config.schedule.name = "plateau"  # or "constant", "steps" or "cosine"
    config.schedule.drop_epochs = ()  # for "steps": ascending epochs at which the rate drops
    config.schedule.warmup_epochs = 0.0  # for "cosine": epochs over which the rate rises from 0

    config.plateau = ConfigDict()
    config.plateau.factor = 0.1  # multiplies the learning rate at each drop; also for "steps"
    config.plateau.max_drops = 3  # the next plateau ends the run
    config.plateau.patience = 5  # evaluations without improvement that make a plateau
    config.plateau.min_delta = 0.0  # minimum improvement of the error that counts, a fraction

    config.train = ConfigDict()
    config.train.batch_size = 256  # over all devices
    config.train.microbatches = 1  # sequential parts of each device's batch, to save memory
    config.train.epochs = 74.0  # the run ends here at the latest
    config.train.log_steps = 50
    # Devices per copy of the network: 1, or 2, with a tower of AlexNet on each.
    config.train.model_devices = 1

    config.evaluation = ConfigDict()
    config.evaluation.scale = 256  # the shorter side Q
    config.evaluation.batch_size = 256
    config.evaluation.every_epochs = 1.0

    config.checkpoint = ConfigDict()
    config.checkpoint.every_steps = 1000  # in addition to one at each evaluation
    config.checkpoint.keep = 2  # how many of the newest; the best is kept too
    return config.lock()


def variants(name: str, text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Split the variants after the colon of a config file's name.

    Args:
      name: name of the file, without its extension.
      text: what follows the colon, such as "384,tiny".
      known: the file's variants.

    Raises:
      UserError: if one of them does not exist.
    """
    chosen = tuple(part for part in text.split(",") if part)
    if unknown := sorted(set(chosen) - set(known)):
        raise UserError(
            f"configs/{name}.py has no variant {unknown[0]!r}; it has {', '.join(known)} "
            f"(as in configs/{name}.py:{known[-1]})"
        )
    return chosen


def tiny(config: ConfigDict, *, crop: int, scale: int) -> ConfigDict:
    """Shrink a recipe to a quarter-width net on the embedded data: minutes on two cores.

    Args:
      config: a recipe, modified in place.
      crop: side of the crop, in pixels.
      scale: the shorter side S, and Q.
    """
    config.model.crop = crop
    config.model.width = 0.25
    config.dataset.name = "shapes"
    config.input.color = "computed"
    config.input.scale = (scale, scale)
    config.evaluation.scale = scale
    config.train.batch_size = 64
    config.train.epochs = 28.0
    # Such a net may learn nothing for some epochs, which is not yet a plateau.
    config.plateau.patience = 8
    return config


def step_of(config: ConfigDict, epochs: float, images: int) -> int:
    """Return the number of updates in some epochs over a training set, rounded up."""
    return -int(-epochs * images // config.train.batch_size)


def num_steps(config: ConfigDict, images: int) -> int:
    """Return the number of updates of a run over a training set of `images` images."""
    return step_of(config, config.train.epochs, images)


def drop_steps(config: ConfigDict, images: int) -> tuple[int, ...]:
    """Return the updates, counted from 0, at which the rate drops by `schedule.drop_epochs`.

    Those after the run's last update are left out.
    """
    steps = {step_of(config, epochs, images) for epochs in config.schedule.drop_epochs}
    return tuple(sorted(step for step in steps if step < num_steps(config, images)))


def _model_options(config: ConfigDict) -> dict[str, Any]:
    return {key: value for key, value in config.model.items() if key != "dtype"}


def inherits_network(config: ConfigDict) -> bool:
    """Return whether the network is that of what the run starts from."""
    return bool(config.model.name == INHERITED)


def predicts_boxes(config: ConfigDict) -> bool:
    """Return whether the config's network predicts boxes, `model.boxes`, and no classes."""
    return bool(config.model.get("boxes", ""))


def create_model(config: ConfigDict, num_classes: int) -> Network:
    """Create the config's network for `num_classes` classes.

    Raises:
      UserError: if it is that of weights which have not been read; see `training.start.resolved`.
    """
    if inherits_network(config):
        raise UserError(
            f"model.name={INHERITED!r} is the network of init.checkpoint, which only training "
            "reads; set --config.model.name, model.crop, input.scale and evaluation.scale"
        )
    return models.create(
        **_model_options(config), num_classes=num_classes, dtype=config.model.dtype
    )


def flattened(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all keys of a config, `section.key` for those in sections, with their values."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
