"""materialize: one program for each law serves every shape, with the bits of JAX."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32

import jinit
from jinit._core.erf_inv import CENTRAL, INSIDE, is_exact
from jinit._materialize import chunks, entries, flat
from jinit._materialize.call import Traces
from tests.support.counting import count_compilations
from tests.support.trees import assert_equal

# Sizes around the ends of a block and of a chunk, and odd shapes. The axes of 3 and 4
# have loops with bits of their own on some versions of JAX.
SHAPES = [
    (2,), (1, 7), (3, 7), (7, 3), (5, 4), (129, 2), (chunks.BLOCK - 1,),
    (chunks.BLOCK + 1,), (chunks.CHUNK,), (chunks.CHUNK + 1,), (),  (0, 5),
]  # fmt: skip
LAWS = {
    "normal": lambda key, shape: nn.initializers.normal(0.3)(key, shape),
    "cut at 2": lambda key, shape: 0.3 * jax.random.truncated_normal(key, -2, 2, shape),
    "cut at 3": lambda key, shape: jax.random.truncated_normal(key, -1, 3, shape),
    "uniform": lambda key, shape: jax.random.uniform(key, shape, minval=-0.1),
    "bfloat16": lambda key, shape: jax.random.normal(key, shape, jnp.bfloat16),
    "bits": lambda key, shape: jax.random.bits(key, shape, np.uint16),
    "jinit": lambda key, shape: jinit.normal(0.3)(key, shape),
    "jinit, bfloat16": lambda key, shape: jinit.uniform(0.3)(key, shape, "bfloat16"),
}


def unit_of(function, key):
    """Return the unit that draws the only array of a function of a key."""
    call, _ = Traces(function).of((key,), {})
    (unit,) = [unit for unit in call.units if not unit.is_small]
    return unit


def init_of(law, shapes):
    def init(key):
        return [LAWS[law](jax.random.fold_in(key, i), s) for i, s in enumerate(shapes)]

    return init


@pytest.mark.parametrize("law", LAWS)
def test_all_shapes_have_the_eager_bits(law, key):
    init = init_of(law, SHAPES)
    assert_equal(jinit.materialize(init)(key), init(key))


@pytest.mark.parametrize("law", ["normal", "cut at 2", "cut at 3"])
def test_the_short_erf_inv_has_the_eager_bits(law, key):
    # From here on the process knows that the short form is exact, and uses it.
    is_exact()
    init = init_of(law, [(1 << 20,), (64, 65)])
    assert_equal(jinit.materialize(init)(key), init(key))


@pytest.mark.parametrize("law", LAWS)
def test_a_second_model_compiles_nothing(law, key):
    def drawn(shapes):
        with count_compilations() as count:
            jax.block_until_ready(jinit.materialize(init_of(law, shapes))(key))
        return count()

    drawn([(31, 37)])
    assert drawn([(41, 43), (chunks.CHUNK + 77,), (3, 1, 47)]) == 0


@pytest.mark.parametrize("law", LAWS)
def test_the_laws_are_flat_and_their_shapes_do_not_count(law, key):
    kinds = [
        flat.flat(unit_of(lambda key, shape=shape: LAWS[law](key, shape), key))
        for shape in ((8, 9), (5000,), (2, 30, 7))
    ]
    assert None not in kinds and len(set(kinds)) == 1


def test_the_bound_of_erf_inv_is_that_of_the_law(key):
    def bound(law):
        return flat.flat(unit_of(lambda key: law(key, (8, 9)), key)).bound

    def too_wide(key, shape):
        return jax.lax.erf_inv(jax.random.uniform(key, shape, minval=-1, maxval=1.5))

    assert bound(LAWS["normal"]) == bound(LAWS["cut at 3"]) == INSIDE
    assert bound(LAWS["cut at 2"]) == CENTRAL
    # Beyond 1 erf_inv is not a number, which the short form does not know.
    assert bound(too_wide) == np.inf


MIXING = {
    "transposed": lambda key: jax.random.normal(key, (64, 65)).T,
    "complex": lambda key: jax.random.normal(key, (64, 65), jnp.complex64),
    "bounds that are arrays": lambda key: jax.random.uniform(
        key, (64, 65), maxval=jnp.arange(1.0, 66.0)
    ),
}


@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_entries_has_its_own_program(name, key):
    call, _ = Traces(MIXING[name]).of((key,), {})
    large = [unit for unit in call.units if not unit.is_small]
    assert None in list(map(flat.flat, large))
    assert_equal(jinit.materialize(MIXING[name])(key), MIXING[name](key))


def test_keys_of_rows_and_other_threefry(key):
    rows = jax.random.split(key, 4)
    by_row = jax.vmap(lambda key: jax.random.normal(key, (65,)))
    assert_equal(jinit.materialize(by_row)(rows), by_row(rows))
    with jax.threefry_partitionable(False):
        init = init_of("normal", [(64, 65)])
        assert not chunks.available()
        assert_equal(jinit.materialize(init)(key), init(key))


def test_float64_and_float16(key, x64):
    for dtype in (jnp.float64, jnp.float16, jnp.float32):

        def init(key, dtype=dtype):
            return jax.random.truncated_normal(key, -2, 2, (300, 7), dtype)

        got = jinit.materialize(init)(key)
        assert got.dtype == dtype
        assert_equal(got, init(key))


@pytest.mark.parametrize("first", [0, 1 << 20, (1 << 32) - 2048, 1 << 32, 5 << 40])
def test_the_numbers_of_entries_have_64_bits(first, key):
    unit = unit_of(lambda key: jax.random.bits(key, (8, 9)), key)
    high, low = chunks.words_of(first)
    low = low + np.arange(2048, dtype=np.uint32)
    high = np.full_like(low, high)
    got = entries.replayed(unit, [key], (jnp.asarray(high), jnp.asarray(low)), np.inf)
    words = threefry_2x32(jax.random.key_data(key), np.concatenate([high, low]))
    np.testing.assert_array_equal(got, words[:2048] ^ words[2048:])
    assert int(high[0]) << 32 | int(low[0]) == first


@pytest.mark.parametrize("size", [100, chunks.CHUNK + 1, chunks.PIECE + 5])
def test_a_result_can_be_donated(size, key):
    def init(key):
        return jax.random.uniform(key, (size,))

    got = jinit.materialize(init)(key)
    wanted = np.array(init(key))
    np.testing.assert_array_equal(got, wanted)
    place = got.unsafe_buffer_pointer()
    after = jax.jit(lambda x: x + 1, donate_argnums=0)(got)
    assert got.is_deleted() and after.unsafe_buffer_pointer() == place
    np.testing.assert_array_equal(after, wanted + 1)


def test_results_have_memory_of_their_own(key):
    init = init_of("uniform", [(1000,)] * 4)
    got = jinit.materialize(init)(key)
    places = [x.unsafe_buffer_pointer() for x in got]
    assert all(abs(a - b) >= 4000 for a, b in itertools.combinations(places, 2))


def test_subnormal_numbers_are_those_of_xla(key):
    def init(key):
        scale = jnp.float32(1e-38) * jnp.float32(0.01)
        return jax.random.normal(key, (5, 7)) * (scale * 1e30)

    assert_equal(jinit.materialize(init)(key), init(key))
