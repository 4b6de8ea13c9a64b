"""Any optimizer of optax through the same step: four devices make the updates of plain optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deepconv import models, parallel
from deepconv.training import state
from deepconv.training.step import make_train_step, state_specs

OPTIMIZERS = {
    "adamw": optax.adamw(optax.cosine_decay_schedule(1e-3, 4)),
    "clipped": optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.1, momentum=0.9)),
}


@pytest.mark.parametrize("towers", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_four_devices_make_the_updates_of_plain_optax(optimizer, towers):
    with jax.enable_x64(True):  # see test_step.exact
        model = models.create("alexnet", 5, width=1 / 16, crop=64, dropout=0.0, dtype=jnp.float64)
        mesh = (parallel.tower_mesh if towers else parallel.data_mesh)(jax.devices()[:4])
        params = model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))["params"]
        params = jax.device_get(params)  # the step takes the memory of what it is given
        images = np.random.default_rng(0).normal(size=(8, 64, 64, 3)).astype(np.float32)
        labels, mask = np.arange(8, dtype=np.int32) % 5, np.ones(8, bool)
        batch = {"image": images, "mask": mask, "position": np.arange(8, dtype=np.uint32)}
        batch["target"] = {"label": labels}
        specs = state_specs(model, optimizer, mesh)
        current = jax.device_put(
            state.create(params, optimizer),
            jax.tree.map(lambda spec: jax.sharding.NamedSharding(mesh, spec), specs),
        )
        step = make_train_step(
            model, optimizer, lambda batch, _: batch["image"], mesh, learning_rate=rate, seed=0
        )
        for _ in range(3):
            current, _ = step(current, parallel.shard_batch(batch, mesh))
        expected = plain_optax(model, optimizer, params, images, labels)
        for found, leaf in zip(jax.tree.leaves(current.params), expected, strict=True):
            np.testing.assert_allclose(found, leaf, rtol=1e-4, atol=1e-6)


def rate(_):
    return jnp.float32(0)  # the optimizer has its own


def plain_optax(model, optimizer, params, images, labels):
    def loss(params):
        scores = model.apply({"params": params}, images)[:, 0, 0]
        return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()

    kept = optimizer.init(params)
    for _ in range(3):
        updates, kept = optimizer.update(jax.grad(loss)(params), kept, params)
        params = optax.apply_updates(params, updates)
    return jax.tree.leaves(params)
