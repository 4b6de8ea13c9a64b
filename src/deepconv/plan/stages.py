"""The plan of each stage of a config."""

import math
from typing import NamedTuple

from jax.sharding import AbstractMesh
from ml_collections import ConfigDict

from deepconv import parallel
from deepconv.config import recipe
from deepconv.config.check import check_config
from deepconv.config.schema import create_model, num_steps
from deepconv.exceptions import UserError
from deepconv.parallel import DATA_AXIS, MODEL_AXIS
from deepconv.plan import memory, network, traffic
from deepconv.plan.memory import Memory
from deepconv.plan.network import Local
from deepconv.plan.times import Machine, Step
from deepconv.plan.traffic import Collective


class Sizes(NamedTuple):
    """Numbers of a data set's images and classes."""

    train: int
    evaluation: int
    classes: int


DATASETS = {
    "imagenet2012": Sizes(1_281_167, 50_000, 1000),
    # "15M images, 22K categories" (AlexNet, section 6.1); no validation set is mentioned.
    "imagenet_fall2011": Sizes(15_000_000, 50_000, 22_000),
    "cifar10": Sizes(50_000, 10_000, 10),
    "shapes": Sizes(3_600, 600, 12),
}


class StagePlan(NamedTuple):
    """One stage, planned.

    Attributes:
      name: name of the stage.
      network: name of the network.
      scale: smallest and largest shorter side S.
      epochs: maximum number of epochs.
      images: training images processed in all epochs.
      batch: batch size over all devices.
      examples: examples of a batch on one device.
      evaluation_batch: batch size of an evaluation over all devices.
      microbatches: number of parts in which a device processes them.
      steps: number of updates.
      net: the network on one device.
      flops: FLOPs of one step, over all devices.
      epoch_flops: FLOPs of one epoch of training, over all devices.
      memory: memory of one device.
      fitting: the smallest number of microbatches that fits; None if none does.
      gradients: the all-reduces of a step.
      gathers: the exchanges between towers in a step.
      step: times of a step.
      evaluation: seconds per evaluation.
      epoch: seconds per epoch, with its evaluations.
      hours: hours of the whole stage.
    """

    name: str
    network: str
    scale: tuple[int, int]
    epochs: float
    images: int
    batch: int
    examples: int
    evaluation_batch: int
    microbatches: int
    steps: int
    net: Local
    flops: int
    epoch_flops: float
    memory: Memory
    fitting: int | None
    gradients: list[Collective]
    gathers: list[Collective]
    step: Step
    evaluation: float
    epoch: float
    hours: float


def sizes(stage: ConfigDict, own: str, given: dict[str, int | None]) -> Sizes:
    """Return the sizes of a stage's data set.

    Args:
      stage: the stage's config.
      own: name of the data set that `given` describes.
      given: sizes given by the user, by the names of `Sizes`; None where not given.

    Raises:
      UserError: if neither the user nor `DATASETS` gives a size.
    """
    name, split = stage.dataset.name, stage.dataset.train_split
    said = given if name == own else {}
    known = DATASETS.get(name) if split == "train" else None
    found = {key: said.get(key) or (known and getattr(known, key)) for key in Sizes._fields}
    if missing := [key for key, value in found.items() if not value]:
        flag = {"train": "train_images", "evaluation": "eval_images", "classes": "classes"}
        raise UserError(
            f"the size of {name}, {split}, is unknown; give --"
            + ", --".join(f"{flag[key]}=N" for key in missing)
        )
    return Sizes(**{key: int(value) for key, value in found.items() if value})


def mesh(devices: int, model_devices: int) -> AbstractMesh:
    """Return the mesh of a run on this many devices.

    Raises:
      UserError: if the number is not positive, or is odd where pairs are needed.
    """
    if devices < 1:
        raise UserError(f"--devices={devices} must be positive")
    if devices % model_devices:
        raise UserError(
            f"train.model_devices={model_devices} needs an even number of devices, not {devices}"
        )
    if model_devices == 1:
        return AbstractMesh((devices,), (DATA_AXIS,))
    return AbstractMesh((devices // model_devices, model_devices), (DATA_AXIS, MODEL_AXIS))


def check_stages(config: ConfigDict, devices: int) -> None:
    """Raise `UserError` if any stage of a config cannot run on this many devices."""
    for stage in recipe.stages(config):
        check_config(stage.config)
        over = mesh(devices, stage.config.train.model_devices)
        train, evaluation = stage.config.train, stage.config.evaluation
        parallel.check_batch_size(train.batch_size, over, "train.batch_size", train.microbatches)
        parallel.check_batch_size(evaluation.batch_size, over, "evaluation.batch_size")


def plan_stage(stage: recipe.Stage, size: Sizes, machine: Machine) -> StagePlan:
    """Plan one stage, whose config has been checked."""
    config = stage.config
    train = config.train
    data_devices = machine.devices // train.model_devices
    net = network.local(create_model(config, size.classes), train.model_devices)
    examples = train.batch_size // data_devices
    mean_image = config.input.mean == "image"
    gradients = traffic.gradients(net, data_devices)
    gathers = traffic.gathers(net, examples=examples, microbatches=train.microbatches)
    steps = num_steps(config, size.train)
    flops = network.flops(net).training * examples
    computing = flops / machine.rate
    step = Step(
        computing=computing,
        exchanging=traffic.sent(gathers) / machine.link,
        reducing=traffic.sent(gradients) / machine.link,
        decoding=train.batch_size / (machine.decoded * machine.cores),
    )
    scoring = network.flops(net).forward * math.ceil(size.evaluation / data_devices)
    evaluation = max(scoring / machine.rate, size.evaluation / (machine.decoded * machine.cores))
    per_epoch = size.train / train.batch_size
    epoch = per_epoch * step.seconds + evaluation / config.evaluation.every_epochs
    return StagePlan(
        name=config.model.name if stage.name == "." else stage.name,
        network=config.model.name,
        scale=tuple(config.input.scale),
        epochs=train.epochs,
        images=steps * train.batch_size,
        batch=train.batch_size,
        examples=examples,
        evaluation_batch=config.evaluation.batch_size,
        microbatches=train.microbatches,
        steps=steps,
        net=net,
        flops=flops * machine.devices,
        epoch_flops=flops * machine.devices * per_epoch,
        memory=memory.needed(
            net, examples=examples, microbatches=train.microbatches, mean_image=mean_image
        ),
        fitting=memory.fitting_microbatches(
            net, examples=examples, mean_image=mean_image, limit=machine.usable * machine.memory
        ),
        gradients=gradients,
        gathers=gathers,
        step=step,
        evaluation=evaluation,
        epoch=epoch,
        hours=epoch * train.epochs / 3600,
    )
