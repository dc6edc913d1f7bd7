"""On a mesh a watch measures arrays where they lie, and gathers none."""

import math
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jinit
from tests.support.meshes import make_mesh

SHAPE = (256, 128)
KEY = jax.random.key(0)
KINDS = [AxisType.Auto, AxisType.Explicit]
GATHERED = re.compile(r"= \w+\[([\d,]*)\]\S* all-gather\(")


def arrays():
    weights, gradient = jax.random.normal(KEY, (2, *SHAPE))
    return {"w": weights}, {"w": gradient}


def step(tx, grads, state, params):
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state


def report_of_one_device(tx):
    params, grads = arrays()
    _, state = jax.jit(lambda *x: step(tx, *x))(grads, tx.init(params), params)
    return jinit.watched(state)


def assert_close(rows, expected):
    for row, other in zip(rows, expected, strict=True):
        for name, value in other.items():
            if isinstance(value, float):
                assert row[name] == pytest.approx(value, rel=2e-3, abs=1e-6), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spec", [P("x", "y"), P(None, "x"), P("x", None)])
def test_numbers_are_those_of_one_device(kind, spec):
    mesh, tx = make_mesh((4, 2), kind), jinit.watch(optax.adam(1e-2))
    params, grads = jax.device_put(arrays(), NamedSharding(mesh, spec))
    with jax.set_mesh(mesh):
        state = jax.jit(tx.init)(params)
        compiled = jax.jit(lambda *x: step(tx, *x)).lower(grads, state, params)
        compiled = compiled.compile()
        new, state = compiled(grads, state, params)
    assert new["w"].sharding.spec == spec
    assert_close(jinit.watched(state).rows, report_of_one_device(tx).rows)
    # A sample travels, and no array does.
    sizes = [
        math.prod(map(int, shape.split(","))) if shape else 1
        for shape in GATHERED.findall(compiled.as_text())
    ]
    assert max(sizes, default=0) <= 256


def test_copies_of_the_parameters_under_shard_map():
    mesh, tx = make_mesh((8,)), jinit.watch(optax.adam(1e-2))
    params, grads = arrays()

    def one(grads, state, params):
        # Each device has the gradient of its own examples.
        return step(tx, jax.lax.pmean(grads, "x"), state, params)

    mapped = jax.shard_map(
        lambda grads, state, params: one(
            jax.tree.map(lambda g: g[0], grads), state, params
        ),
        mesh=mesh,
        in_specs=(P("x"), P(), P()),
        out_specs=P(),
    )
    noise = jax.random.normal(jax.random.key(1), (8, *SHAPE))
    shares = grads["w"][None] + noise - noise.mean(0, keepdims=True)
    _, state = jax.jit(mapped)({"w": shares}, tx.init(params), params)
    assert_close(jinit.watched(state).rows, report_of_one_device(tx).rows)


def test_parts_of_the_parameters_under_shard_map():
    mesh, tx = make_mesh((8,)), jinit.watch(optax.sgd(0.1))
    params, grads = arrays()

    @jax.jit
    @jax.shard_map(mesh=mesh, in_specs=(P("x"), P("x")), out_specs=(P("x"), P()))
    def run(grads, params):
        new, state = step(tx, grads, tx.init(params), params)
        return new, (state.table, state.step)

    new, (table, _) = run(grads, params)
    chex.assert_trees_all_close(
        new["w"], params["w"] - 0.1 * grads["w"], rtol=1e-5, atol=1e-6
    )
    (expected,) = report_of_one_device(tx).rows
    from jinit._watch.state import AT

    # Both updates are estimated from 256 normal numbers or more, the errors are apart.
    bounds = {"weight_rms": 1e-4, "grad_rms": 1e-4, "update_rms": 5 / 512**0.5}
    for name, bound in bounds.items():
        measured = float(np.asarray(table)[0, AT[name]])
        assert measured == pytest.approx(expected[name], rel=bound)
    # A part has another spectral norm than the whole, so there is none.
    for name in ("spectral", "lost"):
        assert np.asarray(table)[0, AT[name]] == -2


def test_a_scan_over_a_mesh():
    mesh, tx = make_mesh((8,)), jinit.watch(optax.adam(1e-2))
    params, grads = jax.device_put(arrays(), NamedSharding(mesh, P("x")))

    @jax.jit
    def run(params):
        def body(carry, _):
            return step(tx, grads, carry[1], carry[0]), None

        return jax.lax.scan(body, (params, tx.init(params)), length=3)[0]

    new, state = run(params)
    assert jinit.watched(state).step == 3
    assert jnp.isfinite(new["w"]).all()
