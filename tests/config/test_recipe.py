"""The stages of VGG's recipe against section 3.1, of AlexNet's pre-training against 6.1."""

import pytest
from ml_collections import ConfigDict

from configs import alexnet, localization, quickstart, vgg_a, vgg_a_lrn, vgg_d, vgg_e
from deepconv.config import recipe
from deepconv.config.check import check_config
from deepconv.config.identity import fixed_settings
from deepconv.config.schema import create_model
from deepconv.exceptions import UserError
from deepconv.training import start
from experiments import vgg_tables


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
            for layer in create_model(stage.config, 1000).layers
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
                check_config(stage.config)
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
            for layer in create_model(stage.config, classes).layers
            if hasattr(layer, "kernel")
        }
        for stage, classes in ((first, 22_000), (second, 1000))
    ]
    plan = start.plan_transfer(nets[1], nets[0], second.config.init.layers)
    assert plan.copied == ("conv1", "conv2", "conv3", "conv4", "conv5", "conv6", "fc6", "fc7")
    assert plan.random == ("fc8",)
    for stage in (first, second):
        check_config(stage.config)
        assert recipe.stages(stage.config) == (recipe.Stage(".", stage.config, None),)


def initial(config, **values):
    """Return what each stage copies, from what, and what it trains, with some settings changed."""
    config.update_from_flattened_dict(
        {key.replace("__", "."): value for key, value in values.items()}
    )
    return [
        (
            stage.name,
            stage.source or stage.config.init.checkpoint,
            stage.config.init.layers,
            stage.config.optimizer.trained_layers,
        )
        for stage in recipe.stages(config)
    ]


def test_what_a_run_starts_from_concerns_the_first_stage_alone():
    start = {"init__checkpoint": "vgg16.safetensors", "init__layers": recipe.ALL_BUT_FC8}
    assert initial(vgg_d.get_config(), recipe__pretrain=False, **start) == [
        ("vgg_d_256", "vgg16.safetensors", recipe.ALL_BUT_FC8, ".*"),
        ("vgg_d_384", "vgg_d_256", ".*", ".*"),
        ("vgg_d_jitter", "vgg_d_384", ".*", ".*"),
    ]
    assert initial(alexnet.get_config("pretrained"), **start) == [
        ("alexnet_pretraining", "vgg16.safetensors", recipe.ALL_BUT_FC8, ".*"),
        ("alexnet_finetuning", "alexnet_pretraining", recipe.ALL_BUT_FC8, ".*"),
    ]


def test_which_layers_train_concerns_the_last_stage_alone():
    fc = {"optimizer__trained_layers": "fc.*"}
    assert initial(vgg_d.get_config("384"), **fc) == [
        ("vgg_a_256", "", ".*", ".*"),
        ("vgg_d_256", "vgg_a_256", recipe.FROM_A, ".*"),
        ("vgg_d_384", "vgg_d_256", ".*", "fc.*"),
    ]
    assert [row[3] for row in initial(alexnet.get_config("pretrained"), **fc)] == [".*", "fc.*"]
    assert initial(vgg_a.get_config("256"), **fc) == [("vgg_a_256", "", ".*", "fc.*")]


