"""VGG section 3.1: its nets need fewer epochs to converge than AlexNet.

The paper names two reasons: greater depth with smaller kernels, and layers that are initialized
from another net. Decided before the seeds were run: AlexNet with the released code's initial
weights, A from Glorot's weights, and B with A's layers, all a quarter as wide; 64-pixel crops of
the embedded data scaled to 72, batches of 64, learning rate 0.005, which is divided by ten whenever
the error has not improved for 8 epochs. The third drop's plateau ends a run: that many epochs it
needed, at most 150. A net that ends at chance has not converged and counts as such. The epochs of
A are not counted in those of B.
"""

from ml_collections import ConfigDict

from configs import alexnet, vgg_a
from deepconv.config import recipe
from experiments.claim import Claim, Contrast, Quantity, is_at_chance
from experiments.comparison import Condition
from experiments.records import Record

MOST_EPOCHS = 150.0


def _same(config: ConfigDict, width: float) -> ConfigDict:
    config.model.width, config.model.crop = width, 64
    config.input.scale, config.evaluation.scale = (72, 72), 72
    config.optimizer.learning_rate = 0.005
    config.train.epochs = MOST_EPOCHS
    return config


def conditions(width: float) -> list[Condition]:
    """Return AlexNet, A, and B from A."""
    (stage,) = recipe.stages(vgg_a.get_config("256,tiny"))
    net_a = _same(stage.config, width)
    net_b = net_a.copy_and_resolve_references()
    net_b.model.name, net_b.init.layers = "vgg_b", recipe.FROM_A
    return [
        Condition("AlexNet", _same(alexnet.get_config("tiny"), width)),
        Condition("A", net_a),
        Condition("B, from A", net_b, "A"),
    ]


def _epochs(record: Record) -> float | None:
    return None if is_at_chance(record) else float(record["epochs"])


NEEDED = Quantity("epochs to converge", _epochs, 0)
PAPER = "74 epochs against about 90"
CLAIM = Claim(
    name="convergence",
    title="Epochs to converge (VGG section 3.1)",
    width=1 / 4,
    conditions=conditions,
    contrasts=(
        Contrast("A needs fewer epochs than AlexNet", PAPER, "AlexNet", "A", NEEDED, ratio=True),
        Contrast(
            "B with A's layers needs fewer epochs than AlexNet",
            PAPER,
            "AlexNet",
            "B, from A",
            NEEDED,
            ratio=True,
        ),
    ),
    columns=(NEEDED,),
)
