"""A run that starts from a file of weights: fc8 anew, layers frozen by pattern, slower below."""

import numpy as np
import pytest

from configs import finetune
from deepconv import preprocess
from deepconv.config.check import check_config
from deepconv.data import color
from deepconv.exceptions import UserError
from deepconv.inference import model
from deepconv.run import weights_file
from deepconv.training import loop, start

pytestmark = pytest.mark.slow


def config_from(file, shapes_root):
    config = finetune.get_config("tiny")
    config.update_from_flattened_dict(
        {
            "dataset.data_dir": str(shapes_root),
            "dataset.train_split": "train[:64]",
            "dataset.eval_split": "validation[:24]",
            "train.batch_size": 32,
            "train.epochs": 2.0,
            "optimizer.learning_rate": 0.1,
            "evaluation.batch_size": 24,
            "init.checkpoint": str(file),
        }
    )
    return config


def of_network(config, *, scale):
    """Return a config that names its network."""
    config = config.copy_and_resolve_references().unlock()
    config.model.update(name="vgg_a", crop=32, width=1 / 64)
    config.input.scale, config.evaluation.scale = (scale, scale), scale
    return config.lock()


def test_frozen_layers_keep_their_bits_and_see_the_same_pixels(narrow_file, shapes_root, tmp_path):
    loop.train(config_from(narrow_file, shapes_root), tmp_path / "run")
    source, run = model.open_model(narrow_file), model.open_model(tmp_path / "run")
    np.testing.assert_array_equal(run.colors.mean_rgb, source.colors.mean_rgb)
    before, after = source.params, run.params
    moved = {
        layer: not np.array_equal(parts["kernel"], after[layer]["kernel"])
        for layer, parts in before.items()
        if layer != "fc8"
    }
    frozen = {"conv1_1", "conv2_1", "conv3_1", "conv3_2"}
    assert {layer for layer, it_did in moved.items() if not it_did} == frozen
    assert after["fc8"]["kernel"].shape == (1, 1, 64, 12)  # it was of five classes


def test_a_file_that_does_not_fit_is_one_line_and_the_folder_stays_free(
    narrow_file, shapes_root, tmp_path
):
    config = of_network(config_from(narrow_file, shapes_root), scale=36)
    for width in (1 / 32, 1 / 16):
        config.model.width = width
        with pytest.raises(
            UserError, match=r"cannot start from .*narrow\.safetensors: layer conv1_1"
        ):
            loop.train(config, tmp_path / "run")


def test_the_mean_is_that_of_the_source_or_refused(narrow_file, narrow_run, shapes_root, tmp_path):
    tensors, about = weights_file.read(narrow_file)
    image = np.random.default_rng(0).uniform(0, 255, (36, 36, 3)).astype(np.float32)
    file = tmp_path / "image.safetensors"
    weights_file.write(file, {**tensors, "mean_image": image}, {**about, "scale": 36})
    config = of_network(config_from(file, shapes_root), scale=36)
    with pytest.raises(UserError, match="a mean image: set input.mean='image' and input.square"):
        loop.train(config, tmp_path / "run")
    config.input.mean, config.input.square = "image", True
    config.optimizer.trained_layers = "fc9"  # ends before anything is compiled
    with pytest.raises(UserError, match="fc9"):
        loop.train(config, tmp_path / "run")
    kept = color.load(tmp_path / "run" / "colors.npz")
    np.testing.assert_array_equal(preprocess.mean_for(kept, "image", square=36), image)
    config.input.scale, config.evaluation.scale = (40, 40), 40
    with pytest.raises(UserError, match="its mean image has side 36, but evaluation.scale=40"):
        loop.train(config, tmp_path / "run")
    config.init.checkpoint = str(narrow_run)
    with pytest.raises(UserError, match=r"narrow: .*the mean RGB: set input\.mean='rgb'"):
        loop.train(config, tmp_path / "run")
    for nameless in (config, finetune.get_config()):
        nameless.init.checkpoint = ""
        with pytest.raises(UserError, match=r"^init\.checkpoint is not set"):
            loop.train(nameless, tmp_path / "run")


def test_the_network_and_its_input_are_those_of_the_weights(narrow_file, narrow_run, tmp_path):
    tensors, about = weights_file.read(narrow_file)
    image = np.zeros((40, 40, 3), np.float32)
    with_image = tmp_path / "image.safetensors"
    weights_file.write(with_image, {**tensors, "mean_image": image}, {**about, "scale": 40})
    for source, scales, mean in (
        (narrow_file, (37, 37, 37), "rgb"),
        (narrow_run, (36, 40, 36), "rgb"),
        (with_image, (40, 40, 40), "image"),
    ):
        config = start.resolved(finetune.get_config(), source, tmp_path / "new")
        assert (*config.input.scale, config.evaluation.scale) == scales
        assert (config.model.name, config.model.crop) == ("vgg_a", 32)
        assert config.model.width == model.load_input(source)[0].model.width
        assert (config.input.mean, config.input.square) == (mean, mean == "image")
        check_config(config)
    wider = finetune.get_config()
    wider.model.crop, wider.input.scale = 64, (70, 90)
    with wider.unlocked():
        wider.model.boxes = "single"
    config = start.resolved(wider, narrow_file, tmp_path / "new")
    assert (config.model.crop, config.input.scale, config.evaluation.scale) == (64, (70, 90), 37)
    assert config.model.boxes == "single"
    # A run that has begun is continued without its source.
    config = start.resolved(finetune.get_config(), tmp_path / "gone", narrow_run)
    assert config.model.width == 1 / 32