def test_the_submissions_net_differs_in_its_last_stage_which_has_a_folder_of_its_own():
    submission = recipe.stages(vgg_d.get_config("submission"))
    everything = recipe.stages(vgg_d.get_config())
    assert submission[:-1] == everything[:-1]
    assert submission[-1].source == everything[-1].source == "vgg_d_384"
    settings, all_layers = (
        fixed_settings(stages[-1].config) for stages in (submission, everything)
    )
    assert settings["optimizer.trained_layers"] == "fc.*"
    assert settings == all_layers | {"optimizer.trained_layers": "fc.*"}
    assert submission[-1].name == "vgg_d_jitter_fc"
    assert any("vgg_d_jitter_fc" in dict(row.stages) for row in vgg_tables.ROWS)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"init__layers": "conv.*"}, "init.layers='conv.*' has no effect without init.checkpoint"),
        (
            {"init__checkpoint": "x"},
            "vgg_d cannot start from both init.checkpoint=x and net A",
        ),
        ({"input__scale": (256, 512)}, r"input.scale=\(256, 512\) .* must be \(S, S\)"),
        ({"evaluation__scale": 384}, "evaluation.scale=384 must be"),
        ({"input__scale": ()}, r"input.scale=\(\) must be \(smallest, largest\)"),
        ({"optimizer__learning_rate": -1.0}, "optimizer.learning_rate=-1.0 must be positive"),
    ],
)
def test_a_key_that_a_recipe_would_ignore_or_misread_is_named(values, words):
    with pytest.raises(UserError, match=words):
        initial(vgg_d.get_config(), **values)


def test_two_last_stages_are_one_too_many():
    with pytest.raises(UserError, match="vgg_d.py:384,submission names 2 last stages; choose one"):
        vgg_d.get_config("384,submission")


def test_pretraining_needs_a_data_set():
    config = alexnet.get_config("pretrained,tiny")
    assert [stage.config.dataset.name for stage in recipe.stages(config)] == ["shapes", "shapes"]
    config.recipe.pretrain_dataset = ""
    with pytest.raises(UserError, match="needs recipe.pretrain_dataset"):
        recipe.stages(config)


def test_localization_is_trained_from_the_classifier_of_its_scale():
    assert summary(localization.get_config()) == [
        ("vgg_a_256", None, (256, 256), 256, 0.01),
        ("vgg_d_256", "vgg_a_256", (256, 256), 256, 0.01),
        ("vgg_d_384", "vgg_d_256", (384, 384), 384, 0.001),
        ("vgg_d_384_boxes_per_class", "vgg_d_384", (384, 384), 384, 0.001),
    ]
    assert summary(localization.get_config("256,single,fc"))[-1] == (
        "vgg_d_256_boxes_single_fc",
        "vgg_d_256",
        (256, 256),
        256,
        0.001,
    )


def test_classifiers_of_localization_are_those_of_vgg_d():
    *classifiers, _ = recipe.stages(localization.get_config("384"))
    expected = recipe.stages(vgg_d.get_config("384"))
    assert [fixed_settings(stage.config) for stage in classifiers] == [
        fixed_settings(stage.config) for stage in expected
    ]


@pytest.mark.parametrize(("variant", "layers"), [("all", ".*"), ("fc", "fc.*")])
def test_all_layers_but_the_last_come_from_the_classifier(variant, layers):
    *classifiers, boxes = recipe.stages(localization.get_config(variant))
    assert boxes.config.init.layers == recipe.ALL_BUT_FC8
    assert boxes.config.optimizer.trained_layers == layers
    assert {stage.config.optimizer.trained_layers for stage in classifiers} == {".*"}
    assert boxes.config.model.boxes == "per_class"
    assert all("boxes" not in stage.config.model for stage in classifiers)


def test_a_given_classifier_is_not_trained_again():
    config = localization.get_config("tiny")
    config.init.checkpoint = "vgg16.safetensors"
    (stage,) = recipe.stages(config)
    assert (stage.name, stage.source) == ("vgg_d_384_boxes_per_class", None)
    assert stage.config.init.checkpoint == "vgg16.safetensors"
    assert stage.config.input.color == "inherited"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.boxes", "", "needs model.boxes"),
        ("model.boxes", "two", "model.boxes='two' must be '' or 'single' or 'per_class'"),
        ("recipe.stage", "jitter", "one of 256, 384"),
    ],
)
def test_wrong_settings_of_localization(key, value, message):
    config = localization.get_config()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message):
        recipe.stages(config)


def test_variants_of_localization_that_exclude_each_other():
    with pytest.raises(UserError, match="choose one of 256 and 384"):
        localization.get_config("384,256")
