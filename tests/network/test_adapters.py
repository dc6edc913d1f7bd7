"""Models of every library become pure functions of their parameters.

See test_zoo.py for how to run the tests of libraries that jinit does not depend on.
"""

import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jinit._network.adapters import adapt, require_numbers, trace
from tests.support.zoo import adapted as zoo
from tests.support.zoo import other_libraries

KEY, X = zoo.KEY, zoo.X
CASES = {
    f"{library}: {name}": case
    for library, cases in {
        "Linen": zoo.linen(),
        "NNX": zoo.nnx_models(),
        "plain": zoo.plain(),
    }.items()
    for name, case in cases.items()
}
# Libraries that jinit does not depend on: their modules, and the packages to install.
OTHERS = {
    "equinox": "equinox",
    "haiku": "dm-haiku",
    "keras": "keras",
    "penzai": "penzai",
}


def adapted(case):
    return adapt(case.model, case.arguments, case.rngs, dict(case.options))


def same(output, expected):
    output, expected = jax.tree.leaves(output), jax.tree.leaves(expected)
    for one, other in zip(output, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-5)


def check(case):
    """Compare an adapted model with the user's own call, and with what was passed."""
    one = adapted(case)
    assert set(one.paths) == set(case.paths)
    closed, _ = trace(one)
    shapes = [leaf.shape for leaf in jax.tree.leaves(one.params)]
    assert [v.aval.shape for v in closed.jaxpr.invars[: len(one.paths)]] == shapes
    same(one.apply(one.params, *one.inputs), case.call())
    # A second call gives the same: nothing was changed by the first.
    same(one.apply(one.params, *one.inputs), case.call())
    if case.again is not None:
        same(case.again(one.rebuild(one.params)), case.call())
        halves = jax.tree.map(lambda leaf: leaf / 2, one.params)
        again = case.again(one.rebuild(halves))
        same(again, one.apply(halves, *one.inputs))
        assert not np.allclose(*map(jax.tree.leaves, (again, case.call())), 1e-3)


@pytest.mark.parametrize("name", CASES)
def test_the_function_is_what_the_user_calls(name):
    check(CASES[name])


