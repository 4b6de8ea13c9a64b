"""AlexNet section 3.3: LRN reduces the test error on CIFAR-10 from 13 % to 11 %.

The four-layer nets of cuda-convnet's files, without and with normalization, differ in two more
things: the net with it has 64 kernels in local3 instead of 32, and 2.5 times the weight decay in
fc10. So a third net is trained: the net without normalization, to which nothing but that is added.

Decided before the seeds were run: 24-pixel crops and flips, batches of 128, 20 epochs with the
rate divided by ten at 85 and 95 percent, where the paper's nets train for some 500; 10,000 test
images, the nine crops of the paper's code at the last step. Narrow nets have the initial gain of
the full ones in every layer.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import cifar10
from deepconv.inference.evaluate import Request, evaluate
from experiments.claim import Claim, Contrast, Run, measured
from experiments.comparison import Condition

EPOCHS = 20.0


def config_of(variant: str, width: float, *, lrn: bool) -> ConfigDict:
    """Return the config of one net, with the rate dropped twice toward the end.

    cuda-convnet's files drop it by hand after most of the training, for the last few epochs.
    """
    config = cifar10.get_config(variant)
    with config.unlocked():
        config.model.width = width
        config.model.lrn = lrn
        config.model.keep_gain = True
    config.train.epochs = EPOCHS
    config.schedule.name = "steps"
    config.schedule.drop_epochs = (0.85 * EPOCHS, 0.95 * EPOCHS)
    return config


def conditions(width: float) -> list[Condition]:
    """Return the paper's two nets, and the one without normalization with it."""
    return [
        Condition("without LRN", config_of("13pct", width, lrn=False)),
        Condition("with LRN, equally wide", config_of("13pct", width, lrn=True)),
        Condition("with LRN, the paper's", config_of("11pct", width, lrn=True)),
    ]


def measure(run: Run) -> dict[str, Any]:
    """Return the error of the nine crops."""
    return {"nine_view": evaluate([run.folder], Request("nine_view"))["top1_error"]}


NINE = measured("nine_view", "test error % of nine crops", error=True, decimals=2)
CLAIM = Claim(
    name="lrn",
    title="Local response normalization (AlexNet section 3.3)",
    width=1 / 4,
    conditions=conditions,
    contrasts=(
        Contrast(
            "the net with LRN is better (and wider)",
            "11 against 13 %",
            "without LRN",
            "with LRN, the paper's",
            NINE,
        ),
        Contrast(
            "LRN alone makes the net better",
            "11 against 13 %",
            "without LRN",
            "with LRN, equally wide",
            NINE,
        ),
    ),
    columns=(NINE,),
    measure=measure,
)
