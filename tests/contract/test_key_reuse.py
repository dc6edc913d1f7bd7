"""JAX's checker of key reuse sees what jinit draws."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.errors import KeyReuseError

import jinit
from tests.support.cases import CASES

NAMES = sorted(CASES)
DRAWN = [name for name in NAMES if not CASES[name].constant]
# One of each way from a key to an array.
SOME = ["he", "glorot_uniform", "orthogonal", "stacked", "blocks", "masked", "sparse"]


@pytest.fixture(autouse=True)
def checker():
    with jax.debug_key_reuse(True):
        yield


@functools.cache
def jax_forgets():
    """Tell whether JAX fails to check programs from before its checker was turned on.

    So it is before jax 0.10; jinit's programs are JAX's.
    """
    draw = functools.partial(jax.nn.initializers.he_normal(), shape=(2, 5))
    key = jax.random.key(0)
    with jax.debug_key_reuse(False):
        draw(jax.random.key(0))
    draw(key)
    try:
        draw(key)
    except KeyReuseError:
        return False
    return True


def draw_of(name):
    return functools.partial(CASES[name].init, shape=CASES[name].shape)


def is_caught(function, *arguments):
    """Tell whether the checker finds a reused key when a function is only traced."""
    try:
        jax.make_jaxpr(function)(*arguments)
    except KeyReuseError:
        return True
    return False


@pytest.mark.parametrize("name", NAMES)
def test_a_key_used_twice_is_caught_while_tracing(name):
    draw, key = draw_of(name), jax.random.key(0)
    keys = jax.random.split(jax.random.key(1), 2)

    def twice(key):
        return draw(key), draw(key)

    def repeated(key):
        return jax.lax.scan(lambda carry, _: (carry, draw(key)), 0.0, None, length=2)

    def slope(key):
        return jax.grad(lambda s: sum(x.sum() for x in twice(key)) * s)(1.0)

    # What the key does not decide may have any key, as JAX's zeros.
    drawn = not CASES[name].constant
    assert is_caught(twice, key) == drawn
    assert is_caught(jax.vmap(twice), keys) == drawn
    assert is_caught(repeated, key) == drawn
    assert is_caught(slope, key) == drawn


@pytest.mark.parametrize("name", NAMES)
def test_a_key_used_once_raises_no_alarm(name):
    draw, key = draw_of(name), jax.random.key(0)
    keys = jax.random.split(jax.random.key(1), 2)
    assert not is_caught(draw, key)
    assert not is_caught(jax.vmap(draw), keys)
    assert not is_caught(
        lambda ks: jax.lax.scan(lambda c, k: (c, draw(k)), 0, ks), keys
    )


@pytest.mark.parametrize("name", SOME)
def test_eager_draws(name):
    check_eager(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in DRAWN if name not in SOME])
def test_eager_draws_of_all_schemes(name):
    check_eager(name)


def check_eager(name):
    draw, key = draw_of(name), jax.random.key(3)
    with jax.debug_key_reuse(False):
        wanted = np.asarray(draw(jax.random.key(3)))
    if jax_forgets():
        jax.clear_caches()
    np.testing.assert_array_equal(draw(key), wanted)
    with pytest.raises(KeyReuseError):
        draw(key)
    materialized, key = jinit.materialize(draw), jax.random.key(3)
    np.testing.assert_array_equal(materialized(key), wanted)
    with pytest.raises(KeyReuseError):
        materialized(key)


def test_arrays_of_jinit_random():
    key = jax.random.key(0)
    draws = (
        lambda: jinit.random.bits(key, (3,)),
        lambda: jinit.random.normal(key, (3,), "bfloat16"),
        lambda: jinit.random.uniform(key, (3,)),
        lambda: jinit.random.truncated_normal(key, -2, 2, (3,)),
    )
    draws[0]()
    for draw in draws:
        with pytest.raises(KeyReuseError):
            draw()


def test_programs_from_before_the_checker():
    if jax_forgets():
        pytest.skip("this JAX does not check such programs, its own neither")
    draw = draw_of("he")
    materialized = jinit.materialize(lambda key: (draw(key), draw(key)))
    with jax.debug_key_reuse(False):
        key = jax.random.key(0)
        materialized(key), draw(key), draw(key)
    key = jax.random.key(0)
    with pytest.raises(KeyReuseError):
        materialized(key)
    draw(key)
    with pytest.raises(KeyReuseError):
        draw(key)


def test_legacy_keys_are_not_followed():
    key = jax.random.PRNGKey(0)
    for name in ("he", "stacked"):
        np.testing.assert_array_equal(draw_of(name)(key), draw_of(name)(key))


def test_parts_that_do_not_draw_leave_the_key():
    key = jax.random.key(0)
    for part in (jinit.zeros, jax.nn.initializers.ones, 2 * jinit.identity()):
        assert jinit.stacked(part)(key, (2, 3, 3)).shape == (2, 3, 3)
    draw_of("he")(key)


def test_keys_with_other_implementations():
    key = jax.random.key(0, impl="rbg")
    draw_of("stacked")(key)
    with pytest.raises(KeyReuseError):
        draw_of("stacked")(key)


def test_whole_networks_raise_no_alarm():
    model = nn.Sequential([nn.Dense(4, kernel_init=jinit.he()), nn.Dense(2)])
    key, x = jax.random.key(0), jnp.ones((3, 4))
    params = jinit.materialize(model.init)(key, x)
    plan = jinit.plan(params, [("**/kernel", jinit.he()), ("**", jinit.zeros)])
    plan.init(jax.random.key(0))
    plan.reinit(jax.random.key(0), params, only="**/kernel")
    jinit.perturb(params, jax.random.key(0), 0.5, plan)
    jinit.fill_missing({}, params, plan, jax.random.key(0))


def test_sweep():
    def sweep(fn, key):
        # Three seeds on two devices: the first runs again to fill the last chunk.
        return jinit.sweep(fn, key, 3, devices=jax.devices()[:2], progress=False)

    draw, key = draw_of("he"), jax.random.key(0)
    sweep(draw, key)
    with pytest.raises(KeyReuseError):
        sweep(draw, key)
    with pytest.raises(KeyReuseError):
        sweep(lambda key: draw(key) + draw(key), jax.random.key(0))
