"""materialize of scanned layers: a program for each kind of parameter, equal bits."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import jinit
from jinit._materialize.call import Traces
from tests.support.trees import assert_equal

X = jax.ShapeDtypeStruct((2, 24), jnp.float32)


class Block(nn.Module):
    """A block has three kernels of one shape and law, and one of another."""

    @nn.compact
    def __call__(self, x, _):
        for name in ("query", "key", "value"):
            x = x + nn.Dense(24, name=name, bias_init=nn.initializers.ones)(x)
        y = nn.Dense(40, kernel_init=nn.initializers.normal(0.3), name="up")(x)
        decay = self.param("decay", lambda key: jnp.log(jnp.arange(1.0, 25.0)))
        return x * decay[None] + nn.Dense(24, kernel_init=jinit.he())(y), None


def stack(axis, length=3):
    scanned = nn.scan(
        Block, variable_axes={"params": axis}, split_rngs={"params": True},
        length=length,
    )  # fmt: skip

    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x):
            return scanned(name="first")(x, None)[0] + scanned()(x, None)[0]

    return Stack()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("make_key", [jax.random.key, jax.random.PRNGKey])
def test_the_bits_are_those_of_the_scan(axis, make_key):
    model, key = stack(axis), make_key(5)
    got = jinit.materialize(model.init)(key, X)
    assert_equal(got, jax.jit(model.init)(key, jnp.ones(X.shape)))


def drawing_units(init, *arguments):
    call, _ = Traces(init, None).of(arguments, {})
    return [u for u in call.units if u.steps[0].eqn.primitive.name == "scan"]


def test_equal_parameters_of_all_stacks_share_a_program(key):
    scans = drawing_units(stack(1).init, key, X)
    # Five kernels and a constant in each of two stacks, and four kinds of them.
    assert len(scans) == 12 and len({unit.signature for unit in scans}) == 4
    assert all(len(unit.writes) == 1 for unit in scans)


def scanned(step, first=0.0):
    def init(key):
        return jax.lax.scan(step, first, jax.random.split(key, 3))[1]

    return init


def carried(carry, key):
    draw = jax.random.normal(key, (4,)) + carry
    return draw.sum(), (draw, jax.random.normal(jax.random.fold_in(key, 1), (4,)))


def shared(_, key):
    draw = jax.random.normal(key, (4, 4))
    return 0.0, (draw, draw.T, jax.random.uniform(jax.random.fold_in(key, 1), (4,)))


def keys_too(_, key):
    first, second = jax.random.split(key)
    return 0.0, (first, jax.random.normal(second, (4,)), jnp.float32(3))


@pytest.mark.parametrize("step", [carried, shared, keys_too])
def test_loops_of_other_kinds(step, key):
    init = scanned(step)
    assert_equal(jinit.materialize(init)(key), jax.jit(init)(key))


def test_what_is_drawn_together_stays_together(key):
    sizes = sorted(len(u.writes) for u in drawing_units(scanned(shared), key))
    assert sizes == [1, 2]
    # A loop with a carry is not taken apart.
    assert [len(u.writes) for u in drawing_units(scanned(carried), key)] == [3]


def test_other_keys_stay_in_their_loop():
    key = jax.random.key(3, impl="rbg")
    assert len(drawing_units(scanned(keys_too), key)) == 1
    init = scanned(shared)
    assert_equal(jinit.materialize(init)(key), jax.jit(init)(key))


def test_a_loop_over_one_key_draws_equal_layers(key):
    def init(key):
        def step(_, x):
            return None, (jax.random.normal(key, (3,)), x + jax.random.uniform(key))

        return jax.lax.scan(step, None, jnp.arange(4.0))[1]

    assert_equal(jinit.materialize(init)(key), jax.jit(init)(key))
