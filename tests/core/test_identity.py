"""Keys of caches are exact where Python's equality is not, and hold nothing alive."""

import dataclasses
import enum
import functools
import gc
import math
import weakref

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from jinit._core import identity as identity_file
from jinit._core.identity import identity
from jinit._core.programs import trace_context
from jinit._materialize import executables
from jinit._network.signature import signature as signature_of


@dataclasses.dataclass(frozen=True)
class Frozen:
    value: object


@flax.struct.dataclass
class Static:
    array: object
    value: object = flax.struct.field(pytree_node=False)


class Model(nn.Module):
    value: object


class Plain:
    def __init__(self, value):
        self.value = value


class Level(enum.IntEnum):
    ONE = 1


# Python's equality takes most of them for one another.
VALUES = [
    1, 1.0, True, np.int32(1), np.float32(1), np.float64(1), np.bool_(True), Level.ONE,
    1 + 0j, 0, 0.0, -0.0, False, 0j, complex(0, -0.0), "1", b"1", None, math.nan,
    jnp.float32, np.dtype("float32"), (1,), (1.0,), np.ones(2), np.ones(2, "int32"),
]  # fmt: skip
HOLDERS = {
    "itself": lambda x: x,
    "tuple": lambda x: ("a", (x,)),
    "dict": lambda x: {"a": x},
    "frozen dataclass": Frozen,
    "linen module": lambda x: Model(Frozen((x,))),
    "partial": lambda x: functools.partial(print, x),
    "closure": lambda x: lambda: x,
    "default": lambda x: lambda y=x: y,
    "tree structure": lambda x: jax.tree.structure([Static(1, Frozen(x)), 2]),
}


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_keys_are_equal_for_what_acts_alike_and_for_nothing_else(hold):
    keys, again = [[identity(hold(x)) for x in VALUES] for _ in range(2)]
    for i, key in enumerate(keys):
        assert [j for j, other in enumerate(again) if other == key] == [i]
        assert hash(key) == hash(again[i])


def test_functions_that_close_over_what_changes_are_compared_by_identity():
    calls = []

    def make():
        return lambda x: calls.append(x)

    count = make()
    key = identity(count)
    count(1)
    assert identity(count) == key != identity(make())
    assert identity([1]) == identity([1]) != identity([1.0])


def test_objects_are_compared_by_identity_and_by_what_they_hold_now():
    thing = Plain(1)
    key = identity(thing)
    assert identity(thing) == key != identity(Plain(1))
    thing.value = 1.0
    assert identity(thing) != key
    array = np.ones(3)
    key = identity(array)
    array[0] = 2.0
    assert identity(array) != key


def test_values_that_hold_themselves_have_keys():
    def make():
        def recursive(n):
            return recursive(n - 1)

        return recursive

    assert identity(make()) == identity(make())
    ring = [1]
    ring.append(ring)
    assert identity(ring) == identity(ring)
    many = {i: (i,) for i in range(identity_file._MOST_NODES)}
    assert identity(many) != identity(many)  # not worth a key


def test_closures_of_jax_are_alike():
    make = jax.nn.initializers.variance_scaling
    assert identity(make(1.0, "fan_in", "normal")) == identity(
        make(1.0, "fan_in", "normal")
    )
    assert identity(make(1.0, "fan_in", "normal")) != identity(
        make(2.0, "fan_in", "normal")
    )


def test_a_cache_is_bounded():
    calls = []

    @identity_file.remembered(3)
    def square(x):
        calls.append(x)
        return x * x

    assert [type(square(x)) for x in (1, 1.0, True, 1, 1.0)] == [
        int, float, int, int, float,
    ]  # fmt: skip
    assert len(calls) == 3
    square(2), square(3), square(1)
    assert len(calls) == 6  # the oldest went


FLAGS = {
    "jax_enable_x64": True,
    "jax_numpy_dtype_promotion": "strict",
    "jax_default_matmul_precision": "float32",
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_random_seed_offset": 7,
    "jax_softmax_custom_jvp": False,
}


@pytest.mark.parametrize("name", FLAGS)
def test_settings_that_traces_depend_on_are_told_apart(name):
    before, value = trace_context(), getattr(jax.config, name)
    jax.config.update(name, FLAGS[name] if value != FLAGS[name] else not value)
    try:
        assert trace_context() != before
    finally:
        jax.config.update(name, value)
    assert trace_context() == before


def in_a_sampler(array):
    @jax.jit
    def draw(key):
        return jax.random.normal(key, array.shape) + array

    jinit.materialize(lambda key: draw(key))(jax.random.key(0))


def as_a_result(array):
    jinit.materialize(lambda key: (jax.random.normal(key), array))(jax.random.key(0))


def in_an_activation(array):
    jinit.gain(lambda x: jnp.tanh(x) * array[0])


def in_a_sweep(array):
    jinit.sweep(
        lambda key: (jax.random.normal(key) * array).sum(), jax.random.key(0), 2
    )


def in_a_plan(array):
    tree = {"w": jax.ShapeDtypeStruct(array.shape, "float32")}
    plan = jinit.plan(tree, [("w", lambda key, shape, dtype: array.astype(dtype))])
    plan.init(jax.random.key(0))


@pytest.mark.parametrize(
    "use", [in_a_sampler, as_a_result, in_an_activation, in_a_sweep, in_a_plan]
)
def test_no_cache_keeps_an_array_alive(use):
    array = jnp.arange(5.0) + 1
    use(array)
    reference = weakref.ref(array)
    del array
    gc.collect()
    assert reference() is None


def test_programs_differ_where_their_parameters_differ():
    def signature(power):
        closed = jax.make_jaxpr(lambda x: jax.lax.pad(x, power, [(1, 1, 0)]))(
            jnp.ones(2)
        )
        (step,) = [e for e in closed.jaxpr.eqns if e.primitive.name == "pad"]
        return signature_of(step)

    assert signature(0.0) == signature(0.0)

    def of_power(value):
        eqn = jax.make_jaxpr(lambda x: jax.lax.integer_pow(x, value))(2.0).jaxpr.eqns[0]
        return signature_of(eqn)

    assert of_power(2) == of_power(2) != of_power(3)
    assert len(executables.PROGRAMS) <= executables._MOST_PROGRAMS
