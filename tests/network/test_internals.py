"""JAX has the parts beyond its interface that jinit needs, and they work as expected.

A failure here names the part of JAX that a release took away or changed.
"""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.extend.core import Primitive

from jinit._core import identity, programs
from jinit._network import equations


def test_every_primitive_is_exported():
    assert equations.MISSING == []


def test_a_primitive_that_is_gone_is_named(monkeypatch):
    monkeypatch.setattr(equations, "MISSING", [])
    assert not equations._primitives("no_such_thing")
    assert equations.MISSING == ["no_such_thing"]


def equation(function, *arguments):
    return jax.make_jaxpr(function)(*arguments).eqns[-1]


def test_attributes_of_equations():
    closed = jax.make_jaxpr(jnp.sin)(1.0)
    (eqn,) = closed.eqns
    with eqn.ctx.manager:
        assert isinstance(eqn.primitive, Primitive)
    assert eqn.source_info.name_stack is not None
    assert len(closed.jaxpr.replace(eqns=[]).eqns) == 0
    assert callable(eqn.primitive.get_bind_params)


def test_the_context_of_a_trace_can_be_told():
    inside = []
    jax.make_jaxpr(lambda x: inside.append(state()) or x)(1.0)
    assert inside[0] != state() == state()


def state():
    return programs.get_opaque_trace_state(convention="jinit")


def test_equations_are_evaluated_for_other_operands():
    for function in (jnp.sin, jax.nn.relu, jax.checkpoint(jnp.cos)):
        eqn = equation(function, 1.0)
        (result,) = equations.bind(eqn, [jnp.float32(-2)])
        assert result == function(-2.0)


def test_dead_code_and_what_only_looks_on_are_dropped():
    def function(x, y):
        jax.debug.print("{}", jnp.sin(x))
        jax.debug.print("{}", x, ordered=True)
        return jnp.exp(y)

    jaxpr, used = equations.without_dead_code(jax.make_jaxpr(function)(1.0, 2.0).jaxpr)
    assert [eqn.primitive.name for eqn in jaxpr.eqns] == ["exp"]
    assert used == [False, True]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("constants", [0, 1, 2])
@pytest.mark.parametrize("has_inputs", [False, True])
def test_a_scan_is_taken_apart(reverse, constants, has_inputs):
    def function(outside, first, xs):
        def step(carry, x):
            a, (b, c) = carry
            for constant in outside:
                a = a + constant
            # The outputs have the shapes of the carry.
            return (a * 2, (b + 1, c + 1)), (a, b, x)

        return jax.lax.scan(step, first, xs, 5, reverse=reverse)

    outside = [jnp.ones(2)] * constants
    first = (jnp.ones(2), (jnp.ones(()), jnp.ones((5, 5))))
    eqn = equation(function, outside, first, jnp.ones((5, 3)) if has_inputs else None)
    assert eqn.primitive is equations.SCAN
    scan = equations.scan_of(eqn)
    assert scan[1:] == (constants, 3, 5, reverse, 1)
    assert len(scan.body.jaxpr.invars) == constants + 3 + has_inputs


@pytest.mark.parametrize(
    "call",
    [
        jax.jit,
        jax.checkpoint,
        lambda f: jax.custom_jvp(f),
        lambda f: jax.custom_vjp(f),
    ],
)
def test_calls_have_bodies(call):
    wrapped = call(lambda x: jnp.sin(x))
    if hasattr(wrapped, "defjvps"):
        wrapped.defjvps(lambda x_dot, y, x: x_dot)
    elif hasattr(wrapped, "defvjp"):
        wrapped.defvjp(lambda x: (x, None), lambda r, g: (g,))
    eqn = equation(wrapped, 1.0)
    assert eqn.primitive in equations.LOOKED_THROUGH
    (inner,) = equations.body_of(eqn).jaxpr.eqns
    assert inner.primitive.name == "sin"


def test_operations_that_only_move():
    x = jnp.ones((2, 3))
    moving = [
        lambda x: lax.transpose(x, (1, 0)),
        lambda x: lax.reshape(x, (3, 2)),
        lambda x: lax.rev(x, (0,)),
        lambda x: lax.convert_element_type(x, "int32"),
        lambda x: lax.broadcast_in_dim(x, (4, 2, 3), (1, 2)),
    ]
    assert all(equations.moves(equation(function, x)) for function in moving)
    assert not equations.moves(equation(jnp.sin, x))


def test_structures_are_taken_apart():
    tree = jax.tree.structure({"a": [1, None], "b": 2})
    data, (first, leaf) = identity.parts_of(tree)
    assert data == (dict, ["a", "b"])
    assert identity.parts_of(first)[0][0] is list
    assert identity.parts_of(leaf) == (None, [])
