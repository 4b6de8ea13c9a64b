"""A wrong config dies at once, in one line that names the key."""

import json
from pathlib import Path

import pytest
from ml_collections import ConfigDict

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
from deepconv.config.check import check_config, from_json
from deepconv.config.identity import config_digest, fixed_settings
from deepconv.config.schema import create_model, drop_steps, flattened, num_steps
from deepconv.exceptions import UserError

CONFIGS = {
    "alexnet": alexnet,
    "cifar10": cifar10,
    "finetune": finetune,
    "localization": localization,
    "quickstart": quickstart,
    "vgg_a": vgg_a,
    "vgg_a_lrn": vgg_a_lrn,
    "vgg_b": vgg_b,
    "vgg_b_shallow": vgg_b_shallow,
    "vgg_c": vgg_c,
    "vgg_d": vgg_d,
    "vgg_e": vgg_e,
}
NAN, INF = float("nan"), float("inf")
TINY = sorted(set(CONFIGS) - {"cifar10", "finetune", "localization", "quickstart"})


def changed(**values):
    config = vgg_a.get_config()
    with config.unlocked(), config.ignore_type():
        config.update_from_flattened_dict(
            {key.replace("__", "."): value for key, value in values.items()}
        )
    return config


def forced(key, value):
    """Return a config with a value that ConfigDict might convert."""
    settings = vgg_a.get_config().to_dict()
    *sections, name = key.split(".")
    section = settings
    for part in sections:
        section = section[part]
    section[name] = value
    return ConfigDict(settings)


def test_every_file_in_configs_is_tested_here():
    files = {path.stem for path in Path("configs").glob("*.py")}
    assert files == set(CONFIGS)


@pytest.mark.parametrize("name", CONFIGS)
def test_named_configs_are_sound(name):
    check_config(CONFIGS[name].get_config())


@pytest.mark.parametrize("name", TINY)
def test_tiny_configs_are_sound_and_name_the_same_network(name):
    tiny = CONFIGS[name].get_config("tiny")
    check_config(tiny)
    assert tiny.model.name == CONFIGS[name].get_config().model.name == name
    assert tiny.dataset.name == "shapes"


def test_a_network_that_comes_with_weights_has_to_be_read_first():
    config = finetune.get_config()
    with pytest.raises(UserError, match=r"^model\.name='inherited' is the network of init\.check"):
        create_model(config, 10)
    config.input.scale = (256, 0)
    with pytest.raises(UserError, match=r"^input\.scale=\(256, 0\) must be"):
        check_config(config)


def test_the_papers_numbers():
    for name, batch, epochs in (("alexnet", 128, 90), ("vgg_d", 256, 74)):
        config = CONFIGS[name].get_config()
        assert (config.train.batch_size, config.train.epochs) == (batch, epochs)
        assert config.optimizer.learning_rate == 0.01
        assert config.optimizer.momentum == 0.9
        assert config.optimizer.weight_decay == 5e-4
        assert (config.plateau.factor, config.plateau.max_drops) == (0.1, 3)
        assert (config.model.crop, config.model.dropout) == (224, 0.5)
        assert config.input.scale == (256, 256)


