"""Every name of jax.nn.initializers and flax: same signature, same values."""

import inspect
import itertools

import flax.linen.initializers as flax_initializers
import flax.nnx as nnx
import jax
import jax.nn.initializers as jax_initializers
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jinit
from tests.support.split import slow_unless

PRESETS = [
    "glorot_uniform", "glorot_normal", "lecun_uniform", "lecun_normal", "he_uniform",
    "he_normal",
]  # fmt: skip
MODES = ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
DISTRIBUTIONS = ["truncated_normal", "normal", "uniform"]
SHAPES = [(3, 5), (17, 33), (784, 256), (3, 3, 16, 32), (5, 3, 1, 7, 2), (1023, 511)]

# Some that are made with arguments: (maker's arguments, by either library).
MADE = {
    "normal": [(), (0.3,)],
    "uniform": [(), (7.0,), (-0.5,)],
    "truncated_normal": [(), (0.3,), (1.0, None, -1.0, 3.0)],
    "constant": [(0.5,), (-7,)],
    "delta_orthogonal": [],
    "orthogonal": [],
}


def names(module):
    return {
        n for n in dir(module) if not n.startswith("_") and callable(getattr(module, n))
    }


def public(module):
    return {n for n in names(module) if n.islower() or n == "Initializer"}


def assert_same(ours, theirs, key, shape, dtype=None):
    reference = jax.jit(lambda k: theirs(k, shape, dtype))(key)
    direct, traced = (
        ours(key, shape, dtype),
        jax.jit(lambda k: ours(k, shape, dtype))(key),
    )
    assert direct.dtype == reference.dtype and direct.shape == reference.shape
    np.testing.assert_array_equal(direct, reference)
    np.testing.assert_array_equal(traced, reference)


def test_all_names_exist():
    assert public(jax_initializers) <= names(jinit)
    assert public(flax_initializers) - {"Initializer"} <= names(jinit)
    assert public(nnx.initializers) - {"Initializer"} <= names(jinit)


@pytest.mark.parametrize("name", sorted(public(jax_initializers) - {"Initializer"}))
def test_positional_signatures(name):
    """What JAX takes by position, jinit takes by position, with the same defaults."""

    def positional(function):
        return [
            (p.name, p.default)
            for p in inspect.signature(function).parameters.values()
            if p.kind is p.POSITIONAL_OR_KEYWORD
        ]

    ours, theirs = getattr(jinit, name), getattr(jax_initializers, name)
    if name in ("zeros", "ones"):
        ours = ours.__call__
    assert positional(ours) == positional(theirs)


ALIASES = {
    "xavier_uniform": "glorot_uniform", "xavier_normal": "glorot_normal",
    "kaiming_uniform": "he_uniform", "kaiming_normal": "he_normal",
}  # fmt: skip


@pytest.mark.parametrize("name", ALIASES)
def test_other_names_are_the_same_values(name):
    for module in (jinit, jax_initializers):
        assert getattr(module, name) is getattr(module, ALIASES[name])


# Every preset at one shape, and every shape with one law of each kind.
ENGINES = ["he_normal", "lecun_uniform"]
ALL = [(name, shape) for name in PRESETS for shape in SHAPES]
SOME = [case for case in ALL if case[0] in ENGINES or case[1] == SHAPES[1]]


@pytest.mark.parametrize("name, shape", slow_unless(SOME, ALL))
def test_presets(name, shape, key):
    assert_same(getattr(jinit, name)(), getattr(jax_initializers, name)(), key, shape)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_in_float64(name, key, x64):
    assert_same(
        getattr(jinit, name)(), getattr(jax_initializers, name)(), key, (77, 33)
    )


VARIANCES = [
    (scale, shape, mode, distribution)
    for scale, shape in ((0.1, (48, 31)), (2.0, (3, 3, 5, 7)))
    for mode in MODES
    for distribution in DISTRIBUTIONS
]
# Each mode at both shapes, and each law with several modes.
SOME = [VARIANCES[index] for index in (0, 4, 8, 10, 13, 17, 18, 21)]


@pytest.mark.parametrize(
    "scale, shape, mode, distribution", slow_unless(SOME, VARIANCES)
)
def test_variance_scaling(scale, shape, mode, distribution, key):
    arguments = (scale, mode, distribution)
    ours = jinit.variance_scaling(*arguments)
    theirs = jax_initializers.variance_scaling(*arguments)
    assert_same(ours, theirs, key, shape)


@pytest.mark.parametrize(
    "axes",
    [
        {"in_axis": 0, "out_axis": 1},
        {"in_axis": 0, "out_axis": (1, 2)},
        {"in_axis": (0, 1), "out_axis": 2},
        {"in_axis": -2, "out_axis": -1, "batch_axis": 0},
        {"in_axis": 1, "out_axis": 2, "batch_axis": (0,)},
        # Overlaps, which JAX accepts: the embedding idiom among them.
        {"in_axis": -2, "out_axis": 0},
        {"in_axis": 0, "out_axis": 0},
    ],
)
def test_axes(axes, key):
    arguments = (1.0, "fan_in", "normal")
    ours = jinit.variance_scaling(*arguments, **axes)
    theirs = jax_initializers.variance_scaling(*arguments, **axes)
    assert_same(ours, theirs, key, (6, 10, 14))


