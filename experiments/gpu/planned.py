"""What `deepconv plan` says about a step's memory: the one place that asks it."""

from ml_collections import ConfigDict

from deepconv.config.schema import create_model
from deepconv.plan import memory, network


def training_bytes(config: ConfigDict, classes: int) -> int:
    """Return the planned memory of a training step on one device, in bytes.

    Args:
      config: of one stage; its `train.batch_size` is on the one device.
      classes: number of classes.
    """
    needed = memory.needed(
        network.local(create_model(config, classes), model_devices=1),
        examples=config.train.batch_size,
        microbatches=config.train.microbatches,
        mean_image=config.input.mean == "image",
    )
    # The benchmark's one batch is on the device already; none is queued.
    return needed.total - needed.next_batch