def test_steps_of_the_papers_epochs():
    # 74 epochs of 1.28 million images in batches of 256 are the paper's 370,000 updates.
    assert num_steps(vgg_a.get_config(), 1_280_000) == 370_000
    assert num_steps(changed(train__epochs=1.0), 257) == 2


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"optimizer__lrr": 0.1}, "optimizer.lrr"),
        ({"colour": 1}, "colour"),
        ({"model__name": "vgg_f"}, "'vgg_f'"),
        ({"model__towers": 2}, "vgg_a has no option 'towers'"),
        ({"model__initializer": "magic"}, "'magic'"),
        ({"model__width": -1.0}, "model.width"),
        ({"model__crop": 16}, "too small for layer pool5"),
        ({"model__dtype": "float16"}, "model.dtype='float16'"),
        ({"input__scale": (200, 256)}, r"input.scale=\(200, 256\) starts below model.crop=224"),
        ({"input__scale": (384, 256)}, "input.scale"),
        ({"input__mean": "image"}, "input.color='computed' or 'inherited'"),
        ({"input__color": "lab"}, "input.color='lab'"),
        ({"evaluation__scale": 128}, "evaluation.scale=128 is below"),
        ({"augment__pca_magnitude": "cube"}, "'cube'"),
        ({"train__model_devices": 3}, "train.model_devices=3 must be 1 or 2"),
        ({"train__model_devices": 2}, "needs a network with two towers"),
        ({"train__batch_size": 0}, "train.batch_size=0"),
        ({"train__batch_size": "many"}, "train.batch_size='many' is not of type int"),
        ({"plateau__patience": 0}, "plateau.patience=0"),
        ({"schedule__name": "linear"}, "schedule.name='linear' must be 'plateau' or 'constant' or"),
        ({"schedule__name": "steps"}, "schedule.name='steps' needs schedule.drop_epochs"),
        (
            {"schedule__drop_epochs": (2.0,)},
            r"drop_epochs=\(2.0,\) has no effect with schedule.name='plateau'; .*name='steps'",
        ),
        (
            {"schedule__warmup_epochs": 2.0, "schedule__name": "constant"},
            "warmup_epochs=2.0 has no effect with schedule.name='constant'; .*name='cosine'",
        ),
        (
            {"schedule__warmup_epochs": 74.0, "schedule__name": "cosine"},
            "schedule.warmup_epochs=74.0 must be below train.epochs=74.0",
        ),
        ({"optimiser": 0.1}, r"did you mean the section optimizer\?"),
        ({"batch_size": 3}, r"batch_size; did you mean evaluation.batch_size or train.batch_size"),
        ({"optimizer__lr": 0.1}, r"optimizer.lr; did you mean optimizer.learning_rate\?"),
        (
            {"optimizer__xyz": 0.1},
            "optimizer.xyz; known keys: optimizer.learning_rate, optimizer.m",
        ),
    ],
)
def test_what_is_wrong_is_named(values, words):
    with pytest.raises(UserError, match=words) as error:
        check_config(changed(**values))
    assert "\n" not in str(error.value)


# For each key, what it must not be; every number must besides be a number and not a bool.
OUT_OF_RANGE = {
    "seed": (-1, 2**32, 0.5),
    "model.crop": (-224, 0, 224.5),
    "model.width": (0.0, -1.0),
    "model.dropout": (1.0, -0.1),
    "input.scale": ((256, 256.5), (256,), (256, 256, 256), (0, 256), (True, 256), ("256", "256")),
    "input.max_unreadable": (-0.01, 1.01),
    "input.threads": (-1,),
    "input.workers": (-1,),
    "augment.pca_std": (-0.1,),
    "optimizer.learning_rate": (-1.0, 0.0, 1e39),
    "optimizer.momentum": (1.5, 1.0, -0.1),
    "optimizer.weight_decay": (-1.0,),
    "optimizer.multipliers": (
        ("fc8", 1.0, 0.0),
        (("fc8", 1.0),),
        (("fc8", 1.0, -1.0),),
        (("fc8", -1.0, 1.0),),
        (("fc8", NAN, 1.0),),
        (("fc8", True, 1.0),),
        (("fc8(", 1.0, 1.0),),
        ((8, 1.0, 1.0),),
    ),
    "schedule.drop_epochs": ((0.0, 1.0), (2.0, 1.0), (1.0, 1.0), (1.0, NAN), (INF,), ("1",)),
    "schedule.warmup_epochs": (-1.0,),
    "plateau.factor": (10.0, 1.0, 0.0, -0.1),
    "plateau.max_drops": (-1,),
    "plateau.patience": (0,),
    "plateau.min_delta": (-1.0, 1.0),
    "train.batch_size": (0, -1),
    "train.microbatches": (0, -1),
    "train.epochs": (0.0, -1.0),
    "train.log_steps": (0, -1),
    "train.model_devices": (0, 3),
    "evaluation.scale": (0, -256),
    "evaluation.batch_size": (0, -1),
    "evaluation.every_epochs": (0.0, -1.0),
    "checkpoint.every_steps": (0, -1),
    "checkpoint.keep": (0, -1),
}