def test_the_embedding_idiom(key):
    arguments = (1.0, "fan_in", "normal")
    ours = jinit.variance_scaling(*arguments, out_axis=0)
    assert_same(
        ours, jax_initializers.variance_scaling(*arguments, out_axis=0), key, (100, 16)
    )
    assert ours.std((100, 16)) == pytest.approx(16**-0.5)


@settings(deadline=None, max_examples=6)
@given(
    shape=st.lists(st.integers(1, 12), min_size=2, max_size=4).map(tuple),
    scale=st.floats(0.01, 100.0),
    mode=st.sampled_from(MODES),
    distribution=st.sampled_from(DISTRIBUTIONS),
)
def test_any_shape_and_scale(shape, scale, mode, distribution):
    arguments = (scale, mode, distribution)
    ours = jinit.variance_scaling(*arguments)
    assert_same(
        ours, jax_initializers.variance_scaling(*arguments), jax.random.key(1), shape
    )


def test_the_std_is_jax_s_for_a_thousand_fans():
    """The float32 standard deviation follows JAX's order of casts: all fans agree."""
    for fan in range(1, 1001):
        for name, (scale, distribution) in {
            "he_normal": (2.0, "truncated_normal"),
            "lecun_uniform": (1.0, "uniform"),
        }.items():
            _, ours = getattr(jinit, name)()._law((fan, 1), np.dtype(np.float32))
            variance = jnp.array(scale / fan, jnp.float32)
            if distribution == "uniform":
                theirs = np.sqrt(np.float32(3) * np.asarray(variance))
            else:
                theirs = np.sqrt(np.asarray(variance)) / np.float32(0.87962566103423978)
            assert ours == theirs


@pytest.mark.parametrize("name", sorted(MADE))
def test_made_with_arguments(name, key):
    for arguments in MADE[name]:
        ours = getattr(jinit, name)(*arguments)
        theirs = getattr(jax_initializers, name)(*arguments)
        assert_same(ours, theirs, key, (33, 17))


MATRICES = [
    (shape, axis)
    for shape in [(16, 16), (32, 8), (8, 32), (2, 3, 4, 5)]
    for axis in (-1, 0)
]
# Tall and wide, by the last axis and by the first.
SOME = [((32, 8), -1), ((8, 32), 0), ((2, 3, 4, 5), -1)]


@pytest.mark.parametrize("shape, column_axis", slow_unless(SOME, MATRICES))
def test_orthogonal_by_qr(shape, column_axis, key):
    ours = jinit.orthogonal(1.5, column_axis, method="qr")
    assert_same(ours, jax_initializers.orthogonal(1.5, column_axis), key, shape)


@pytest.mark.parametrize(
    ("shape",),
    slow_unless([((3, 5, 4, 8),)], [((3, 4, 8),), ((3, 5, 4, 8),), ((2, 3, 3, 4, 8),)]),
)
def test_delta_orthogonal_by_qr(shape, key):
    ours = jinit.delta_orthogonal(method="qr")
    assert_same(ours, jax_initializers.delta_orthogonal(), key, shape)


def test_zeros_and_ones_are_initializers(key):
    for name in ("zeros", "ones"):
        assert_same(getattr(jinit, name), getattr(jax_initializers, name), key, (3, 2))
        maker = getattr(jinit, f"{name}_init")
        flax_maker = getattr(flax_initializers, f"{name}_init")
        assert_same(maker(), flax_maker(), key, (3, 2), "int32")


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_complex_is_jax_s_construction(distribution, key):
    arguments = (1.0, "fan_in", distribution)
    ours = jinit.variance_scaling(*arguments)(key, (300, 200), "complex64")
    theirs = jax_initializers.variance_scaling(*arguments)(key, (300, 200), "complex64")
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_eager_jax_is_within_an_ulp(key):
    ours = np.asarray(jinit.normal(0.3)(key, (1000, 100)))
    eager = np.asarray(jax_initializers.normal(0.3)(key, (1000, 100)))
    np.testing.assert_array_max_ulp(ours, eager, maxulp=1)


# Shapes such that XLA unrolls a loop over the last axis, or writes it out whole.
ROWS = (1, 2, 4, 8, 17, 23, 30, 33, 40, 500)
UNROLLED = [
    *itertools.product(ROWS, (2, 3, 4, 5, 6)),
    *itertools.product((2, 4, 8), (3, 4), (3, 4, 5)),
    (5, 5, 3, 3), (3, 3, 64, 3), (2, 2, 2, 4), (30, 5, 1), (30, 1, 4), (7, 3, 1, 1),
]  # fmt: skip
BY_DEFAULT = [(4, 3), (33, 5), (4, 4, 4)]


@pytest.mark.parametrize(
    "shape", slow_unless([(s,) for s in BY_DEFAULT], [(s,) for s in UNROLLED])
)
def test_float32_equals_jax_where_xla_unrolls_loops(shape, key):
    for name, numbers in {
        "normal": [0.02],
        "he_normal": [],
        "xavier_normal": [],
    }.items():
        init = getattr(jax_initializers, name)(*numbers)
        theirs = jax.jit(init, static_argnums=1)(key, shape)
        ours = getattr(jinit, name)(*numbers)(key, shape)
        np.testing.assert_array_equal(ours, theirs, name)
