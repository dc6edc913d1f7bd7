"""Pickles of initializers name public functions, and load in every process."""

import inspect
import pickle
import subprocess
import sys
import typing

import jax
import numpy as np
import pytest

import jinit
from tests.support.cases import CASES

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)


def shifted(key, shape, dtype=None):
    return jax.random.normal(key, shape, dtype) + 1


def activation(x):
    return x * jax.nn.sigmoid(x)


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_pickle_names_no_private_file(name):
    init = CASES[name].init
    for value in (init, -0.5 * init, jinit.stacked(init)):
        for protocol in PROTOCOLS:
            data = pickle.dumps(value, protocol)
            assert b"jinit._" not in data
            assert pickle.loads(data) == value


def test_a_fresh_process_loads_pickles():
    inits = [0.5 * case.init for case in CASES.values()]
    code = (
        "import pickle, sys\n"
        "inits = pickle.load(sys.stdin.buffer)\n"
        "sys.stdout.buffer.write(pickle.dumps([inits, list(map(repr, inits))]))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(inits),
        capture_output=True,
        check=True,
    )
    loaded, texts = pickle.loads(result.stdout)
    assert loaded == inits and texts == list(map(repr, inits))


@pytest.mark.parametrize("init", [
    jinit.kaiming(activation),
    jinit.scaled(shifted, 0.5),
    jinit.stacked(shifted),
    jinit.blocks([shifted, jinit.lecun(gain=jax.nn.gelu)]),
    jinit.masked(np.eye(2) > 0, shifted, jinit.zeros),
], ids=repr)  # fmt: skip
def test_functions_are_pickled_by_their_names(init):
    again = pickle.loads(pickle.dumps(init))
    assert again == init and repr(again) == repr(init)


@pytest.mark.parametrize("init", [
    jinit.kaiming(lambda x: x),
    jinit.stacked(lambda index: jinit.he()),
])  # fmt: skip
def test_a_function_without_a_name_is_an_error(init):
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        pickle.dumps(init)


FUNCTIONS = {
    f"{module.__name__}.{name}": value
    for module in (jinit, jinit.random, jinit.recurrent, jinit.ssm, jinit.theory)
    for name in module.__all__
    if inspect.isfunction(value := getattr(module, name))
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_names_the_module_in_which_users_find_it(name):
    function = FUNCTIONS[name]
    assert function.__module__ == name.rpartition(".")[0]
    assert b"jinit._" not in pickle.dumps(function)
    assert pickle.loads(pickle.dumps(function)) is function
    assert f"def {function.__name__}(" in inspect.getsource(function)
    assert "return" in typing.get_type_hints(function)
