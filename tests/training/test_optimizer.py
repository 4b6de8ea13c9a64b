"""The update rule against the paper's vectors, a float64 reference and optax's own pieces."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deepconv.training import optimizer

# AlexNet section 5 worked by hand for w = 1, v = 0, gradient 0.5; the rate drops before the third.
RATES = [0.01, 0.01, 0.001]
VELOCITIES = [-0.005005, -0.009509474975, -0.009059020220262512]
WEIGHTS = [0.994995, 0.985485525025, 0.9764265048047375]

PARAMS = {
    "conv1": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
    "fc8": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
}


def one(value: float) -> dict:
    return jax.tree.map(lambda _: value, PARAMS)


def test_update_matches_the_worked_vectors():
    tx = optimizer.sgd(momentum=0.9, weight_decay=5e-4, lr_mults=one(1.0), decay_mults=one(1.0))
    params, velocity = PARAMS, tx.init(PARAMS)
    grads = jax.tree.map(lambda w: jnp.full_like(w, 0.5), params)
    for rate, v, w in zip(RATES, VELOCITIES, WEIGHTS, strict=True):
        updates, velocity = tx.update(grads, velocity, params, learning_rate=rate)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(velocity["conv1"]["kernel"], v, rtol=1e-6)
        np.testing.assert_allclose(params["fc8"]["bias"], w, rtol=1e-6)


def test_a_drop_of_the_rate_leaves_the_old_velocity_its_scale():
    tx = optimizer.sgd(momentum=0.9, weight_decay=0.0, lr_mults=one(1.0), decay_mults=one(1.0))
    velocity = one(-1.0)
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    updates, _ = tx.update(zero, velocity, PARAMS, learning_rate=1e-6)
    np.testing.assert_allclose(updates["conv1"]["kernel"], -0.9)


def test_update_equals_optax_chained_in_the_papers_order():
    rng = np.random.default_rng(0)
    draw = lambda w: jnp.asarray(rng.normal(size=w.shape), jnp.float32)  # noqa: E731
    ours = optimizer.sgd(momentum=0.9, weight_decay=0.01, lr_mults=one(1.0), decay_mults=one(1.0))
    params = theirs_params = jax.tree.map(draw, PARAMS)
    velocity, theirs_state = ours.init(params), None
    for rate in RATES:
        theirs = optax.chain(
            optax.add_decayed_weights(0.01),
            optax.scale_by_learning_rate(rate),
            optax.trace(decay=0.9),
        )
        theirs_state = theirs_state or theirs.init(params)
        grads = jax.tree.map(draw, PARAMS)
        updates, velocity = ours.update(grads, velocity, params, learning_rate=rate)
        params = optax.apply_updates(params, updates)
        updates, theirs_state = theirs.update(grads, theirs_state, theirs_params)
        theirs_params = optax.apply_updates(theirs_params, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), params, theirs_params)


def test_multipliers_first_match_holds_and_no_match_means_one():
    rules = ((r"conv1/bias", 2.0, 0.0), (r".*/bias", 3.0, 0.5), (r"fc.*", 0.1, 4.0))
    lr, decay = optimizer.multipliers(PARAMS, rules)
    assert lr == {
        "conv1": {"kernel": 1.0, "bias": 2.0},
        "fc8": {"kernel": 0.1, "bias": 3.0},
    }
    assert decay == {
        "conv1": {"kernel": 1.0, "bias": 0.0},
        "fc8": {"kernel": 4.0, "bias": 0.5},
    }


def test_a_multiplier_of_zero_freezes_a_parameter():
    lr, decay = optimizer.multipliers(PARAMS, ((r"conv1/.*", 0.0, 1.0),))
    tx = optimizer.sgd(momentum=0.9, weight_decay=0.1, lr_mults=lr, decay_mults=decay)
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    updates, _ = tx.update(grads, tx.init(PARAMS), PARAMS, learning_rate=0.1)
    assert not np.any(updates["conv1"]["kernel"])
    assert np.all(updates["fc8"]["kernel"] < 0)


def test_a_rule_that_matches_nothing_is_named():
    with pytest.raises(ValueError, match="conv9"):
        optimizer.multipliers(PARAMS, ((r"conv9/.*", 1.0, 1.0),))


def test_layers_outside_the_pattern_are_frozen():
    lr, _ = optimizer.multipliers(PARAMS, ((r".*/bias", 2.0, 0.0),))
    assert optimizer.frozen(lr, "fc.*") == {
        "conv1": {"kernel": 0.0, "bias": 0.0},
        "fc8": {"kernel": 1.0, "bias": 2.0},
    }


def test_a_pattern_without_a_layer_to_train_is_named():
    with pytest.raises(ValueError, match=r"trained_layers='fc9'"):
        optimizer.frozen(one(1.0), "fc9")
