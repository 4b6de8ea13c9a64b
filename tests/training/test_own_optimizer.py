"""Any optimizer of optax through the same step: four devices make the updates of plain optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deepconv import models, parallel
from deepconv.training import state
from deepconv.training.step import make_train_step, state_specs
from tests.training.plain_optax import after_three_updates

ADAMW = optax.adamw(optax.cosine_decay_schedule(1e-3, 4))
CLIPPED = optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.1, momentum=0.9))


@pytest.mark.slow
@pytest.mark.parametrize("meshes", [parallel.data_mesh, parallel.tower_mesh])
@pytest.mark.parametrize("optimizer", [ADAMW, CLIPPED], ids=["adamw", "clipped"])
def test_four_devices_make_the_updates_of_plain_optax(optimizer, meshes):
    with jax.enable_x64(True):  # see test_step.exact
        model = models.create("alexnet", 5, width=1 / 16, crop=64, dropout=0.0, dtype=jnp.float64)
        mesh, target = meshes(jax.devices()[:4]), {"label": np.arange(8, dtype=np.int32) % 5}
        params = jax.device_get(model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))["params"])
        images = np.random.default_rng(0).normal(size=(8, 64, 64, 3)).astype(np.float32)
        batch = {"image": images, "target": target, "position": np.arange(8, dtype=np.uint32)}
        batch["mask"] = np.ones(8, bool)
        specs = state_specs(model, optimizer, mesh)
        placed = jax.tree.map(lambda spec: jax.sharding.NamedSharding(mesh, spec), specs)
        current = jax.device_put(state.create(params, optimizer), placed)
        own = {"learning_rate": lambda _: jnp.float32(0), "seed": 0}  # it has a rate of its own
        crops = lambda batch, _: (batch["image"], batch["target"])  # noqa: E731
        step = make_train_step(model, optimizer, crops, mesh, **own)
        for _ in range(3):
            current, _ = step(current, parallel.shard_batch(batch, mesh))
        expected = after_three_updates(model, optimizer, params, images, target["label"])
        for found, leaf in zip(*map(jax.tree.leaves, (current.params, expected)), strict=True):
            np.testing.assert_allclose(found, leaf, rtol=1e-4, atol=1e-6)
