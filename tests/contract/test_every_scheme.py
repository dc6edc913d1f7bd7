"""What every scheme of the registry must do."""

import copy
import functools
import json
import operator
import pickle

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from tests.support import laws
from tests.support.cases import CASES, OTHERS
from tests.support.counting import count_compilations
from tests.support.split import slow_unless

NAMES = sorted(CASES)
LAWS = sorted(name for name, case in CASES.items() if case.law)
DTYPES = ["float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
SHAPES = [
    (),
    (4,),
    (6, 10),
    (3, 6, 10),
    (3, 2, 6, 10),
    (2, 3, 2, 6, 10),
    (0, 7),
    (5, 0),
]


def twin_of(init):
    """Return another object, equal to an initializer."""
    return pickle.loads(pickle.dumps(init))


def values(x):
    return np.asarray(x, np.complex64 if jnp.iscomplexobj(x) else np.float32)


# A shape takes a compilation: by default all are traced, and these are drawn.
DRAWN = [(), (3, 6, 10), (5, 0)]


@pytest.mark.parametrize("name", NAMES)
def test_shapes(name, key):
    def traced(key, shape, dtype):
        return jax.eval_shape(lambda k: CASES[name].init(k, shape, dtype), key)

    check_shapes(name, SHAPES, "float32", key, draw=traced)
    check_shapes(name, DRAWN, "float32", key)


# float32 and bfloat16 are drawn by all tests below.
@pytest.mark.parametrize(
    "name, dtype",
    slow_unless(
        [(name, "float8_e4m3fn") for name in NAMES],
        [(name, dtype) for name in NAMES for dtype in DTYPES[1:]],
    ),
)
def test_dtypes(name, dtype, key):
    x = CASES[name].init(key, CASES[name].shape, dtype)
    assert x.shape == CASES[name].shape and x.dtype == dtype
    assert np.isfinite(values(x)).all()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_all_shapes_in_all_dtypes(name, dtype, key):
    check_shapes(name, SHAPES, dtype, key)


def check_shapes(name, shapes, dtype, key, draw=None):
    draw = draw or CASES[name].init
    for shape in shapes:
        if CASES[name].takes(shape):
            x = draw(key, shape, dtype)
            assert x.shape == shape and x.dtype == dtype
            if isinstance(x, jax.Array):
                assert np.isfinite(values(x)).all()
        else:
            with pytest.raises(ValueError, match="axes|shape"):
                draw(key, shape, dtype)


@pytest.mark.parametrize("name", [name for name in NAMES if CASES[name].complex])
def test_complex(name, key):
    x = CASES[name].init(key, CASES[name].shape, "complex64")
    assert x.dtype == "complex64" and np.isfinite(values(x)).all()
    if not CASES[name].constant:
        assert (values(x).imag != 0).any()


@pytest.mark.parametrize("name", NAMES)
def test_float64(name, key, x64):
    x = CASES[name].init(key, CASES[name].shape)
    assert x.dtype == np.float64
    if not (CASES[name].constant or CASES[name].single):
        assert (np.asarray(x) != np.asarray(x, np.float32)).any()


@pytest.mark.parametrize("name", NAMES)
def test_eager_jit_and_vmap_agree(name, key):
    check_forms(name, "float32", key, ["jit", "vmap"])


@pytest.mark.parametrize("name", NAMES)
def test_eager_jit_and_vmap_agree_in_bfloat16(name, key):
    # Each form is a compilation, and this one has both transformations.
    check_forms(name, "bfloat16", key, ["jit of vmap"])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_other_forms_agree(name, key):
    check_forms(name, "float32", key, ["jit of vmap"])
    check_forms(name, "bfloat16", key, ["jit", "vmap"])


def check_forms(name, dtype, key, forms):
    init, shape = CASES[name].init, CASES[name].shape
    keys = jax.random.split(key, 3)
    one = functools.partial(init, shape=shape, dtype=dtype)
    eager = np.stack([values(one(k)) for k in keys])
    assert eager.shape == (3, *shape) and np.isfinite(eager).all()
    static = jax.jit(lambda k, init: init(k, shape, dtype), static_argnums=1)
    ways = {
        "jit": lambda keys: np.stack([values(static(k, init)) for k in keys]),
        "vmap": jax.vmap(one),
        "jit of vmap": jax.jit(jax.vmap(one)),
    }
    # Batched matrix products may round otherwise; all else is elementwise.
    equal = np.testing.assert_array_equal
    if CASES[name].atol:
        atol = 2e-2 if dtype == "bfloat16" else CASES[name].atol
        equal = functools.partial(np.testing.assert_allclose, atol=atol)
    for form in forms:
        equal(values(ways[form](keys)), eager, err_msg=form)


@pytest.mark.parametrize("name", NAMES)
def test_keys(name, key):
    init, shape = CASES[name].init, CASES[name].shape
    again = init(key, shape)
    np.testing.assert_array_equal(init(key, shape), again)
    legacy = jax.random.key_data(key)
    np.testing.assert_array_equal(init(legacy, shape), again)
    other = init(jax.random.fold_in(key, 1), shape)
    assert bool((other == again).all()) == CASES[name].constant


@pytest.mark.parametrize("name", NAMES)
def test_an_equal_initializer_traces_nothing_again(name, key):
    chex.clear_trace_counter()

    @functools.partial(jax.jit, static_argnums=1)
    @chex.assert_max_traces(n=1)
    def draw(key, init):
        return init(key, CASES[name].shape)

    draw.trace(key, CASES[name].init)
    draw.trace(jax.random.fold_in(key, 1), twin_of(CASES[name].init))
    with pytest.raises(AssertionError):
        draw.trace(key, 0.37 * CASES[name].init)


@pytest.mark.parametrize("name", NAMES)
def test_one_program_serves_every_scale(name, key):
    shape = CASES[name].shape
    CASES[name].init(key, shape)
    with count_compilations() as count:
        x = (0.37 * CASES[name].init)(key, shape)
        x.block_until_ready()
    assert count() == 0


@pytest.mark.parametrize("name", NAMES)
def test_values_of_values(name):
    init = CASES[name].init
    for value in (init, 0.5 * init, init * -2):
        assert eval(repr(value), {"jinit": jinit, "jax": jax}) == value
        assert pickle.loads(pickle.dumps(value)) == value
        assert copy.copy(value) is copy.deepcopy(value) is value
        assert hash(twin_of(value)) == hash(value)
        config = json.loads(json.dumps(jinit.to_config(value)))
        assert jinit.from_config(config) == value
        assert isinstance(value, jinit.Initializer)
    assert 0.5 * init != init
    with pytest.raises(AttributeError):
        init.dtype = "float64"


@pytest.mark.parametrize("name", NAMES)
def test_scaling_scales(name, key):
    init, shape = CASES[name].init, CASES[name].shape
    np.testing.assert_allclose(
        (init * -0.3)(key, shape), -0.3 * init(key, shape), rtol=1e-6
    )
    std = init.std(shape)
    assert (init * -0.3).std(shape) == (
        None if std is None else pytest.approx(0.3 * std)
    )
    assert 2 * (0.5 * init) == init


@pytest.mark.parametrize("name", NAMES)
def test_modules_that_hold_equal_initializers_are_equal(name):
    init = CASES[name].init
    assert nn.Dense(3, kernel_init=init) == nn.Dense(3, kernel_init=twin_of(init))


@pytest.mark.parametrize("name", LAWS)
def test_law(name, key):
    init, shape = CASES[name].init, (500, 400)
    law = CASES[name].law(init.std(shape))
    x = init(key, shape)
    laws.assert_law(x, law)
    # The same test fails for a std that a wrong fan would give: 500 instead of 400.
    with pytest.raises(AssertionError):
        laws.assert_law(x * (500 / 400) ** 0.5, law)


@pytest.mark.parametrize("name", LAWS)
def test_moments_in_bfloat16(name, key):
    init, shape = CASES[name].init, (500, 400)
    law = CASES[name].law(init.std(shape))
    mean, variance, _, excess = law.stats(moments="mvsk")
    x = init(key, shape, "bfloat16")
    laws.assert_moments(x, float(mean), float(variance) ** 0.5, float(excess) + 3)


def test_every_entry_has_a_case():
    assert {name.partition("[")[0] for name in CASES} | OTHERS == set(jinit.registry)


@pytest.mark.parametrize("name", sorted(jinit.registry))
def test_entry_is_complete(name):
    entry = jinit.registry[name]
    assert entry.name == name
    assert entry.law and entry.formula and entry.use and entry.reference
    # `zeros` and `ones` are initializers; all other names are makers.
    is_filled = name in ("zeros", "ones")
    public = operator.attrgetter(name)(jinit)
    assert public is (entry.maker() if is_filled else entry.maker)


@pytest.mark.parametrize("name", NAMES)
def test_a_case_is_what_its_name_and_settings_get(name):
    found, settings = CASES[name].init._spelling()
    if found == name:
        assert jinit.get(name, **settings) == CASES[name].init
        assert jinit.get(CASES[name].init) is CASES[name].init


DIFFERENT = [
    (jinit.constant(1), jinit.constant(1.0)),
    (jinit.constant(1), jinit.constant(True)),
    (jinit.constant(1.0), jinit.constant(1 + 0j)),
    (jinit.constant(0.0), jinit.constant(-0.0)),
    (jinit.constant([0.0, 1.0]), jinit.constant([-0.0, 1.0])),
    (jinit.constant([1, 2]), jinit.constant([1.0, 2.0])),
    (jinit.uniform(0.0), jinit.uniform(-0.0)),
    (jinit.truncated_normal(), jinit.truncated_normal(mean=-0.0)),
    (jinit.stacked(jinit.constant(1)), jinit.stacked(jinit.constant(True))),
]

ALIKE = [
    (jinit.normal(1), jinit.normal(1.0)),
    (jinit.normal(np.float64(0.5)), jinit.normal(jnp.float32(0.5))),
    (jinit.constant(np.float32(1.5)), jinit.constant(1.5)),
    (jinit.constant(np.True_), jinit.constant(True)),
    (jinit.constant(np.nan), jinit.constant(float("nan"))),
    (jinit.wang_init(np.int64(12)), jinit.wang_init(12)),
]


def test_equality_is_exact():
    for one, other in DIFFERENT:
        assert one != other and other != one and len({one, other}) == 2
        # Flax compares the modules that it has compiled by their fields.
        assert one.__fn_or_cls__ != other.__fn_or_cls__
    for one, other in ALIKE:
        assert one == other and hash(one) == hash(other)


def test_every_different_value_has_its_repr_and_configuration():
    complexes = [jinit.constant(1 + 2j), 0.5 * jinit.constant([1j, 3 - 2j])]
    for init in complexes + [init for pair in DIFFERENT for init in pair]:
        assert eval(repr(init), {"jinit": jinit}) == init
        config = json.loads(json.dumps(jinit.to_config(init)))
        assert jinit.from_config(config) == init
        assert pickle.loads(pickle.dumps(init)) == init
    init = jinit.wang_init(12, gain=2.0)
    assert eval(repr(init), {"jinit": jinit}) == init


def test_a_hash_is_not_pickled():
    init = jinit.he(layout="io")
    hash(init)
    # Hashes of strings differ between processes.
    assert b"_hash" not in pickle.dumps(init)
