"""Arrays that are drawn where they live: equal on every mesh, and no communication."""

import jax
import jax.nn.initializers as jax_initializers
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jinit
from tests.support.cases import CASES
from tests.support.meshes import COLLECTIVES, make_mesh
from tests.support.split import slow_unless

SHAPE = (16, 24)
MESHES = [((1,), P("x")), ((2,), P("x")), ((4,), P(None, "x")), ((8,), P("x"))]
MESHES += [((2, 4), P("x", "y")), ((4, 2), P("y", "x")), ((2, 4), P(("x", "y"), None))]

# The engines, on every mesh; all schemes, on one.
ENGINES = [
    "he_normal",
    "xavier",
    "he_uniform",
    "orthogonal",
    "delta_orthogonal",
    "ones",
]
ON_MESHES = [(name, *mesh) for name in ENGINES for mesh in MESHES]
ON_MESHES += [
    (name, (2, 4), P(*CASES[name].sharded_over))
    for name in sorted(set(CASES) - set(ENGINES))
]
WAYS = [(AxisType.Auto, "eager"), (AxisType.Explicit, "traced")]
WAYS += [(AxisType.Auto, "traced"), (AxisType.Explicit, "eager")]
PLACED = [(*case, *way) for case in ON_MESHES for way in WAYS]


def is_default(name, sizes, spec, kind, how):
    """Tell whether a case runs by default: most meshes are only for one engine."""
    few = name in ENGINES[1:] and (sizes, spec) not in MESHES[3:5]
    return (kind, how) in WAYS[:2] and not few


@pytest.mark.parametrize(
    "name, sizes, spec, kind, how",
    slow_unless([case for case in PLACED if is_default(*case)], PLACED),
)
def test_out_sharding(name, sizes, spec, kind, how, key):
    init, shape = CASES[name].init, CASES[name].sharded_shape
    spec = P(*[None] * (len(shape) - 2), *spec)
    sharding = NamedSharding(make_mesh(sizes, kind), spec)
    if how == "eager":
        x = init(key, shape, None, sharding)
    else:
        x = jax.jit(lambda k: init(k, shape, "float32", sharding))(key)
    assert x.sharding.is_equivalent_to(sharding, len(shape))
    np.testing.assert_allclose(x, init(key, shape), **tolerance(name))


def tolerance(name):
    # A factorization may round otherwise on other devices; draws are equal to the bit.
    return {"rtol": 0, "atol": CASES[name].atol}


@pytest.mark.parametrize("name", ["he_normal", "he_uniform", "xavier", "normal"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_communication(name, dtype, key):
    sharding = NamedSharding(make_mesh((2, 4)), P("x", "y"))
    init = CASES[name].init
    draw = jax.jit(lambda k: init(k, (64, 64), dtype), out_shardings=sharding)
    program = draw.lower(key).compile().as_text()
    assert not COLLECTIVES.search(program)
    np.testing.assert_array_equal(draw(key), init(key, (64, 64), dtype))


def test_no_device_holds_more_than_its_part(key):
    sharding = NamedSharding(make_mesh((8,)), P("x"))
    init = jinit.he_normal()
    # Up to 2^22 entries the random bits lie in memory as well, in as many parts.
    for rows, beside in ((4096, 1.01), (8192, 0.25)):
        shape = rows, 1024
        draw = jax.jit(lambda k, s=shape: init(k, s), out_shardings=sharding)
        memory = draw.lower(key).compile().memory_analysis()
        part = rows * 1024 * 4 // 8
        assert memory.output_size_in_bytes <= part + 1024
        assert memory.temp_size_in_bytes < beside * part


@pytest.mark.parametrize("name", ["he_normal", "xavier", "zeros", "orthogonal"])
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_a_partition_spec_in_the_mesh_of_the_context(name, kind, key):
    init = CASES[name].init
    with jax.set_mesh(make_mesh((2, 4), kind)):
        eager = init(key, SHAPE, None, P("x", "y"))
        traced = jax.jit(lambda k: init(k, SHAPE, None, P("x", "y")))(key)
    assert eager.sharding.spec == traced.sharding.spec == P("x", "y")
    np.testing.assert_allclose(eager, init(key, SHAPE), **tolerance(name))
    np.testing.assert_allclose(traced, init(key, SHAPE), **tolerance(name))


def test_in_an_explicit_mesh_without_a_sharding(key):
    with jax.set_mesh(make_mesh((2, 4), AxisType.Explicit)):
        x = jinit.he_normal()(key, SHAPE)
        assert x.sharding.is_fully_replicated
    np.testing.assert_array_equal(x, jinit.he_normal()(key, SHAPE))


def test_random_functions_too(key):
    sharding = NamedSharding(make_mesh((8,)), P("x"))
    x = jinit.random.normal(key, (16, 3), out_sharding=sharding)
    assert x.sharding.is_equivalent_to(sharding, 2)
    np.testing.assert_array_equal(x, jinit.random.normal(key, (16, 3)))
    np.testing.assert_array_equal(
        jinit.random.bits(key, (16, 3), out_sharding=sharding),
        jax.random.bits(key, (16, 3)),
    )


def test_jax_raises_where_jinit_draws(key):
    sharding = NamedSharding(make_mesh((8,)), P("x"))
    with pytest.raises(NotImplementedError):
        jax_initializers.orthogonal()(key, SHAPE, jnp.float32, sharding)
    assert jinit.orthogonal()(key, SHAPE, None, sharding).shape == SHAPE


ERRORS = [
    (
        lambda k, m: NamedSharding(m, P("x")),
        (15, 4),
        ValueError,
        "multiple of its devices",
    ),
    (
        lambda k, m: NamedSharding(m, P("x", None, None)),
        (16, 4),
        ValueError,
        "has 3 entries.*at most one entry for each axis",
    ),
    (lambda k, m: P("x"), (16, 4), ValueError, "there is no mesh.*jax.set_mesh"),
    (lambda k, m: "x", (16, 4), TypeError, "must be a jax.sharding.NamedSharding"),
]


@pytest.mark.parametrize("make, shape, error, text", ERRORS)
def test_errors(make, shape, error, text, key):
    with pytest.raises(error, match=text):
        jinit.he_normal()(key, shape, None, make(key, make_mesh((8,))))
