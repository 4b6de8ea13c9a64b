"""The updates of an optimizer on one device, by optax alone: the reference of our step."""

import jax
import optax


def after_three_updates(model, optimizer, params, images, labels):
    """Return the parameters after three updates on the same batch."""

    def loss(params):
        scores = model.apply({"params": params}, images)[:, 0, 0]
        return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()

    kept = optimizer.init(params)
    for _ in range(3):
        updates, kept = optimizer.update(jax.grad(loss)(params), kept, params)
        params = optax.apply_updates(params, updates)
    return params
