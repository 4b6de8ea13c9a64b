"""The update rule of both papers, as an optax transformation.

tx = sgd(momentum=0.9, weight_decay=5e-4, lr_mults=lr_mults, decay_mults=decay_mults)
velocity = tx.init(params)
updates, velocity = tx.update(grads, velocity, params, learning_rate=0.01)
params = optax.apply_updates(params, updates)
"""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

Rule = tuple[str, float, float]


def sgd(
    *, momentum: float, weight_decay: float, lr_mults: Any, decay_mults: Any
) -> optax.GradientTransformationExtraArgs:
    """Build the papers' stochastic gradient descent.

    v <- momentum * v - weight_decay * lr * w - lr * g
    w <- w + v

    (AlexNet section 5; VGG section 3.1.) The learning rate is inside the velocity: when it drops,
    the velocity accumulated so far keeps its scale, whereas `optax.sgd` and PyTorch rescale it. The
    state is the velocity, a tree like the parameters. `update` takes `learning_rate` as an extra
    argument, so a schedule driven by the validation error needs no state here.

    Args:
      momentum: factor of the old velocity.
      weight_decay: factor of the parameters, times `decay_mults`.
      lr_mults: tree like the parameters with the factors of the learning rate (0 freezes a leaf).
      decay_mults: tree like the parameters with the factors of the weight decay.
    """

    def init(params: optax.Params) -> optax.OptState:
        return jax.tree.map(jnp.zeros_like, params)

    def update(
        grads: optax.Updates,
        velocity: optax.OptState,
        params: optax.Params | None = None,
        *,
        learning_rate: jax.typing.ArrayLike,
        **_: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        def one(
            v: jax.Array, g: jax.Array, w: jax.Array, lr_mult: float, decay_mult: float
        ) -> jax.Array:
            lr = learning_rate * lr_mult
            return momentum * v - (weight_decay * decay_mult) * lr * w - lr * g

        velocity = jax.tree.map(one, velocity, grads, params, lr_mults, decay_mults)
        return velocity, velocity

    return optax.GradientTransformationExtraArgs(init, update)


def frozen(lr_mults: Any, trained_layers: str) -> Any:
    """Set the learning-rate factors of all layers but the trained ones to 0.

    Args:
      lr_mults: tree of floats, `{layer: {"kernel": ..., "bias": ...}}`.
      trained_layers: regular expression that must match the whole name of a layer to be trained.

    Raises:
      ValueError: if it matches no layer.
    """
    selected = [layer for layer in lr_mults if re.fullmatch(trained_layers, layer)]
    if not selected:
        raise ValueError(f"optimizer.trained_layers={trained_layers!r} matches no layer")
    return {
        layer: mults if layer in selected else jax.tree.map(lambda _: 0.0, mults)
        for layer, mults in lr_mults.items()
    }


def multipliers(params: Any, rules: Sequence[Rule]) -> tuple[Any, Any]:
    """Return each parameter's factors of the learning rate and of the weight decay.

    Args:
      params: tree of parameters, `{layer: {"kernel": ..., "bias": ...}}`.
      rules: (regular expression, lr_mult, decay_mult), in order; the first that matches all of
        `layer/kernel` or `layer/bias` applies. A parameter without a match has 1 and 1.

    Returns:
      Two trees of floats like `params`.

    Raises:
      ValueError: if an expression matches no parameter.
    """
    compiled = [(re.compile(pattern), lr, decay) for pattern, lr, decay in rules]
    names = jax.tree.map_with_path(lambda path, _: "/".join(key.key for key in path), params)
    for pattern, _, _ in compiled:
        if not any(pattern.fullmatch(name) for name in jax.tree.leaves(names)):
            raise ValueError(f"optimizer.multipliers: {pattern.pattern!r} matches no parameter")

    def first(name: str) -> tuple[float, float]:
        return next(((lr, decay) for p, lr, decay in compiled if p.fullmatch(name)), (1.0, 1.0))

    return jax.tree.map(lambda n: first(n)[0], names), jax.tree.map(lambda n: first(n)[1], names)
