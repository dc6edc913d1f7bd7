"""What every scheme of the registry must do."""

import copy
import functools
import json
import pickle

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from tests import laws
from tests.cases import CONSTANT, INITIALIZERS, RANDOM, shape_for

NAMES = sorted(INITIALIZERS)
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
REALS = {"uniform", "truncated_normal"}


def fits(name, shape):
    """Whether the scheme is defined for the shape, with its default axes."""
    if name in CONSTANT | {"normal", "uniform", "truncated_normal"}:
        return True
    if name == "delta_orthogonal":
        return len(shape) in (3, 4, 5)
    return len(shape) >= 2


def values(x):
    return np.asarray(x, np.complex64 if jnp.iscomplexobj(x) else np.float32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_dtypes(name, dtype, key):
    init = INITIALIZERS[name]
    for shape in SHAPES:
        if fits(name, shape):
            x = init(key, shape, dtype)
            assert x.shape == shape and x.dtype == dtype
            assert np.isfinite(values(x)).all()
        else:
            with pytest.raises(ValueError, match="axes|shape"):
                init(key, shape, dtype)


@pytest.mark.parametrize("name", sorted(set(NAMES) - REALS))
def test_complex(name, key):
    x = INITIALIZERS[name](key, shape_for(name), "complex64")
    assert x.dtype == "complex64" and np.isfinite(values(x)).all()
    if name not in CONSTANT:
        assert (values(x).imag != 0).any()


@pytest.mark.parametrize("name", NAMES)
def test_float64(name, key, x64):
    x = INITIALIZERS[name](key, shape_for(name))
    assert x.dtype == np.float64
    if name not in CONSTANT:
        assert (np.asarray(x) != np.asarray(x, np.float32)).any()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_eager_jit_and_vmap_agree(name, dtype, key):
    init, shape = INITIALIZERS[name], shape_for(name)
    keys = jax.random.split(key, 3)
    one = functools.partial(init, shape=shape, dtype=dtype)
    eager = np.stack([values(one(k)) for k in keys])
    jitted = np.stack([values(jax.jit(lambda k: one(k))(k)) for k in keys])
    static = jax.jit(lambda k, init: init(k, shape, dtype), static_argnums=1)
    # Batched matrix products may round otherwise; all else is elementwise.
    equal = np.testing.assert_array_equal
    if "orthogonal" in name:
        atol = 2e-2 if dtype == "bfloat16" else 1e-6
        equal = functools.partial(np.testing.assert_allclose, atol=atol)
    equal(jitted, eager)
    equal(values(jax.vmap(one)(keys)), eager)
    equal(values(jax.jit(jax.vmap(one))(keys)), eager)
    equal(values(static(keys[0], init)), eager[0])


@pytest.mark.parametrize("name", NAMES)
def test_keys(name, key):
    init, shape = INITIALIZERS[name], shape_for(name)
    again = init(key, shape)
    np.testing.assert_array_equal(init(key, shape), again)
    legacy = jax.random.key_data(key)
    np.testing.assert_array_equal(init(legacy, shape), again)
    other = init(jax.random.fold_in(key, 1), shape)
    assert bool((other == again).all()) == (name in CONSTANT)


@pytest.mark.parametrize("name", NAMES)
def test_an_equal_initializer_traces_nothing_again(name, key):
    chex.clear_trace_counter()

    @functools.partial(jax.jit, static_argnums=1)
    @chex.assert_max_traces(n=1)
    def draw(key, init):
        return init(key, shape_for(name))

    draw(key, INITIALIZERS[name])
    draw(jax.random.fold_in(key, 1), copy.deepcopy(INITIALIZERS[name]))


@pytest.mark.parametrize("name", NAMES)
def test_one_program_serves_every_scale(name, key):
    shape = shape_for(name)
    INITIALIZERS[name](key, shape)
    with _count_compilations() as count:
        x = (0.37 * INITIALIZERS[name])(key, shape)
        x.block_until_ready()
    assert count() == 0


class _count_compilations:
    """How many XLA compilations happen inside the block."""

    def __enter__(self):
        self.events = []
        jax.monitoring.register_event_duration_secs_listener(self._heard)
        return lambda: len(self.events)

    def __exit__(self, *_):
        jax.monitoring.clear_event_listeners()

    def _heard(self, name, *_, **__):
        if name == "/jax/core/compile/backend_compile_duration":
            self.events.append(name)


@pytest.mark.parametrize("name", NAMES)
def test_values_of_values(name):
    init = INITIALIZERS[name]
    for value in (init, 0.5 * init, init * -2):
        assert eval(repr(value), {"jinit": jinit, "jax": jax}) == value
        assert pickle.loads(pickle.dumps(value)) == value
        assert copy.copy(value) == copy.deepcopy(value) == value
        assert hash(copy.deepcopy(value)) == hash(value)
        config = json.loads(json.dumps(jinit.to_config(value)))
        assert jinit.from_config(config) == value
        assert isinstance(value, jinit.Initializer)
    assert 0.5 * init != init
    with pytest.raises(AttributeError):
        init.dtype = "float64"


@pytest.mark.parametrize("name", NAMES)
def test_scaling_scales(name, key):
    init, shape = INITIALIZERS[name], shape_for(name)
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
    init = INITIALIZERS[name]
    assert nn.Dense(3, kernel_init=init) == nn.Dense(3, kernel_init=copy.deepcopy(init))


def law_of(name, init, shape):
    """scipy's law for a scheme of the registry."""
    std = init.std(shape)
    if name == "uniform":
        return laws.uniform(0.0, init.scale)
    if name.endswith("_uniform"):
        return laws.uniform(-std * 3**0.5, std * 3**0.5)
    if name.startswith(("glorot", "he_", "lecun_")) or name == "truncated_normal":
        return laws.truncated(std)
    return laws.normal(std)


@pytest.mark.parametrize("name", RANDOM)
def test_law(name, key):
    init, shape = INITIALIZERS[name], (500, 400)
    x = init(key, shape)
    laws.assert_law(x, law_of(name, init, shape))
    # The same test fails for a std that a wrong fan would give: 500 instead of 400.
    with pytest.raises(AssertionError):
        laws.assert_law(x * (500 / 400) ** 0.5, law_of(name, init, shape))


@pytest.mark.parametrize("name", RANDOM)
def test_moments_in_bfloat16(name, key):
    init, shape = INITIALIZERS[name], (500, 400)
    law = law_of(name, init, shape)
    mean, variance, _, excess = law.stats(moments="mvsk")
    x = init(key, shape, "bfloat16")
    laws.assert_moments(x, float(mean), float(variance) ** 0.5, float(excess) + 3)


@pytest.mark.parametrize("name", NAMES)
def test_entry_is_complete(name):
    entry = jinit.registry[name]
    assert entry.name == name
    assert entry.law and entry.formula and entry.use and entry.reference
    assert jinit.get(name, **_settings(name)) == INITIALIZERS[name]
    # `zeros` and `ones` are initializers; all other names are makers.
    is_filled = name in ("zeros", "ones")
    assert getattr(jinit, name) is (entry.maker() if is_filled else entry.maker)


def _settings(name):
    _, settings = INITIALIZERS[name]._spelling()
    return settings
