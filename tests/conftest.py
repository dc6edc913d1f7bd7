"""Strict modes for every test, and eight devices on the host."""

import os

# Before JAX starts: sharding is tested on one CPU that plays eight devices.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import jax
import matplotlib
import pytest

from jinit._core import erf_inv
from jinit._materialize import executables

matplotlib.use("Agg")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Persistent caches would hide what a compilation costs and what it does.
jax.config.update("jax_enable_compilation_cache", False)
# `materialize` would compare two forms of erf_inv in a thread, during some test that
# counts compilations.
erf_inv.is_exact()


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(20260611)


@pytest.fixture
def x64():
    """Double precision for one test."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


# This is a part of the key of every compiled program, so that no test that compares
# bits reuses a program without optimizations.
COMPILATION = jax.make_user_context("optimized")


@pytest.fixture(scope="module")
def quick_compilation():
    """For programs that run for milliseconds: to compile them takes all the time."""
    # The comparison runs once in a process, and must not run without optimizations,
    # where XLA may have other bits.
    erf_inv.is_exact()
    erf_inv._unlike()
    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    jax.config.update(name, True)
    with COMPILATION("quick"):
        yield
    # The programs of `materialize` have keys of their own.
    executables.PROGRAMS.clear()
    jax.config.update(name, before)
