"""A second call sees what changed since the first: nothing kept is ever stale."""

import enum
import functools
import sys
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

import jinit

K = 2.0
pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(autouse=True)
def settings():
    """A global of this file, a module, and an object: what the functions below read."""
    module = types.ModuleType("settings_of_a_user")
    module.K = 2.0
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]
    globals()["K"] = 2.0


class Act:
    def __call__(self, x):
        return x * K


class Mode(enum.Enum):
    ONE = 1

    def __call__(self, x):
        return x * K


class Rows(list):
    pass


def of_a_global(change):
    change(globals(), "K")
    return lambda x: x * K


def of_a_callable_object(change):
    change(globals(), "K")
    return Act()


def of_an_enum(change):
    change(globals(), "K")
    return Mode.ONE


def of_a_wrapped_function(change):
    change(globals(), "K")

    @functools.wraps(jax.nn.relu)
    def relu(x):
        return jax.nn.relu(x) * K

    return relu


def of_a_closure_with_a_module(change):
    module = sys.modules["settings_of_a_user"]
    change(vars(module), "K")
    return lambda x: x * module.K


def of_an_import_inside(change):
    change(vars(sys.modules["settings_of_a_user"]), "K")

    def act(x):
        import settings_of_a_user

        return x * settings_of_a_user.K

    return act


def of_a_function_attribute(change):
    def act(x):
        return x * act.k

    act.k = 2.0
    change(vars(act), "k")
    return act


def of_a_bound_builtin(change):
    scales = {"k": 2.0}
    get = scales.get
    change(scales, "k")
    return lambda x: x * get("k")


def of_an_attribute_of_a_list(change):
    rows = Rows([1.0])
    rows.k = 2.0
    change(vars(rows), "k")
    return lambda x: x * rows.k


CASES = [value for name, value in list(globals().items()) if name.startswith("of_")]


def changed(make):
    """The function, and what changes the number that it reads from 2 to 20."""
    places = []
    function = make(lambda *place: places.append(place))
    ((holder, name),) = places
    return function, lambda: holder.__setitem__(name, 20.0)


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_a_probe_sees_what_changed(make, key):
    act, change = changed(make)
    variables = {"a": jax.random.normal(key, (4, 4))}
    x = jnp.ones((2, 4))

    def model(variables, x):
        return checkpoint_name(act(x @ variables["a"]), "h")

    def rms():
        rows = jinit.probe(model, variables, x).rows
        return next(row["rms"] for row in rows if row["path"] == "h")

    first = rms()
    change()
    assert rms() == pytest.approx(10 * first, rel=1e-5)


def test_an_object_in_a_class_of_linen(key):
    class Model(nn.Module):
        settings = types.SimpleNamespace(k=2.0)

        @nn.compact
        def __call__(self, x):
            return nn.Dense(4)(x * self.settings.k)

    x = jnp.ones((2, 4))
    variables = Model().init(key, x)
    first = jinit.probe(Model(), variables, x).rows[0]["rms"]
    Model.settings.k = 20.0
    second = jinit.probe(Model(), variables, x).rows[0]["rms"]
    assert second == pytest.approx(10 * first, rel=1e-5)


def test_a_gain_and_a_scheme_made_anew():
    f, change = changed(of_a_global)
    assert jinit.gain(f) == pytest.approx(0.5)
    change()
    assert jinit.gain(f) == pytest.approx(0.05)


def test_a_sweep_of_a_closure(key):
    k = 2.0

    def run(key):
        return jnp.float32(k)

    assert jinit.sweep(run, key, 2).tolist() == [2, 2]
    k = 20.0
    assert jinit.sweep(run, key, 2).tolist() == [20, 20]


def test_a_model_without_its_arguments_says_how_to_call(key):
    model, x = nnx.Linear(4, 4, rngs=nnx.Rngs(0)), jax.random.normal(key, (16, 4))
    linen = nn.Dense(4)
    for name in ("probe", "lsuv", "data_dependent", "metainit"):
        # A model that holds its arrays needs no variables; a Linen module does.
        getattr(jinit, name)(model, x)
        for arguments in ((), (x,)):
            with pytest.raises(TypeError, match=f"jinit.{name}\\(model, variables"):
                getattr(jinit, name)(linen, *arguments)


@pytest.mark.parametrize("make", [jinit.normal, jinit.he, jinit.he_normal])
def test_complex_draws_under_strict_promotion(make, key):
    plain = (2 * make())(key, (3, 3), "complex64")
    with jax.numpy_dtype_promotion("strict"):
        assert ((2 * make())(key, (3, 3), "complex64") == plain).all()
        jinit.orthogonal()(key, (3, 3), "complex64")
