"""A run that starts from a file of weights: fc8 anew, layers frozen by pattern, slower below."""

import numpy as np
import pytest

from configs import finetune
from deepconv import trained
from deepconv.training import loop
from deepconv.user_error import UserError


def config_from(file, shapes_root):
    config = finetune.get_config("tiny")
    config.update_from_flattened_dict(
        {
            "model.crop": 32,
            "model.width": 1 / 64,
            "input.scale": (36, 36),
            "evaluation.scale": 36,
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


def test_frozen_layers_keep_their_bits_and_others_move(narrow_file, shapes_root, tmp_path):
    loop.train(config_from(narrow_file, shapes_root), tmp_path / "run")
    before, after = trained.load(narrow_file).params, trained.load(tmp_path / "run").params
    moved = {
        layer: not np.array_equal(parts["kernel"], after[layer]["kernel"])
        for layer, parts in before.items()
        if layer != "fc8"
    }
    frozen = {"conv1_1", "conv2_1", "conv3_1", "conv3_2"}
    assert {layer for layer, it_did in moved.items() if not it_did} == frozen
    assert after["fc8"]["kernel"].shape == (1, 1, 64, 12)  # it was of five classes


def test_a_file_that_does_not_fit_is_one_line(narrow_file, shapes_root, tmp_path):
    config = config_from(narrow_file, shapes_root)
    config.model.width = 1 / 32
    with pytest.raises(UserError, match=r"cannot start from .*narrow\.safetensors: layer conv1_1"):
        loop.train(config, tmp_path / "run")
