"""The stages of VGG's recipe against section 3.1, of AlexNet's pre-training against 6.1."""

import pytest
from ml_collections import ConfigDict

from configs import alexnet, quickstart, vgg_a, vgg_a_lrn, vgg_d, vgg_e
from deepconv.config import recipe
from deepconv.config import schema as configuration
from deepconv.exceptions import UserError
from deepconv.training import start


def summary(config: ConfigDict):
    return [
        (
            stage.name,
            stage.source,
            stage.config.input.scale,
            stage.config.evaluation.scale,
            pytest.approx(stage.config.optimizer.learning_rate),
        )
        for stage in recipe.stages(config)
    ]


def test_e_is_trained_in_the_papers_four_stages():
    assert summary(vgg_e.get_config()) == [
        ("vgg_a_256", None, (256, 256), 256, 0.01),
        ("vgg_e_256", "vgg_a_256", (256, 256), 256, 0.01),
        ("vgg_e_384", "vgg_e_256", (384, 384), 384, 0.001),
        ("vgg_e_jitter", "vgg_e_384", (256, 512), 384, 0.001),
    ]


@pytest.mark.parametrize(
    ("variant", "last"), [("256", "vgg_e_256"), ("384", "vgg_e_384"), ("jitter", "vgg_e_jitter")]
)
def test_a_stage_brings_those_that_it_needs(variant, last):
    names = [stage.name for stage in recipe.stages(vgg_e.get_config(variant))]
    everything = [stage.name for stage in recipe.stages(vgg_e.get_config())]
    assert names[-1] == last
    assert names == everything[: len(names)]


@pytest.mark.parametrize("module", [vgg_a, vgg_a_lrn])
def test_the_shallow_nets_start_from_random_weights(module):
    first, *_ = recipe.stages(module.get_config())
    assert first.source is None
    assert first.config.init.layers == ".*"


def test_only_the_papers_layers_come_from_a():
    a, d, s384, jitter = recipe.stages(vgg_d.get_config())
    layers = {
        stage.name: {
            layer.name: {"kernel": (layer.kernel, layer.kernel, layer.features)}
            for layer in configuration.create_model(stage.config, 1000).layers
            if hasattr(layer, "kernel")
        }
        for stage in (a, d)
    }
    plan = start.plan_transfer(layers[d.name], layers[a.name], d.config.init.layers)
    assert plan.copied == ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8")
    assert plan.skipped == ("conv4_1", "conv4_2", "conv5_1", "conv5_2")
    assert (s384.config.init.layers, jitter.config.init.layers) == (".*", ".*")


def test_d_and_e_share_a():
    for one, other in zip(
        recipe.stages(vgg_d.get_config())[:1], recipe.stages(vgg_e.get_config())[:1], strict=True
    ):
        assert one == other
    assert recipe.stages(vgg_a.get_config("256"))[0] == recipe.stages(vgg_e.get_config())[0]


def test_tiny_scales_keep_the_papers_proportions():
    scales = [stage.config.input.scale for stage in recipe.stages(vgg_e.get_config("tiny"))]
    assert scales == [(56, 56), (56, 56), (84, 84), (56, 112)]
    (stage,) = recipe.stages(quickstart.get_config())
    assert (stage.config.input.scale, stage.config.evaluation.scale) == ((56, 56), 56)


def test_every_stage_is_sound_and_alone_is_a_plain_run():
    for module in (vgg_a, vgg_d):
        for variant in ("", "tiny"):
            for stage in recipe.stages(module.get_config(variant)):
                configuration.check(stage.config)
                assert recipe.stages(stage.config) == (recipe.Stage(".", stage.config, None),)


@pytest.mark.parametrize(
    ("key", "value", "words"), [("name", "resnet", "'resnet'"), ("stage", "512", "'512'.*jitter")]
)
def test_an_unknown_recipe_or_stage_is_named(key, value, words):
    config = vgg_e.get_config()
    config.recipe[key] = value
    with pytest.raises(UserError, match=words):
        recipe.stages(config)


def test_a_net_is_pretrained_on_the_larger_set_and_fine_tuned_but_for_fc8():
    first, second = recipe.stages(alexnet.get_config("pretrained"))
    assert (first.name, first.source) == ("alexnet_pretraining", None)
    assert (second.name, second.source) == ("alexnet_finetuning", "alexnet_pretraining")
    assert (first.config.dataset.name, second.config.dataset.name) == (
        "imagenet_fall2011",
        "imagenet2012",
    )
    assert second.config.optimizer.learning_rate == pytest.approx(0.001)
    nets = [
        {
            layer.name: {"kernel": (layer.kernel, layer.kernel, layer.features)}
            for layer in configuration.create_model(stage.config, classes).layers
            if hasattr(layer, "kernel")
        }
        for stage, classes in ((first, 22_000), (second, 1000))
    ]
    plan = start.plan_transfer(nets[1], nets[0], second.config.init.layers)
    assert plan.copied == ("conv1", "conv2", "conv3", "conv4", "conv5", "conv6", "fc6", "fc7")
    assert plan.random == ("fc8",)
    for stage in (first, second):
        configuration.check(stage.config)
        assert recipe.stages(stage.config) == (recipe.Stage(".", stage.config, None),)


def test_pretraining_needs_a_data_set():
    config = alexnet.get_config("pretrained,tiny")
    assert [stage.config.dataset.name for stage in recipe.stages(config)] == ["shapes", "shapes"]
    config.recipe.pretrain_dataset = ""
    with pytest.raises(UserError, match="needs recipe.pretrain_dataset"):
        recipe.stages(config)
