"""Figure 1: no regularization at all, the rate tuned for each net, the epochs to 25 % error."""

import json

import numpy as np
import pytest

from configs import cifar10
from deepconv.config.check import check_config
from deepconv.config.schema import create_model
from deepconv.exceptions import DivergenceError, UserError
from deepconv.training import loop
from experiments import comparison, lrn, relu
from experiments.comparison import Curve


def test_nothing_regularizes():
    config = relu.config_of("tanh", 0.003, 5.0)
    check_config(config)
    network = create_model(config, 10)
    assert {layer.function for layer in network.layers if hasattr(layer, "function")} == {"tanh"}
    assert config.optimizer.weight_decay == 0
    assert (config.augment.flip, config.augment.pca_std) == (False, 0.0)
    assert config.input.scale == (config.model.crop, config.model.crop)  # one crop fits


def curve(*errors):
    return Curve(np.arange(1.0, len(errors) + 1), np.array(errors))


def test_the_ratio_is_of_the_epochs_to_a_quarter():
    fast, slow, never = curve(0.5, 0.25), curve(0.9, 0.6, 0.5, 0.3, 0.2, 0.1), curve(0.9, 0.8)
    assert relu.rows([fast, fast], [slow, slow]) == [
        ("0", 2.0, 5.0, 2.5, 6.0),
        ("1", 2.0, 5.0, 2.5, 6.0),
        ("mean", 2.0, 5.0, 2.5, 6.0),
    ]
    assert relu.rows([fast], [never])[0] == ("0", 2.0, None, None, 6.0)
    assert relu.rows([fast], [never])[1] == ("mean", 2.0, None, None, 6.0)


@pytest.fixture
def runs(monkeypatch):
    """Let a run end with an error that depends on its rate, or diverge."""
    ends = {3e-4: 0.6, 1e-3: 0.4, 3e-3: 0.5}

    def train(config, folder, source=None):
        rate = config.optimizer.learning_rate
        if rate not in ends:
            raise DivergenceError("the loss is nan")
        folder.mkdir(parents=True, exist_ok=True)
        row = {"step": 1, "kind": "train", "epoch": 1.0, "top1_error": ends[rate]}
        (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")

    monkeypatch.setattr(loop, "train", train)
    return ends


def test_the_rate_with_the_lowest_training_error_is_taken(runs, tmp_path, capsys):
    assert relu.tuned("relu", tmp_path, 1.0) == 1e-3
    table = (tmp_path / "tuning_relu.txt").read_text()
    assert [line.split() for line in table.splitlines()[2:]] == [
        ["0.0003", "60.0"],
        ["0.001", "40.0"],
        ["0.003", "50.0"],
        ["0.01", "-"],
        ["0.03", "-"],
    ]


def test_a_net_that_diverges_at_every_rate(runs, tmp_path):
    runs.clear()
    with pytest.raises(UserError, match="the tanh net diverges"):
        relu.tuned("tanh", tmp_path, 1.0)


def test_the_figure_has_a_line_per_seed_and_the_target():
    curves = {"relu": [curve(0.5, 0.2)] * 2, "tanh": [curve(0.7, 0.6)] * 2}
    (axes,) = relu.figure(curves).axes
    assert [line.get_linestyle() for line in axes.lines] == ["-", "-", "--", "--", ":"]
    assert axes.get_ylim() == (0, 75)


def test_the_nets_with_and_without_normalization():
    for _, variant, paper in lrn.NETS:
        config = lrn.config_of(variant, 100.0)
        check_config(config)
        assert config.model.name == cifar10.get_config(variant).model.name
        assert config.schedule.drop_epochs == (85.0, 95.0)
        assert f"{paper:g}pct" == variant


def test_curves_are_drawn_in_percent():
    (axes,) = comparison.draw({"a": [curve(0.5, 0.25)]}, ylabel="error").axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [50.0, 25.0])
