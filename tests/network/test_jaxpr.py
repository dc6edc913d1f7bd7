"""What is expected of JAX's internals; where it fails, JAX has changed them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jinit._materialize import units
from jinit._network import interpret, jaxpr


def listing(function, *arguments):
    return jaxpr.listing(jaxpr.trace(function, arguments)[0])


def primitives(function, *arguments):
    return [s.eqn.primitive.name for s in listing(function, *arguments).steps]


def test_what_no_result_needs_is_dropped():
    def function(x, y):
        jax.debug.print("{}", jnp.sin(x))
        jnp.cos(x)
        return jnp.exp(y)

    found = listing(function, 1.0, 2.0)
    assert [s.eqn.primitive.name for s in found.steps] == ["exp"]
    assert found.used == [False, True]


def test_inside_calls_and_loops_too():
    def body(carry, key):
        return jnp.sin(carry), jax.random.normal(key, (2,))

    def function(x, keys):
        return jax.jit(jax.lax.scan, static_argnums=0)(body, x, keys)[1]

    (step,) = listing(function, 1.0, jax.random.split(jax.random.key(0), 3)).steps
    assert "sin" not in str(step.eqn)
    assert "random_bits" in str(step.eqn)


def with_own_derivative(function):
    wrapped = jax.custom_jvp(function)
    wrapped.defjvps(lambda x_dot, y, x: x_dot)
    return wrapped


@pytest.mark.parametrize("transparent", [jax.checkpoint, with_own_derivative])
def test_calls_that_run_operation_by_operation_are_opened(transparent):
    assert primitives(transparent(lambda x: jnp.sin(jnp.cos(x))), 1.0) == ["cos", "sin"]


def test_constants_come_first():
    array = jnp.arange(3.0)
    found = listing(lambda x: x + array, jnp.ones(3))
    assert len(found.consts) == 1 and found.steps[0].reads == (1, 0)
    (result,) = interpret.replay(found, [array, jnp.ones(3)])
    np.testing.assert_array_equal(result, [1, 2, 3])


def test_outputs_may_be_inputs_and_numbers():
    found = listing(lambda x: [x, jnp.float32(2) * 1, x], jnp.ones(3))
    assert [o for o in found.outputs if not jaxpr.is_literal(o)][-1] == 0


@pytest.mark.parametrize("width", [8, 16, 32])
def test_random_bits_are_replaced_by_equal_ones(width, key):
    def draw(key):
        return jax.random.bits(key, (5, 7), f"uint{width}")

    found = listing(draw, key)
    traced = jax.make_jaxpr(lambda key: interpret.replay(found, [key]))(key)
    assert "random_bits" not in str(traced)
    np.testing.assert_array_equal(interpret.replay(found, [key])[0], draw(key))


def test_bits_of_a_batch_of_keys(key):
    keys = jax.random.split(key, 6).reshape(2, 3)
    draw = jax.vmap(jax.vmap(lambda k: jax.random.normal(k, (4,))))
    found = listing(draw, keys)
    np.testing.assert_array_equal(interpret.replay(found, [keys])[0], draw(keys))


def signatures(*functions):
    key = jax.random.key(0)
    found = [units.units(listing(f, key)) for f in functions]
    return [made[-1].signature for made in found]


def test_equal_samplers_have_equal_signatures():
    def scaled(std, shape=(3, 7), dtype="float32"):
        return lambda key: jax.random.normal(key, shape, dtype) * std

    one, other = signatures(scaled(0.1), scaled(0.2))
    assert one == other and hash(one) == hash(other)
    different = signatures(
        scaled(0.1), scaled(0.1, (7, 3)), scaled(0.1, dtype="float16"),
        lambda key: jax.random.uniform(key, (3, 7)) * 0.1,
        lambda key: jax.random.normal(key, (3, 7)),
        lambda key: jax.random.truncated_normal(key, -2, 2, (3, 7)) * 0.1,
    )  # fmt: skip
    assert len(set(different)) == len(different)


def test_a_unit_is_an_operation_with_the_scaling_of_its_result(key):
    def draw(key):
        x = jax.random.normal(key, (3, 7)) * 0.1
        return (x.reshape(21).astype("bfloat16") * jnp.bfloat16(3)) + jnp.bfloat16(1)

    lengths = [len(unit.steps) for unit in units.units(listing(draw, key))]
    # The second factor and the sum stand alone, or XLA would join the factors.
    assert lengths == [4, 1, 1]


def test_keys_travel_as_words(key):
    keys = jax.random.split(key, 3)
    assert jaxpr.raw_type(jax.typeof(keys)).shape == (3, 2)
    again = jaxpr.typed(jaxpr.raw(keys), keys)
    assert (jax.random.key_data(again) == jax.random.key_data(keys)).all()
    other = jax.random.key(0, impl="unsafe_rbg")
    assert jax.random.key_impl(jaxpr.typed(jaxpr.raw(other), other)) == "unsafe_rbg"
    plain = jnp.ones(3)
    assert jaxpr.raw(plain) is plain and jaxpr.typed(plain, plain) is plain
