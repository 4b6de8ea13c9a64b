"""One update: against plain autodiff on one device, and eight devices against one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deepconv import models, parallel
from deepconv.training import augment, losses, optimizer, state
from deepconv.training.step import example_keys, make_eval_step, make_train_step, state_specs

CROP, CLASSES, BATCH = 32, 5, 16


def make_batch(seed=0, masked=(), crop=CROP):
    rng = np.random.default_rng(seed)
    mask = np.ones(BATCH, bool)
    mask[list(masked)] = False
    return {
        "image": rng.integers(0, 256, (BATCH, crop, crop, 3), np.uint8),
        "target": {"label": rng.integers(0, CLASSES, BATCH).astype(np.int32)},
        "mask": mask,
        "offset": np.zeros((BATCH, 2), np.int32),
        "position": np.arange(BATCH, dtype=np.uint32) + 1000,
    }


MEAN = jnp.array([120.0, 110.0, 100.0])
PREPROCESS = functools.partial(
    augment.for_training,
    mean=MEAN,
    flip=True,
    pca_std=0.1,
    eigenvectors=jnp.eye(3),
    magnitudes=jnp.array([50.0, 5.0, 1.0]),
)


@pytest.fixture
def exact():
    """Let networks compute in float64; parameters, scores and gradients stay float32.

    In float32 rounding decides on which side of a ReLU's zero an output close to it lies, and
    which of two values is a window's maximum; the gradient then differs by whole terms. In float64
    that happens to none of the 2e5 outputs here, and two ways to one gradient differ by what
    `ROUNDING` says and no more.
    """
    with jax.enable_x64(True):
        yield


# The gradient by the scores is of float32, and up to 16 parts of the gradient by the parameters are
# summed in it: 16 roundings of 2^-24, of parts that cancel to no less than a tenth of their size.
ROUNDING = 16 * 10 * 2.0**-24


def make(mesh, dtype="float64", microbatches=1):
    model = models.create("vgg_a", CLASSES, width=1 / 16, crop=CROP, dtype=jnp.dtype(dtype))
    params = model.init(jax.random.key(0), jnp.zeros((1, CROP, CROP, 3)))["params"]
    ones = jax.tree.map(lambda _: 1.0, params)
    tx = optimizer.sgd(momentum=0.9, weight_decay=5e-4, lr_mults=ones, decay_mults=ones)
    step = make_train_step(
        model,
        tx,
        PREPROCESS,
        mesh,
        learning_rate=lambda _: jnp.float32(0.01),
        seed=3,
        microbatches=microbatches,
    )
    return model, step, parallel.replicate(state.create(params, tx), mesh)


def update(devices, masked=(), microbatches=1):
    """Return the state after one update, and its metrics."""
    mesh = parallel.data_mesh(jax.devices()[:devices])
    _, step, start = make(mesh, microbatches=microbatches)
    return jax.device_get(step(start, parallel.shard_batch(make_batch(masked=masked), mesh)))


def close(tree, other, tolerance):
    def compare(a, b):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert np.linalg.norm(a - b) <= tolerance * max(np.linalg.norm(b), 1e-12)

    jax.tree.map(compare, tree, other)


@pytest.mark.slow
@pytest.mark.parametrize("masked", [(), (0, 1, 2, 7)])
def test_one_update_is_the_gradient_of_the_mean_loss_and_the_papers_rule(exact, masked):
    mesh = parallel.data_mesh(jax.devices()[:1])
    model, step, start = make(mesh)
    params = jax.device_get(start.params)
    batch = make_batch(masked=masked)

    keys = functools.partial(example_keys, 3, jnp.asarray(batch["position"]))
    images, _ = PREPROCESS(batch, keys(0))
    kept = np.flatnonzero(batch["mask"])

    def loss_of(p):
        scores = model.apply({"params": p}, images, train=True, dropout_keys=keys(1))[:, 0, 0]
        log_p = scores - jax.nn.logsumexp(scores, axis=1, keepdims=True)
        return -jnp.mean(log_p[kept, batch["target"]["label"][kept]])

    loss, grads = jax.jit(jax.value_and_grad(loss_of))(params)
    expected = jax.tree.map(lambda w, g: w - 0.01 * (5e-4 * w + g), params, grads)
    after, metrics = step(start, parallel.shard_batch(batch, mesh))
    assert float(metrics["loss"]) == pytest.approx(float(loss), rel=ROUNDING)
    close(after.params, expected, ROUNDING)
    assert int(after.step) == 1


def assert_same_update(found, expected):
    (state, metrics), (expected_state, expected_metrics) = found, expected
    for name, value in expected_metrics.items():
        assert metrics[name] == pytest.approx(value, rel=ROUNDING), name
    close(state.opt_state, expected_state.opt_state, ROUNDING)
    close(state.params, expected_state.params, ROUNDING)


@pytest.mark.slow
def test_eight_devices_make_the_update_of_one(exact):
    assert_same_update(update(8), update(1))


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "microbatches"), [(1, 4), (2, 8)])
def test_microbatches_make_the_update_of_the_whole_batch(exact, devices, microbatches):
    masked = (0, 1, 2, 7)  # so that the parts have different numbers of examples
    found = update(devices, masked=masked, microbatches=microbatches)
    assert_same_update(found, update(1, masked=masked))


@pytest.mark.slow
def test_a_mask_that_falls_unevenly_on_devices_still_weighs_every_image_alike(exact):
    assert_same_update(update(8, masked=(0, 1, 2)), update(1, masked=(0, 1, 2)))


@pytest.mark.slow
def test_bfloat16_computes_near_float32_and_keeps_float32_parameters():
    mesh = parallel.data_mesh(jax.devices()[:1])
    batch = parallel.shard_batch(make_batch(), mesh)
    _, step32, start32 = make(mesh, "float32")
    _, step16, start16 = make(mesh, "bfloat16")
    after32, metrics32 = step32(start32, batch)
    after16, metrics16 = step16(start16, batch)
    assert float(metrics16["loss"]) == pytest.approx(float(metrics32["loss"]), rel=0.02)
    assert {leaf.dtype for leaf in jax.tree.leaves(after16.params)} == {jnp.dtype("float32")}
    update16, update32 = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(after.opt_state)])
        for after in (after16, after32)
    )
    # Outputs are off by 2^-9 of their size, and more with each layer: those that are all but zero
    # change sides of a ReLU, and their gradients come or go as a whole. The updates differ by 0.085
    # where it was measured; processors sum bfloat16 in several ways.
    assert np.linalg.norm(update16 - update32) < 0.2 * np.linalg.norm(update32)


def test_keys_depend_on_seed_position_and_purpose_alone():
    position = jnp.array([5, 9], jnp.uint32)
    data = jax.random.key_data(example_keys(1, position, 0))
    np.testing.assert_array_equal(data[1], jax.random.key_data(example_keys(1, position[1:], 0))[0])
    others = [example_keys(2, position, 0), example_keys(1, position, 1)]
    assert all((jax.random.key_data(other) != data).any(axis=1).all() for other in others)


@pytest.mark.slow
def test_eval_step_counts_like_numpy_on_any_number_of_devices():
    batch = make_batch(masked=(3, 15))
    counts = {}
    for devices in (1, 8):
        mesh = parallel.data_mesh(jax.devices()[:devices])
        model, _, current = make(mesh, "float32")
        evaluate = make_eval_step(model, functools.partial(augment.for_evaluation, mean=MEAN), mesh)
        counts[devices] = evaluate(current.params, parallel.shard_batch(batch, mesh))
    images = batch["image"].astype(np.float32) - np.asarray(MEAN)
    params = jax.device_get(current.params)
    scores = np.asarray(model.apply({"params": params}, images))[:, 0, 0].astype(np.float64)
    losses = np.log(np.exp(scores).sum(1)) - scores[np.arange(BATCH), batch["target"]["label"]]
    wrong = scores.argmax(1) != batch["target"]["label"]
    for found in counts.values():
        assert int(found["images"]) == BATCH - 2
        assert int(found["top1_error"]) == wrong[batch["mask"]].sum()
        assert int(found["top5_error"]) == 0
        assert float(found["loss"]) == pytest.approx(losses[batch["mask"]].sum(), rel=1e-4)


@pytest.mark.slow
def test_the_loss_falls_when_a_batch_is_learnt_by_heart():
    mesh = parallel.data_mesh(jax.devices()[:1])
    _, step, current = make(mesh, "float32")
    batch = parallel.shard_batch(make_batch(), mesh)
    losses = []
    for _ in range(40):
        current, metrics = step(current, batch)
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def tower_update(devices, model_devices):
    """Return the state after one update of a narrow AlexNet, its metrics, and the errors."""
    network = models.create(
        "alexnet", CLASSES, width=1 / 16, crop=64, initializer="he", dtype=jnp.float64
    )
    every = jax.devices()[:devices]
    mesh = parallel.tower_mesh(every) if model_devices == 2 else parallel.data_mesh(every)
    params = network.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))["params"]
    ones = jax.tree.map(lambda _: 1.0, params)
    tx = optimizer.sgd(momentum=0.9, weight_decay=5e-4, lr_mults=ones, decay_mults=ones)
    step = make_train_step(
        network, tx, PREPROCESS, mesh, learning_rate=lambda _: jnp.float32(0.001), seed=3
    )
    specs = state_specs(network, tx, mesh)
    start = jax.tree.map(
        lambda spec, leaf: jax.device_put(leaf, jax.sharding.NamedSharding(mesh, spec)),
        jax.tree.broadcast(specs, state.create(params, tx)),
        state.create(params, tx),
    )
    batch = parallel.shard_batch(make_batch(masked=(0, 1, 9), crop=64), mesh)
    current, metrics = step(start, batch)
    evaluate = make_eval_step(network, functools.partial(augment.for_evaluation, mean=MEAN), mesh)
    counts = evaluate(current.params, batch)
    assert current.params["conv1"]["kernel"].shape == params["conv1"]["kernel"].shape
    return jax.device_get(((current, metrics), counts))


@pytest.fixture(scope="module")
def one_device():
    with jax.enable_x64(True):
        return tower_update(1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 4, 8])
def test_towers_on_devices_of_their_own_make_the_update_of_one_device(exact, devices, one_device):
    found, counts = tower_update(devices, 2)
    expected, expected_counts = one_device
    assert_same_update(found, expected)
    for name in ("images", "top1_error", "top5_error"):
        assert counts[name] == expected_counts[name]
    assert counts["images"] == BATCH - 3
    assert counts["loss"] == pytest.approx(expected_counts["loss"], rel=ROUNDING)


@pytest.mark.parametrize(
    ("size", "loss", "words"),
    [
        (2 * CROP, losses.softmax_cross_entropy, r"shape \(16, 2, 2, 5\) .*score map is not 1x1"),
        (
            CROP,
            lambda scores, target, mask: {"loss": scores.sum(), "each": mask},
            "must sum 'each'",
        ),
    ],
)
def test_a_shape_that_would_be_wrong_in_silence_is_named(size, loss, words):
    mesh = parallel.data_mesh(jax.devices()[:1])
    model, _, start = make(mesh, "float32")
    tx = optax.sgd(0.1)
    step = make_train_step(
        model, tx, PREPROCESS, mesh, learning_rate=lambda _: jnp.float32(0), seed=0, loss=loss
    )
    current = parallel.replicate(state.create(start.params, tx), mesh)
    with pytest.raises(AssertionError, match=f"(?s){words}"):
        step(current, parallel.shard_batch(make_batch(crop=size), mesh))
