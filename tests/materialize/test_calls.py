"""materialize: which calls share a trace, and which must not."""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jinit
from jinit._materialize import executables, numbers
from tests.support.counting import count_compilations
from tests.support.everything import X, x
from tests.support.trees import assert_equal


class Stack(nn.Module):
    layers: int
    kernel_init: object = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x):
        for _ in range(self.layers):
            x = nn.Dense(x.shape[-1], kernel_init=self.kernel_init)(x)
        return x


def compiled(layers, width, key, **options):
    x = jax.ShapeDtypeStruct((1, width), jnp.float32)
    with count_compilations() as count:
        init = Stack(layers, **options).init
        jax.block_until_ready(jinit.materialize(init)(key, x))
    return count()


def test_each_distinct_sampler_is_compiled_once(key):
    # Widths that no other test draws. The first compiles what all of them share; to
    # clear JAX's caches instead would make all later tests compile anew.
    orthogonal = {"kernel_init": nn.initializers.orthogonal()}
    compiled(2, 61, key, **orthogonal)
    few = compiled(4, 62, key, **orthogonal)
    assert few >= 1 and compiled(40, 63, key, **orthogonal) == few
    # Another key, another depth: nothing new.
    assert compiled(7, 63, jax.random.fold_in(key, 1), **orthogonal) == 0


def test_all_shapes_of_a_law_share_a_program(key):
    compiled(2, 61, key)
    assert compiled(40, 63, key) == 0


def test_a_second_call_traces_nothing(key):
    traced = []

    def init(key, x, flag=True):
        traced.append(None)
        return jax.random.normal(key, (3,))

    draw = jinit.materialize(init)
    for seed in range(3):
        draw(jax.random.key(seed), x)
        draw(jax.random.key(seed), X)
    assert len(traced) == 1
    draw(key, x, flag=False)
    draw(key, x[:1])
    with jax.enable_x64(True):
        draw(key, x)
    assert len(traced) == 4
    # A setting that does not hash is traced each time, and right.
    draw(key, x, flag=[1])
    assert len(traced) == 5


@flax.struct.dataclass
class Settings:
    scale: object
    fill: object = flax.struct.field(pytree_node=False)


FILLS = [1, 1.0, True, 0, 0.0, -0.0, False, np.float32(0), (1,), (1.0,), (True,)]


def test_settings_that_are_equal_and_differ_have_traces_of_their_own(key):
    def init(key, fill, settings):
        value = fill[0] if isinstance(fill, tuple) else fill
        hidden = settings.fill[0] if isinstance(fill, tuple) else settings.fill
        return [jnp.full((2,), value), jnp.full((2,), hidden), jax.random.normal(key)]

    draw = jinit.materialize(init)
    for fill in FILLS:
        # As an argument, and as a static field, which is part of the tree's structure.
        for arguments in ((fill, Settings(1.0, 0)), (0, Settings(1.0, fill))):
            if isinstance(fill, tuple):
                arguments = (fill, Settings(1.0, fill))
            got, wanted = draw(key, *arguments), init(key, *arguments)
            for a, b in zip(got, wanted, strict=True):
                assert a.dtype == b.dtype, arguments
                assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), arguments


def test_a_setting_that_changes_is_traced_again(key):
    class Config:
        width = 3

    def init(key, config):
        return jax.random.normal(key, (config.width,))

    draw, config = jinit.materialize(init), Config()
    assert draw(key, config).shape == (3,)
    config.width = 5
    assert draw(key, config).shape == (5,)


def test_weak_types_are_told_apart(key):
    draw = jinit.materialize(lambda key, x: jnp.ones(2, jnp.bfloat16) * x)
    for scale in (jnp.asarray(2.0), jnp.float32(2.0), jnp.asarray(2.0)):
        wanted = jnp.ones(2, jnp.bfloat16) * scale
        assert draw(key, scale).dtype == wanted.dtype


