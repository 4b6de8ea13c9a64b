"""The XLA options that networks are compiled with."""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

_LIBRARY = "xla_cpu_experimental_ynn_fusion_type"

# By default XLA delegates convolutions on a CPU to YNNPACK, which runs many of them on one core and
# is slow at the gradients of kernels. XLA's own convolutions train 1.2 to 1.9 times as fast
# (docs/performance.md). This is the default without the convolutions.
_ON_A_CPU = {_LIBRARY: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"}


def jit(function: Callable[..., Any], *, mesh: Mesh | None = None, **arguments: Any) -> Any:
    """Return `jax.jit(function, **arguments)`, compiled with `compiler_options()`.

    Unlike a function from `jax.jit`, the result cannot be called inside another jitted function or
    differentiated.

    Args:
      function: the function.
      mesh: the devices that it is compiled for, by default jax's own.
      **arguments: more arguments of `jax.jit`.
    """
    # Devices that are only described, see `plan.compiler`, are not those of the default backend.
    platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
    return jax.jit(function, compiler_options=compiler_options(platform), **arguments)


@functools.cache
def compiler_options(platform: str) -> dict[str, str] | None:
    """Return the options for devices of a platform (`cpu`, `gpu`), or None for XLA's defaults.

    An option that is set in `XLA_FLAGS` is not overridden.
    """
    if platform != "cpu" or _LIBRARY in os.environ.get("XLA_FLAGS", ""):
        return None
    try:
        jax.jit(lambda: 0, compiler_options=_ON_A_CPU).lower().compile()
    except jax.errors.JaxRuntimeError:  # the option is experimental; some versions lack it
        return None
    return _ON_A_CPU
