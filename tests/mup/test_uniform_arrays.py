"""Traced functions of uniform arrays give the results of JAX on real arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jinit._network import jaxpr
from jinit.mup import _equal_entries
from jinit.mup._equal_entries import FIRST_MARK, MULTIPLIED, SUMMED, Uniform, Unknown

pytestmark = pytest.mark.usefixtures("quick_compilation")

SHAPE = (3, 5)
COEFFICIENTS = np.array([0.5, -1.5, 2.0], "float32")


def looped(x):
    """Run a scan over a constant, a loop that reads one, and one that tests values."""
    constant = jnp.asarray(COEFFICIENTS)
    total, _ = jax.lax.scan(lambda c, k: (c * 0.5 + k, None), x, constant)
    last = jax.lax.fori_loop(0, 4, lambda i, y: y + constant[i % 3], total)
    grown = jax.lax.while_loop(lambda y: y[0, 0] < 9, lambda y: 2 * jnp.abs(y) + 1, x)
    return last + grown


FUNCTIONS = {
    "entries": lambda x: jnp.tanh(x) * jnp.sign(x) - jax.lax.rsqrt(x * x + 1) / 3,
    "powers": lambda x: x**2 + jnp.abs(x) ** 0.3 + jnp.square(x) + jnp.cbrt(x),
    "integers": lambda x: x * (jnp.int32(7) // 2) + (x.size - 1) % 4,
    "selections": lambda x: jnp.where(x > 1, jnp.clip(x, -1, 2), jnp.minimum(x, 0.5)),
    "sums": lambda x: jnp.mean(x, 0) + jnp.sum(x) + jnp.max(x) + jnp.prod(x[0, :2]),
    "products": lambda x: (x @ x.T) @ x + jnp.einsum("ij,kj->ik", x, x)[:, :1],
    "norms": lambda x: x / (jnp.linalg.norm(x) + 0.1) + jnp.linalg.norm(x, 2),
    "shapes": lambda x: jnp.concatenate([x.reshape(-1), x.T[0]])[::-1].astype("int32"),
    "rows": lambda x: jnp.stack([row + 1 for row in x], 1),
    "calls": lambda x: jax.jit(jax.checkpoint(jax.nn.silu))(x) + jax.nn.relu(x),
    "branches": lambda x: jax.lax.cond(x[0, 0] > 1, jnp.sin, lambda y: y + 1, x),
    "loops": looped,
    "constants": lambda x: x * COEFFICIENTS[1] + jnp.asarray(COEFFICIENTS)[2],
    "low precision": lambda x: x.astype(jnp.bfloat16) * jnp.bfloat16(2),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_is_what_jax_computes(name):
    function, entries = FUNCTIONS[name], [-1.25, 0.5, 2.0]
    closed, _ = jaxpr.trace(function, [jax.ShapeDtypeStruct(SHAPE, "float32")])
    (value,) = _equal_entries.evaluate(closed, [Uniform(np.array(entries))])
    lanes = np.broadcast_to(value.entry, 3)
    for entry, result in zip(entries, lanes, strict=True):
        wanted = np.asarray(function(jnp.full(SHAPE, entry, jnp.float32)))
        np.testing.assert_allclose(np.float32(result), wanted.astype("float32"), 2e-5)


def marks(function):
    shapes = [jax.ShapeDtypeStruct(SHAPE, "float32")] * 2
    closed, _ = jaxpr.trace(function, shapes)
    inputs = [Uniform(1.0, FIRST_MARK), Uniform(1.0)]
    (value,) = _equal_entries.evaluate(closed, inputs)
    return value.marks


def test_marks_tell_what_a_result_depends_on():
    assert marks(lambda g, w: 2 * w @ w.T) == 0
    assert marks(lambda g, w: g + jnp.sum(w)) == FIRST_MARK
    assert marks(lambda g, w: w / jnp.sum(g)) == FIRST_MARK | SUMMED
    assert marks(lambda g, w: jnp.where(g > 0, w, 0)) == FIRST_MARK
    assert marks(lambda g, w: g @ g.T) == FIRST_MARK | SUMMED | MULTIPLIED
    assert marks(lambda g, w: jnp.linalg.norm(g, 2)) & MULTIPLIED


@pytest.mark.parametrize(
    "function, text",
    [
        (jnp.cumsum, "'cumsum'"),
        (lambda x: x + jnp.arange(15.0).reshape(SHAPE), "'add'"),
        (lambda x: jnp.concatenate([x, x + 1]), "'concatenate'"),
        (lambda x: jnp.linalg.qr(x)[0], "on unequal entries"),
        (lambda x: x + jax.random.normal(jax.random.key(0), SHAPE), "random"),
    ],
)
def test_what_is_beyond_it_is_unknown(function, text):
    closed, _ = jaxpr.trace(function, [jax.ShapeDtypeStruct(SHAPE, "float32")])
    value = _equal_entries.evaluate(closed, [Uniform(np.array([1.0, 2.0]))])[0]
    assert isinstance(value, Unknown) and text in value.reason


def test_the_size_of_an_array_costs_nothing():
    struct = jax.ShapeDtypeStruct((2**20, 2**20), "float32")
    closed, _ = jaxpr.trace(lambda x: jnp.mean(x @ x.T), [struct])
    (value,) = _equal_entries.evaluate(closed, [Uniform(2.0)])
    assert value.entry == 2.0**22