@pytest.mark.parametrize("library", OTHERS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_other_libraries(library):
    if not zoo.installed(library):
        pytest.skip(f"{library} is not installed: pip install {OTHERS[library]}")
    # Keras adds biases of lower rank.
    with jax.numpy_rank_promotion("allow"):
        for case in getattr(other_libraries, library)().values():
            check(case)


def is_module(node):
    return isinstance(node, nnx.Module)


def abstract(tree):
    def one(leaf):
        if is_module(leaf):
            return nnx.eval_shape(lambda: nnx.clone(leaf))
        is_array = isinstance(leaf, jax.Array)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if is_array else leaf

    return jax.tree.map(one, tree, is_leaf=is_module)


@pytest.mark.parametrize("name", CASES)
def test_shapes_suffice(name):
    case = CASES[name]
    if is_module(case.model):
        case = case._replace(model=abstract(case.model))
    arguments = [abstract(argument) for argument in case.arguments]
    one = adapted(case._replace(arguments=arguments))
    numbers = adapted(CASES[name])
    assert one.paths == numbers.paths
    assert str(trace(one)[0]) == str(trace(numbers)[0])


def test_the_model_and_its_objects_are_not_changed():
    cache, model = zoo.Cache(), zoo.evaluated(zoo.Keyless(nnx.Rngs(0)))
    one = adapt(model, (X, cache), None, {})
    one.apply(one.params, *one.inputs)
    trace(one)
    assert cache.sum[...] == 0
    rebuilt = one.rebuild(jax.tree.map(jnp.zeros_like, one.params))
    assert not rebuilt.a.kernel[...].any() and model.a.kernel[...].any()


def test_boxes_with_partitions_have_the_paths_of_their_arrays():
    init = nn.with_partitioning(nn.initializers.lecun_normal(), (None, "model"))
    module = nn.Dense(4, kernel_init=init)
    variables = module.init(KEY, X)
    one = adapt(module, (variables, X), None, {})
    assert one.paths == ("bias", "kernel")
    assert isinstance(one.rebuild(one.params)["params"]["kernel"], nn.Partitioned)


def test_arguments_come_before_keys_and_state():
    mask = jnp.ones((4, 1))

    def function(params, x, *, mask):
        return module.apply(params, x, True, rngs={"dropout": KEY}) * mask

    module = zoo.Normed()
    variables = module.init(KEY, X)
    one = adapt(module, (variables, X, True), {"dropout": KEY}, {})
    assert one.num_arguments == 1 and len(jax.tree.leaves(one.inputs)) == 4
    one = adapt(function, (variables, X), None, {"mask": mask})
    assert one.num_arguments == 2 and len(jax.tree.leaves(one.inputs)) == 4
    assert jax.tree.leaves(one.inputs)[1] is mask


def test_keys_tell_models_apart():
    def key(model, *arguments):
        return adapt(model, arguments, None, {}).key()

    def variables(module):
        return module.init(KEY, X)

    small, large = nn.Dense(4), nn.Dense(5)
    assert key(small, variables(small), X) == key(nn.Dense(4), variables(small), X)
    assert key(small, variables(small), X) != key(large, variables(large), X)
    settings = [{"a": 1}, {"b": 1}, {"a": 1.0}, {"a": X}]
    keys = {key(small, variables(small), X, one) for one in settings}
    assert len(keys) == len(settings) and None not in keys
    net = zoo.Net(nnx.Rngs(0))
    assert key(net, X) == key(zoo.Net(nnx.Rngs(1)), X) != key(net.encode, X)


NORMED = zoo.Normed()
WEIGHTS = jnp.ones((8, 2))
VARIABLES = NORMED.init(KEY, X)


@pytest.mark.parametrize(
    ("model", "arguments", "settings", "error", "text"),
    [
        (NORMED, (), {}, TypeError, "holds no variables"),
        (NORMED, (X,), {}, TypeError, "must be the module's variables"),
        (NORMED, (VARIABLES["params"], X), {}, ValueError, 'no collection "params"'),
        (NORMED, (VARIABLES, X[:, :3]), {}, ValueError, "inputs of another shape"),
        (NORMED, (VARIABLES,), {}, TypeError, "missing 1 required positional"),
        (NORMED, (VARIABLES, X, 1, 2, 3), {}, TypeError, "positional arguments"),
        (NORMED, (VARIABLES, X), {"training": True}, TypeError, "'training'"),
        (nn.Dense(4), (VARIABLES, X), {}, ValueError, "belong to another model"),
        (NORMED, (VARIABLES, X), {"train": True}, ValueError, "pass `rngs=`"),
        (nn.relu, ({}, X), {}, ValueError, "has no parameters"),
        (nn.Dropout(0.5), ({"params": {}}, X), {}, ValueError, "has no parameters"),
        (nnx.Dropout(0.5), (X,), {}, ValueError, "nnx.Param"),
        (zoo.Keyless(nnx.Rngs(0)), (X,), {}, ValueError, "pass `rngs=`"),
        (zoo.Net(nnx.Rngs(0)), (X[:, :3],), {}, TypeError, "in their order and shapes"),
        (zoo.Cache(), (X,), {}, TypeError, "`model` is"),
        (3, (X,), {}, TypeError, "`model` is 3, of type int"),
        (lambda: 0, (), {}, TypeError, "no variables were passed"),
        (lambda w, x: x @ w, ({"w": 1}, X), {}, ValueError, "has no parameters"),
        (
            lambda w, x: x @ w if x.sum() > 0 else x,
            (jnp.ones((8, 2)), X),
            {},
            TypeError,
            "needs the values of its arguments",
        ),
        (
            lambda w, x: (jax.debug.print("{}", x), x @ w)[1],
            (jnp.ones((8, 2)), X),
            {},
            TypeError,
            "has effects",
        ),
        (lambda x: jnp.tanh(x @ WEIGHTS), (X,), {}, TypeError, "in a closure"),
        (jax.jit(lambda x: x @ WEIGHTS), (X,), {}, TypeError, "in a closure"),
        (lambda m, x: m(x), (jnp.tanh, X), {}, ValueError, "has no parameters"),
        (
            jax.vmap(zoo.Tied(nnx.Rngs(0))),
            (X,),
            {},
            TypeError,
            "Make the model an argument",
        ),
    ],
)
def test_bad_input_is_a_clear_error(model, arguments, settings, error, text):
    with pytest.raises(error) as caught:
        trace(adapt(model, arguments, None, settings))
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("model", "arguments", "rngs", "text"),
    [
        (NORMED, (VARIABLES, X), 0, "`rngs` is 0; it must be a PRNG key"),
        (NORMED, (VARIABLES, X), {"dropout": 0}, "dropout: 0"),
        (lambda w, x: x @ w, (jnp.ones((8, 2)), X), KEY, "no argument of that name"),
        (zoo.Net(nnx.Rngs(0)), (X,), KEY, "unexpected keyword argument 'rngs'"),
    ],
)
def test_keys_where_none_fit_are_a_clear_error(model, arguments, rngs, text):
    with pytest.raises(TypeError) as caught:
        trace(adapt(model, arguments, rngs, {}))
    assert text in str(caught.value)


def test_shapes_where_numbers_are_needed_are_a_clear_error():
    shapes = jax.eval_shape(NORMED.init, KEY, X)
    with pytest.raises(TypeError, match=r"jinit.lsuv computes with numbers, but 8"):
        require_numbers(adapt(NORMED, (shapes, X), None, {}), "lsuv")
    require_numbers(adapt(NORMED, (VARIABLES, X), None, {}), "lsuv")


def test_no_library_is_imported():
    code = """
import sys, jax.numpy as jnp
from jinit._network.adapters import adapt, trace
trace(adapt(lambda w, x: x @ w, (jnp.ones((3, 2)), jnp.ones((4, 3))), None, {}))
names = {"flax", "equinox", "haiku", "keras", "penzai"} & set(sys.modules)
assert not names, names
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_parameter_that_can_be_no_array_is_named():
    variables = {"params": {"kernel": "a text", "bias": jnp.zeros(3)}}
    with pytest.raises(TypeError, match="must be arrays.*\n  kernel: 'a text'"):
        adapt(nn.Dense(3), (variables, jnp.ones((2, 4))), None, {})


@pytest.mark.parametrize("kind", [nn.Dense, nnx.Linear])
def test_a_class_in_the_place_of_a_model_is_named(kind):
    with pytest.raises(
        TypeError, match=r"class (Dense|Linear); it must be an instance"
    ):
        adapt(kind, (jnp.ones((2, 4)),), None, {})
