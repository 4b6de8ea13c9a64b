"""Every named config as text, so that a change of one hyper-parameter shows in review.

After a change that is meant: `python -m tests.config.test_golden` writes the files anew.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import (
    alexnet,
    cifar10,
    finetune,
    localization,
    quickstart,
    vgg_a,
    vgg_a_lrn,
    vgg_b,
    vgg_b_shallow,
    vgg_c,
    vgg_d,
    vgg_e,
)
from deepconv.config import recipe
from deepconv.config.identity import fixed_settings
from deepconv.config.schema import create_model
from deepconv.models.initializers import PRESETS
from deepconv.models.layers import Conv, LocalConv
from deepconv.training import optimizer

FOLDER = Path(__file__).parents[1] / "golden"


def finetune_of_vgg_d():
    """Return the config as training resolves it for weights of net D."""
    config, net = finetune.get_config(), vgg_d.get_config()
    with config.unlocked():
        config.model = net.model
    config.input.scale, config.evaluation.scale = (256, 256), 256
    return config


CONFIGS = {
    "alexnet": alexnet.get_config(),
    **{f"alexnet_{preset}": alexnet.get_config(preset) for preset in alexnet.PRESETS},
    "alexnet_pretrained": alexnet.get_config("pretrained"),
    "cifar10": cifar10.get_config(),
    "vgg_d_submission": vgg_d.get_config("submission"),
    "cifar10_11pct": cifar10.get_config("11pct"),
    "finetune": finetune_of_vgg_d(),
    "localization": localization.get_config(),
    "localization_256_single_fc": localization.get_config("256,single,fc"),
    "quickstart": quickstart.get_config(),
    **{
        module.__name__.rpartition(".")[2]: module.get_config()
        for module in (vgg_a, vgg_a_lrn, vgg_b, vgg_b_shallow, vgg_c, vgg_d, vgg_e)
    },
}


def describe(name):
    """Return the stages of a config: settings, then each parameter's start, rate and decay."""
    lines = []
    for stage in recipe.stages(CONFIGS[name]):
        config = stage.config
        lines.append(f"stage {stage.name}, from {stage.source or 'random weights'}")
        settings = {**fixed_settings(config)}
        lines += [f"  {key} = {json.dumps(value)}" for key, value in sorted(settings.items())]
        lines += [f"  {line}" for line in parameters(config)]
    return "\n".join(lines) + "\n"


def parameters(config):
    classes = 10 if config.dataset.name == "cifar10" else 1000
    model = create_model(config, classes)
    image = jax.ShapeDtypeStruct((1, model.crop, model.crop, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    lr_mults, decay_mults = optimizer.multipliers(shapes, config.optimizer.multipliers)
    lr_mults = optimizer.frozen(lr_mults, config.optimizer.trained_layers)
    layers = {layer.name: layer for layer in model.layers if isinstance(layer, Conv | LocalConv)}
    for name, leaves in shapes.items():
        kernel, bias = PRESETS[config.model.initializer](layers[name])
        drawn = kernel(jax.random.key(0), (3, 3, 64, 64), jnp.float32)
        for leaf, shape in leaves.items():
            start = f"std {np.std(drawn):.2g} on 3x3x64x64"
            if leaf == "bias":
                start = f"all {float(bias(jax.random.key(0), (1,), jnp.float32)[0]):g}"
            lr = config.optimizer.learning_rate * lr_mults[name][leaf]
            decay = config.optimizer.weight_decay * decay_mults[name][leaf]
            size = "x".join(map(str, shape.shape))
            yield f"{name}/{leaf} {size}: {start}, learning rate {lr:g}, weight decay {decay:g}"


@pytest.mark.parametrize("name", CONFIGS)
def test_config_is_as_recorded(name):
    recorded = (FOLDER / f"{name}.txt").read_text()
    assert describe(name) == recorded


def test_every_record_has_its_config():
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(CONFIGS)


if __name__ == "__main__":
    for config_name in CONFIGS:
        (FOLDER / f"{config_name}.txt").write_text(describe(config_name))
