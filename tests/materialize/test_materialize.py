"""materialize: the values of the function called eagerly, and what it does not do."""

import functools
import gc
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback

import jinit
from tests.support.everything import INIT, JITTED, X, drawn, everything, x
from tests.support.trees import assert_equal


@pytest.mark.parametrize("make_key", [jax.random.key, jax.random.PRNGKey])
def test_equal_to_the_function_called_eagerly(make_key):
    key = make_key(3)
    wanted = everything()
    assert_equal(jinit.materialize(INIT)(key, X), wanted)
    assert_equal(jinit.materialize(INIT)(key, x), wanted)


class Mapped(nn.Module):
    """The model draws from single keys and from batches, where rbg draws otherwise."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(12, kernel_init=nn.initializers.normal(0.02))(x)
        params = {"variable_axes": {"params": 1}, "split_rngs": {"params": True}}
        mapped = nn.vmap(nn.Dense, in_axes=1, **params)
        return mapped(4, kernel_init=jinit.kaiming("gelu"))(x)


def test_equal_for_other_key_implementations():
    key = jax.random.key(3, impl="rbg")
    assert_equal(jinit.materialize(Mapped().init)(key, X), Mapped().init(key, x))


@pytest.mark.slow
def test_everything_is_equal_for_other_key_implementations():
    key = jax.random.key(3, impl="rbg")
    assert_equal(jinit.materialize(INIT)(key, X), drawn(key))


def test_the_comparison_can_fail():
    other = jinit.materialize(INIT)(jax.random.key(4), X)
    with pytest.raises(AssertionError):
        assert_equal(other, everything())


def test_float64(key, x64):
    model = nn.Dense(9, param_dtype=jnp.float64, kernel_init=jinit.he())
    assert_equal(jinit.materialize(model.init)(key, x), model.init(key, x))


@pytest.mark.parametrize("std", [0.02, 0.3, 7**-0.5])
def test_normal_laws_have_the_eager_bits(std, key):
    # Under `jit` XLA may multiply the std with sqrt(2) first, which rounds otherwise.
    def init(key):
        return {
            "jax": nn.initializers.normal(std)(key, (64, 65)),
            "two operations": jax.random.normal(key, (64, 65)) * std,
        }

    eager = init(key)
    assert_equal(jinit.materialize(init)(key), eager)
    # Multiplied in the other order it is another array.
    assert (jinit.normal(std)(key, (64, 65)) != eager["two operations"]).any()


def test_inside_a_jit_the_bits_are_those_of_a_jit(key):
    inside = jax.jit(lambda key: jinit.materialize(INIT)(key, X))(key)
    assert_equal(inside, JITTED(key, x))


def test_under_vmap(key):
    init = jinit.materialize(nn.Dense(5).init)
    keys = jax.random.split(key, 3)
    sweep = jax.vmap(lambda key: init(key, X))(keys)
    assert_equal(jax.tree.map(lambda a: a[1], sweep), nn.Dense(5).init(keys[1], x))


def test_boxes_stay(key):
    kernel_init = nn.with_partitioning(nn.initializers.lecun_normal(), ("in", "out"))
    model = nn.Dense(5, kernel_init=kernel_init)
    got = jinit.materialize(model.init)(key, X)
    assert isinstance(got["params"]["kernel"], nn.Partitioned)
    assert got["params"]["kernel"].names == ("in", "out")
    assert_equal(got, model.init(key, x))


def test_arguments_that_are_no_arrays_stay_what_they_are(key):
    class Switched(nn.Module):
        @nn.compact
        def __call__(self, x, train, mode="small"):
            return nn.Dense(3 if train and mode == "small" else 4)(x)

    init = jinit.materialize(Switched().init)
    for train, mode in ((True, "small"), (False, "small"), (True, "large")):
        wanted = Switched().init(key, x, train, mode=mode)
        assert_equal(init(key, X, train, mode=mode), wanted)


def test_results_that_are_known_come_back_as_they_are(key):
    array = np.arange(3)

    def init(key):
        return {"name": "w", "size": 3, "array": array, "w": jax.random.normal(key)}

    got = jinit.materialize(init)(key)
    assert got["name"] == "w" and got["size"] == 3 and got["array"] is array
    assert got["w"] == init(key)["w"]


def test_functions_that_cannot_be_cut_apart(key):
    def init(key, x):
        a, b = (jax.random.normal(k, (20, 20)) for k in jax.random.split(key))
        mixed = a @ b - a.mean()
        chosen = jax.lax.cond(mixed.sum() > 0, jnp.sin, jnp.cos, mixed)
        looped = jax.lax.while_loop(
            lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * 0.9 + 0.1), (0, chosen)
        )[1]
        back = jax.pure_callback(lambda v: np.sort(v), jax.typeof(a), looped)
        return {"mixed": mixed, "back": back, "same": mixed, "x": x, "key": key}

    got = jinit.materialize(init)(key, np.ones(3))
    assert_equal(got, init(key, jnp.ones(3)))


def test_effects_happen_once_and_looking_on_is_dropped(key, capfd):
    seen = []

    def init(key, x):
        jax.debug.print("forward {}", x.sum())
        w = jax.random.normal(key, (3,))
        io_callback(lambda v: seen.append(v), None, w, ordered=True)
        return w

    w = jinit.materialize(init)(key, jax.ShapeDtypeStruct((4,), jnp.float32))
    jax.effects_barrier()
    assert len(seen) == 1 and (seen[0] == w).all()
    assert "forward" not in capfd.readouterr().out


def test_effects_keep_their_order(key):
    seen = []

    def tell(name, value):
        seen.append(name)
        return value

    def init(key):
        w = jax.random.normal(key, (3,))
        kind = jax.typeof(w)
        first = io_callback(lambda v: tell("first", v), kind, w, ordered=True)
        second = io_callback(lambda v: tell("second", v), kind, w, ordered=True)
        return second, first * 2.0

    jax.block_until_ready(jinit.materialize(init)(key))
    assert seen == ["first", "second"]


def test_the_forward_pass_is_not_run(key):
    ran = []

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            def forward(x):
                ran.append(None)
                return x

            kind = jax.ShapeDtypeStruct(x.shape, x.dtype)
            return nn.Dense(3)(jax.pure_callback(forward, kind, x))

    jinit.materialize(Model().init)(key, X)
    assert not ran
    # Where its values are asked for, it is.
    jinit.materialize(Model().init_with_output)(key, x)
    assert ran


def test_several_keys_and_bound_arguments(key):
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return nn.Dropout(0.5, deterministic=not train)(nn.Dense(3)(x))

    keys = {"params": key, "dropout": jax.random.fold_in(key, 1)}
    init = functools.partial(Model().init, train=True)
    assert_equal(jinit.materialize(init)(keys, X), Model().init(keys, x, True))


def test_progress_is_shown_on_a_terminal_only(key, capsys, monkeypatch):
    init = jinit.materialize(nn.Dense(3).init, progress=True)
    silent = init(key, X)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert_equal(init(key, X), silent)
    assert "drawing" in capsys.readouterr().out


def test_values_that_are_needed_must_be_there(key):
    def init(key, data):
        return {"w": jax.random.normal(key, (3,)), "mean": data["x"].mean(0)}

    with pytest.raises(ValueError, match=r"values of args\[1\]\['x'\].*shape \(2, 3"):
        jinit.materialize(init)(key, {"x": X})
    assert_equal(jinit.materialize(init)(key, {"x": x}), init(key, {"x": x}))
    with pytest.raises(ValueError, match=r"values of args\[0\].*pass the array"):
        jinit.materialize(init)(jax.eval_shape(jax.random.key, 0), {"x": x})


@pytest.mark.parametrize(
    "what", [None, 3, "model.init", nn.Dense(4), {"kernel": jnp.ones((99, 99))}]
)
def test_what_is_no_function_is_an_error(what):
    with pytest.raises(TypeError, match="(?s)`init_fn` is .* must be a fun") as caught:
        jinit.materialize(what)
    assert len(str(caught.value)) < 300


def test_results_do_not_share_buffers(key):
    def init(key):
        return [jnp.zeros(()), jnp.zeros(()), jnp.zeros((3,)), jnp.zeros((3,))]

    got = jinit.materialize(init)(key)
    pointers = [a.unsafe_buffer_pointer() for a in got]
    assert len(set(pointers)) == 4


def test_the_garbage_collector_is_left_as_it_was(key):
    assert gc.isenabled()
    jinit.materialize(nn.Dense(3).init)(key, X)
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        jinit.materialize(lambda key: 1 / 0)(key)
    assert gc.isenabled()


def test_arrays_bound_to_a_device_stay_there(key):
    device = jax.devices()[3]
    got = jinit.materialize(nn.Dense(3).init)(jax.device_put(key, device), X)
    assert got["params"]["kernel"].devices() == {device}
    assert_equal(got, nn.Dense(3).init(key, x))


def test_the_name_and_docstring_of_the_function_stay():
    def init(key):
        """Draw."""

    assert jinit.materialize(init).__name__ == "init"
    assert jinit.materialize(init).__doc__ == "Draw."
