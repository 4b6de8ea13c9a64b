"""Which form of a layer is in a program for a CPU and in one for a GPU, lowered without a GPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepconv.models import platforms

GROUPED = "feature_group_count = 2"


def gradient(x, kernel):
    convolve = functools.partial(platforms.convolve, stride=1, padding=(1, 1), groups=2)
    return jax.grad(lambda x, kernel: convolve(x, kernel).sum(), argnums=(0, 1))(x, kernel)


@pytest.mark.parametrize(("platform", "form"), [("cpu", False), ("cuda", True), ("tpu", True)])
def test_a_grouped_convolution_is_split_on_a_cpu_only(platform, form):
    x, kernel = jnp.ones((2, 4, 4, 6)), jnp.ones((3, 3, 3, 4))
    program = jax.jit(gradient).trace(x, kernel).lower(lowering_platforms=(platform,))
    assert (GROUPED in program.as_text()) == form


@pytest.mark.parametrize(("platform", "form"), [("cpu", False), ("cuda", True)])
def test_a_kernels_gradient_is_laid_out_on_a_gpu_only(platform, form):
    def of_kernel(kernel):
        return jax.grad(lambda kernel: platforms.cast(kernel, jnp.bfloat16).sum())(kernel)

    program = jax.jit(of_kernel).trace(jnp.ones((3, 3, 4, 2))).lower(lowering_platforms=(platform,))
    assert ("optimization_barrier" in program.as_text()) == form
    np.testing.assert_array_equal(of_kernel(jnp.ones((3, 3, 4, 2))), 1)


@pytest.mark.parametrize(("platform", "form"), [("cpu", False), ("cuda", True)])
def test_pooling_gives_the_gradient_to_the_first_maximum_on_a_gpu_only(platform, form):
    def pool(x):
        return platforms.max_pool(x, window=2, stride=2, ceil=False).sum()

    program = jax.jit(jax.grad(pool)).trace(jnp.ones((1, 4, 4, 1)))
    shared = "stablehlo.divide"  # by two, where both of a pair are the maximum
    assert (shared not in program.lower(lowering_platforms=(platform,)).as_text()) == form
