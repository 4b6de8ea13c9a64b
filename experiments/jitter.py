"""VGG's Tables 3 to 6: scale jitter, several test scales, crops and dense, two networks.

Decided before the seeds were run: nets A and A-LRN, equals in the paper's Table 3, an eighth as
wide; 48-pixel crops of the embedded data, the paper's scales in proportion (256 pixels are 56). In
the paper's order: S = 84 for 30 epochs at 0.01, divided by ten at 22 and 27; from it, at a tenth of
the rate, 15 epochs with S in [56, 112]. The control goes on with S = 84 for as long, from the same
net. 600 held-out images; dense evaluation unless said otherwise; last step.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import vgg_a
from deepconv.config import recipe
from deepconv.inference.evaluate import Request, evaluate
from experiments.claim import Claim, Contrast, Quantity, Run, measured
from experiments.comparison import Condition

FIXED, JITTER = (84, 84), (56, 112)
TOGETHER = (56, 84, 112)
EPOCHS, MORE_EPOCHS = 30.0, 15.0
REQUESTS = {
    "dense, Q = 84": Request("dense", FIXED[:1]),
    "dense, three scales": Request("dense", TOGETHER),
    "multi-crop, three scales": Request("multi_crop", TOGETHER),
    "both, three scales": Request("multi_crop_and_dense", TOGETHER),
}
DENSE = "dense, three scales"
FIRST, SECOND = "A", "A-LRN"


def config_of(
    network: str, width: float, scale: tuple[int, int], *, tuned: bool = False
) -> ConfigDict:
    """Return the config of a narrow net trained with S in this range, inclusive.

    Args:
      network: the net.
      width: factor of its width.
      scale: the range of S.
      tuned: whether it starts from the net of the fixed scale.
    """
    (stage,) = recipe.stages(vgg_a.get_config("256,tiny"))
    config = stage.config
    config.model.name, config.model.width = network, width
    config.input.scale, config.evaluation.scale = scale, FIXED[0]
    config.optimizer.learning_rate = 0.001 if tuned else 0.01
    config.train.epochs = MORE_EPOCHS if tuned else EPOCHS
    config.schedule.name = "constant" if tuned else "steps"
    config.schedule.drop_epochs = () if tuned else (22.0, 27.0)
    return config


def conditions(width: float) -> list[Condition]:
    """Return both nets at the fixed scale, and what is fine-tuned from them."""
    found = []
    for label, network in ((FIRST, "vgg_a"), (SECOND, "vgg_a_lrn")):
        start = f"{label}, S = 84"
        found += [
            Condition(start, config_of(network, width, FIXED)),
            Condition(
                f"{label}, S = 84, continued", config_of(network, width, FIXED, tuned=True), start
            ),
            Condition(
                f"{label}, S in 56 to 112", config_of(network, width, JITTER, tuned=True), start
            ),
        ]
    return found


def measure(run: Run) -> dict[str, Any]:
    """Return the error of every protocol, and of the second net also with the first."""
    errors = {
        name: evaluate([run.folder], request)["top1_error"] for name, request in REQUESTS.items()
    }
    if run.label == f"{SECOND}, S in 56 to 112":
        first = run.other(f"{FIRST}, S in 56 to 112")
        alone = evaluate([first], REQUESTS[DENSE])["top1_error"]
        errors["mean of A and A-LRN"] = (alone + errors[DENSE]) / 2
        errors["A + A-LRN"] = evaluate([first, run.folder], REQUESTS[DENSE])["top1_error"]
    return errors


def _error(key: str) -> Quantity:
    return measured(key, f"error %, {key}", error=True)


_JITTERED, _BOTH_NETS = f"{FIRST}, S in 56 to 112", f"{SECOND}, S in 56 to 112"


def _of_protocols(statement: str, paper: str, worse: str, better: str) -> Contrast:
    return Contrast(statement, paper, _JITTERED, _JITTERED, _error(worse), _error(better))


CLAIM = Claim(
    name="jitter",
    title="Scale jitter and test protocols (VGG Tables 3 to 6)",
    width=1 / 8,
    conditions=conditions,
    contrasts=(
        Contrast(
            "training with scale jitter is better at a single test scale",
            "25.6 against 26.8 (D)",
            f"{FIRST}, S = 84, continued",
            _JITTERED,
            _error("dense, Q = 84"),
        ),
        Contrast(
            "training with scale jitter is better with three test scales",
            "24.8 against 26.5 (D)",
            f"{FIRST}, S = 84, continued",
            _JITTERED,
            _error(DENSE),
        ),
        _of_protocols(
            "three test scales are better than one", "24.8 against 25.6", "dense, Q = 84", DENSE
        ),
        _of_protocols(
            "many crops are better than dense evaluation",
            "24.6 against 24.8",
            DENSE,
            "multi-crop, three scales",
        ),
        _of_protocols(
            "both together are better than many crops",
            "24.4 against 24.6",
            "multi-crop, three scales",
            "both, three scales",
        ),
        Contrast(
            "two networks are better than one",
            "24.0 against 24.8",
            _BOTH_NETS,
            _BOTH_NETS,
            _error("mean of A and A-LRN"),
            _error("A + A-LRN"),
        ),
    ),
    columns=(*(_error(key) for key in REQUESTS), _error("A + A-LRN")),
    measure=measure,
)
