"""A loss and a metric of a user's own, through the loop as it is."""

import jax
import jax.numpy as jnp
import pytest

from configs import quickstart
from deepconv.run import log
from deepconv.training import loop
from deepconv.training.losses import Task


def squared_error(scores, target, mask):
    """Regress the one-hot vector of the label, as a network without a softmax would."""
    error = (scores - jax.nn.one_hot(target["label"], scores.shape[1])) ** 2
    return {"loss": jnp.where(mask, error.sum(axis=1), 0.0).sum()}


def distance(scores, target, mask):
    """Sum how far the best class is from the true one; falls and rises, unlike the loss."""
    apart = jnp.abs(scores.argmax(axis=1) - target["label"])
    return {**squared_error(scores, target, mask), "distance": jnp.where(mask, apart, 0).sum()}


@pytest.mark.slow
def test_a_loss_and_a_metric_of_ones_own(shapes_root, tmp_path):
    config = quickstart.get_config()
    config.model.width, config.train.epochs = 1 / 16, 3.0
    splits = {"train_split": "train[:64]", "eval_split": "validation[:40]"}
    config.dataset.update(data_dir=str(shapes_root), **splits)
    config.train.update(batch_size=16, log_steps=1)
    config.evaluation.batch_size = 16
    result = loop.train(config, tmp_path, task=Task(squared_error, distance, "distance"))
    rows = log.read_metrics(tmp_path / "metrics.jsonl")
    losses = [row["loss"] for row in rows if row["kind"] == "train"]
    assert sum(losses[-4:]) < sum(losses[:4])
    best = min((row for row in rows if row["kind"] == "eval"), key=lambda row: row["distance"])
    assert result["best"] == {key: value for key, value in best.items() if key != "kind"}
    assert set(result["last"]) == {"step", "epoch", "images", "loss", "distance"}
