"""A run's folder is all that is needed to use the network it trained."""

import json

import jax
import numpy as np
import pytest

from deepconv import parallel
from deepconv.config.check import from_json
from deepconv.config.identity import config_digest
from deepconv.exceptions import UserError
from deepconv.inference.model import open_model
from deepconv.run.parameters import SavedParameters

EVERYWHERE = parallel.replicated(parallel.data_mesh())


@pytest.mark.parametrize("which", ["last", "best"])
def test_a_run_is_loaded_with_all_it_needs(narrow_run, which):
    trained = open_model(narrow_run, EVERYWHERE, checkpoint=which)
    assert (trained.name, trained.step) == ("narrow", 2)
    assert trained.class_names[:2] == ("disk", "ring")
    assert trained.config.input.scale == (36, 40)
    assert config_digest(trained.config) in (narrow_run / "result.json").read_text()
    assert trained.colors.mean_image.shape == (36, 36, 3)
    scores = trained.network.apply({"params": trained.params}, np.zeros((2, 32, 32, 3)))
    assert scores.shape == (2, 1, 1, 12)
    assert np.isfinite(scores).all()


def test_the_last_parameters_are_those_of_the_newest_checkpoint(narrow_run):
    last = open_model(narrow_run, EVERYWHERE).params
    saved = SavedParameters(narrow_run, which="best")
    best = saved.read(list(saved.shapes), EVERYWHERE)  # of the same, only, evaluation
    jax.tree.map(np.testing.assert_array_equal, last, best)


def test_what_is_missing_is_named(narrow_run, tmp_path):
    with pytest.raises(UserError, match=r"is not a run's folder: .*config\.json does not exist"):
        open_model(tmp_path, EVERYWHERE)
    for name in ("config.json", "colors.npz", "class_names.json"):
        (tmp_path / name).write_bytes((narrow_run / name).read_bytes())
    with pytest.raises(UserError, match="has no checkpoint"):
        open_model(tmp_path, EVERYWHERE)
    for text, message in (
        ("{", "does not contain a config"),
        ("[1]", "does not contain a config"),
        ('{"sead": 0}', "sead"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UserError, match=f"cannot be read: .*{message}"):
            open_model(tmp_path, EVERYWHERE)


def test_a_run_from_before_a_key_existed_has_its_default(narrow_run):
    settings = json.loads((narrow_run / "config.json").read_text())
    del settings["train"]["model_devices"], settings["augment"]
    config = from_json(json.dumps(settings))
    assert config.train.model_devices == 1
    assert config.augment.pca_std == 0.1
    assert config.input.scale == (36, 40)
