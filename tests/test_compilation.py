import jax
import jax.numpy as jnp
import pytest

from deepconv import compilation
from deepconv.models.layers import convolve

MAPS = jax.ShapeDtypeStruct((128, 12, 12, 64), jnp.float32)  # small ones XLA keeps to itself


def kernel_gradient(maps, slopes):
    kernel = jnp.zeros((5, 5, 64, 64))
    return jax.vjp(lambda kernel: convolve(maps, kernel, padding=(2, 2)), kernel)[1](slopes)[0]


def compiled(jit):
    return jit(kernel_gradient).lower(MAPS, MAPS).compile().as_text()


@pytest.fixture
def fresh(monkeypatch):
    """Let the options be looked for anew, here and in the next test; the user has set none."""
    monkeypatch.delenv("XLA_FLAGS")
    compilation.compiler_options.cache_clear()
    yield
    compilation.compiler_options.cache_clear()


def test_convolutions_are_not_left_to_the_slower_library(fresh):
    if "ynn" not in compiled(jax.jit):
        pytest.skip("this XLA leaves no convolutions to YNNPACK: the option may go")
    assert "ynn" not in compiled(compilation.jit)


def test_what_the_user_has_set_stays(fresh, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"--{compilation._LIBRARY}=individual_convolution")
    assert compilation.compiler_options("cpu") is None


@pytest.mark.parametrize("options", [{"xla_no_such_option": "1"}, {compilation._LIBRARY: "new"}])
def test_a_version_without_the_option_does_without(fresh, monkeypatch, options):
    monkeypatch.setattr(compilation, "_ON_A_CPU", options)
    assert compilation.compiler_options("cpu") is None
    assert compiled(compilation.jit)


def test_options_are_those_of_the_devices_and_not_of_the_default_backend():
    assert jax.default_backend() == "cpu"
    assert compilation.compiler_options("gpu") is None
