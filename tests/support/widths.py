"""Make a perceptron, a transformer and the zoo at any width, for the tests of muP."""

import ast
import functools
import pathlib
import types

import jax
import jax.numpy as jnp

from jinit import materialize, network
from tests.support.models import MLP, Transformer, shapes_of

KEY = jax.random.key(6)
X = jax.random.normal(KEY, (16, 8))
Y = jax.random.normal(jax.random.fold_in(KEY, 1), (16, 4))


def mlp(width):
    return MLP((width, width, 4))


@functools.cache
def mlp_shapes(width):
    """Return the shapes alone: to draw would compile a program for each of them."""
    return shapes_of(mlp(width), X)


@functools.cache
def mlp_variables(width):
    return materialize(mlp(width).init)(KEY, X)


def transformer_shapes(width, heads=2):
    model = Transformer(layers=1, width=width, heads=heads)
    return shapes_of(model, jnp.zeros((1, 3), jnp.int32))


def network_of_zoo(module, name, times):
    """Return the network of a model of the zoo whose width is a multiple of its own.

    The module is executed anew with other constants, since most models of the zoo are
    made of them when it is imported.
    """
    code = ast.parse(pathlib.Path(module.__file__).read_text())
    for statement in code.body:
        if isinstance(statement, ast.Assign):
            _widen(statement, times)
    wide = types.ModuleType(module.__name__)
    exec(compile(code, module.__file__, "exec"), wide.__dict__)
    entry = wide.MODELS[name]()
    return network(entry.model, *entry.arguments, rngs=entry.rngs, **entry.options)


def _widen(statement, times):
    """Multiply the sizes among the constants that a statement assigns."""
    (target,), value = statement.targets, statement.value
    names = target.elts if isinstance(target, ast.Tuple) else [target]
    values = value.elts if isinstance(value, ast.Tuple) else [value]
    for name, constant in zip(names, values, strict=False):
        if ast.unparse(name) in ("WIDTH", "HEADS", "HIDDEN", "INNER"):
            constant.value *= times