def test_every_key_that_holds_numbers_has_its_bounds_tested():
    numeric = {
        key for key, value in flattened(vgg_a.get_config()) if type(value) in (int, float, tuple)
    }
    assert numeric == set(OUT_OF_RANGE)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (key, value)
        for key, values in OUT_OF_RANGE.items()
        for value in (*values, NAN, INF, -INF, True, None, "1")
    ],
)
def test_a_number_out_of_its_range_is_named(key, value):
    with pytest.raises(UserError) as error:
        check_config(forced(key, value))
    assert str(error.value).startswith(f"{key}={value!r} ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["init.layers", "optimizer.trained_layers"])
def test_what_is_no_regular_expression_is_named(key):
    with pytest.raises(UserError, match=rf"{key}='conv\(' must be a regular expression"):
        check_config(changed(**{key: "conv("}))


def test_the_bounds_themselves_are_sound():
    values = {
        "seed": 2**32 - 1,
        "input.max_unreadable": 1.0,
        "optimizer.momentum": 0.0,
        "optimizer.weight_decay": 0.0,
        "optimizer.multipliers": (("fc8/.*", 1, 0),),
        "augment.pca_std": 0.0,
        "plateau.max_drops": 0,
        "schedule.name": "steps",
        "schedule.drop_epochs": (1, 2.5),
        "train.epochs": 3,  # a whole number where another may stand
        "model.dropout": 0,
        "input.workers": 2,
    }
    check_config(changed(**values))


def test_the_updates_at_which_the_rate_drops_lie_within_the_run():
    config = changed(**{"schedule.drop_epochs": (1.0, 2.5, 3.0, 1e30), "train.epochs": 3.0})
    assert drop_steps(config, 2560) == (10, 25)


def test_a_missing_key_is_named():
    config = vgg_a.get_config()
    with config.unlocked():
        del config.train.epochs
    with pytest.raises(UserError, match="is missing the key train.epochs"):
        check_config(config)


@pytest.mark.parametrize("preset", alexnet.PRESETS)
def test_presets_of_alexnet_are_sound_and_can_be_tiny(preset):
    for variant in (preset, f"{preset},tiny"):
        check_config(alexnet.get_config(variant))


def test_an_unknown_preset_of_alexnet_is_named():
    with pytest.raises(
        UserError, match="'torch'; it has paper, original_code, caffe, pretrained, tiny"
    ):
        alexnet.get_config("torch")
    with pytest.raises(UserError, match="paper,caffe names 2 presets; choose one"):
        alexnet.get_config("paper,caffe")


def test_an_unknown_variant_is_named():
    with pytest.raises(UserError, match="'huge'.*256, 384, jitter, tiny"):
        vgg_e.get_config("huge")


def test_fixed_settings_survive_json_and_leave_out_what_may_change():
    config = vgg_a.get_config()
    fixed = fixed_settings(config)
    assert fixed["optimizer.learning_rate"] == 0.01
    assert fixed["seed"] == 0
    assert "input.threads" not in fixed
    read_back = ConfigDict(json.loads(json.dumps(config.to_dict())))
    assert fixed_settings(read_back) == fixed


def test_the_schedule_of_an_earlier_run_is_read_from_its_old_place():
    settings = changed(schedule__name="steps", schedule__drop_epochs=(2.0, 5.0)).to_dict()
    expected = ConfigDict(settings).to_dict()
    settings["plateau"]["drop_epochs"] = settings.pop("schedule")["drop_epochs"]
    assert from_json(json.dumps(settings)).to_dict() == expected
    settings["plateau"]["drop_epochs"] = ()
    assert from_json(json.dumps(settings)).to_dict() == vgg_a.get_config().to_dict()


def test_the_digest_changes_with_what_matters_only():
    digest = config_digest(vgg_a.get_config())
    assert config_digest(changed(input__threads=3)) == digest
    assert config_digest(changed(seed=3)) != digest