def test_settings_of_jax_that_change_a_trace():
    draw = jinit.materialize(lambda: jax.random.normal(jax.random.key(0), (3,)))
    before = draw()
    with jax.default_prng_impl("rbg"):
        assert_equal(draw(), jax.random.normal(jax.random.key(0), (3,)))
    assert_equal(draw(), before)


def test_no_tracer_outlives_its_trace(key):
    with jax.checking_leaks():
        got = jinit.materialize(nn.Dense(3).init)(key, X)
    assert_equal(got, nn.Dense(3).init(key, x))


def test_what_the_function_holds_is_copied(key):
    table = jnp.ones((10, 4))

    def start(key):
        params = {"table": table, "w": jax.random.normal(key, (4, 4))}
        return {"params": params, "average": params}

    step = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    draw = jinit.materialize(start)
    for _ in range(2):
        after = step(draw(key))
        np.testing.assert_array_equal(after["average"]["table"], 2)
    # A step that donates its state does not delete it.
    np.testing.assert_array_equal(table, 1)


def test_nnx_models_whose_parts_are_one_object(key):
    class Tied(nnx.Module):
        def __init__(self, rngs):
            self.encoder = nnx.Linear(4, 4, rngs=rngs)
            self.decoder = self.encoder

    with pytest.raises(ValueError, match="decoder and encoder are one object"):
        jinit.materialize(lambda key: Tied(nnx.Rngs(key)))(key)
    model = jinit.nnx.materialize(Tied, key)
    assert model.decoder is model.encoder


def test_a_second_call_computes_no_number_again(key, monkeypatch):
    init = Stack(3).init
    draw = jinit.materialize(init)
    first = draw(key, X)
    monkeypatch.setattr(executables.Program, "__call__", None)
    monkeypatch.setattr(numbers, "on_host", None)
    assert_equal(draw(key, X), first)
    other = jax.random.fold_in(key, 1)
    monkeypatch.undo()
    assert_equal(draw(other, X), init(other, x))


def test_later_results_share_no_memory_with_earlier_ones(key):
    def init(key):
        return jnp.zeros((50,)), jnp.ones((7, 3)), jax.random.normal(key, (50,))

    add = jax.jit(lambda xs: [x + 1 for x in xs], donate_argnums=0)
    draw = jinit.materialize(init)
    kept = draw(key)
    add(draw(key))
    assert_equal(draw(key), init(key))
    assert_equal(kept, init(key))


def test_a_later_call_follows_the_settings(key):
    def init(key):
        scale = jnp.sqrt(jnp.asarray(2.0) / 256)
        return jax.random.normal(key, (30, 5)) * scale, jnp.zeros(5)

    draw = jinit.materialize(init)
    for _ in range(2):
        assert_equal(draw(key), init(key))
        with jax.enable_x64(True):
            assert_equal(draw(key), init(key))
        with jax.default_device(jax.devices()[1]):
            got = draw(key)
            assert {x.device for x in got} == {jax.devices()[1]}
        with jax.threefry_partitionable(False):
            assert_equal(draw(key), init(key))


def test_keys_of_keys(key):
    def init(key):
        first = [jax.random.fold_in(key, n) for n in (3, 1 << 31, 2**32 - 1)]
        second = [jax.random.fold_in(k, 7) for k in first]
        return [jax.random.normal(k, (6,)) for k in (*first, *second, key)]

    draw = jinit.materialize(init)
    for seed in range(3):
        assert_equal(draw(jax.random.key(seed)), init(jax.random.key(seed)))


def test_constant_arrays_that_something_reads(key):
    def init(key):
        ones = jnp.ones((4, 5), jnp.bfloat16).reshape(5, 4)
        eye = jnp.full((3, 3), 2.5)
        return ones, eye @ jax.random.normal(key, (3, 3)), jnp.zeros((2, 6)).T

    assert_equal(jinit.materialize(init)(key), init(key))
