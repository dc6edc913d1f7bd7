"""A probe says what it has not looked at: layers in loops, gradients behind them."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, PartitionSpec

import jinit

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEYS = jax.random.split(jax.random.key(0), 5)
X = jax.random.normal(KEYS[0], (32, 8))
PARAMS = {
    name: jinit.lecun()(key, (8, 8))
    for name, key in zip(("one", "two", "last"), KEYS, strict=False)
}


def around(inside):
    """Return a model with a function of a value and of `two` between two layers."""

    def model(p, x):
        y = jnp.tanh(x @ p["one"])
        return jnp.tanh(inside(y, p["two"])) @ p["last"]

    return model


def loop(y, w):
    """Three steps, whose number no compiler knows."""

    def more(carry):
        return (carry[1] < 3) & (jnp.max(jnp.abs(carry[0])) < 1e3)

    def step(carry):
        return jnp.tanh(carry[0] @ w), carry[1] + 1

    return jax.lax.while_loop(more, step, (y, 0))[0]


def steps(y, w):
    return jax.lax.scan(lambda y, _: (jnp.tanh(y @ w), None), y, None, 3)[0]


def in_scan(y, w):
    return jax.lax.scan(lambda y, _: (loop(y, w), None), y, None, 1)[0]


def in_cond(y, w):
    return jax.lax.cond(y[0, 0] > 9, lambda y, w: y, loop, y, w)


def branches(y, w):
    return jax.lax.cond(y[0, 0] > 9, lambda y: y @ w, lambda y: y @ w @ w, y)


def mapped(y, w):
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec()
    return jax.shard_map(jnp.matmul, mesh=mesh, in_specs=spec, out_specs=spec)(y, w)


@jax.custom_vjp
def ruled(y, w):
    return y @ w


ruled.defvjp(lambda y, w: (y @ w, (y, w)), lambda res, g: (g @ res[1].T, res[0].T @ g))


@pytest.mark.parametrize(
    "inside",
    [loop, jax.jit(loop), jax.checkpoint(loop), in_scan, in_cond],
    ids=["plain", "jit", "remat", "scan", "cond"],
)
def test_behind_a_while_of_unknown_length_there_are_outputs_and_later_gradients(inside):
    report = jinit.probe(around(inside), PARAMS, X)
    known = {row["path"]: row for row in jinit.probe(around(steps), PARAMS, X).rows}
    rows = {row["path"]: row for row in report.rows}
    assert list(rows) == ["one", "tanh", "tanh#2", "last"]
    for path in rows:
        assert rows[path]["rms"] == pytest.approx(known[path]["rms"], rel=1e-5)
    for path in ("tanh#2", "last"):
        twin = known[path]["grad_rms"]
        assert rows[path]["grad_rms"] == pytest.approx(twin, rel=1e-5)
    # What comes before the loop, or lies in it, has no gradient.
    assert math.isnan(rows["one"]["grad_rms"]) and math.isnan(rows["tanh"]["grad_rms"])
    slopes = {row["path"]: row["grad_rms"] for row in report.parameters}
    assert math.isnan(slopes["one"]) and math.isnan(slopes["two"])
    assert math.isfinite(slopes["last"]) and report.verdict == []
    assert report.to_dict()["rows"][0]["grad_rms"] is None
    where, gradients = report.notes
    assert "two lies in" in where and "not looked at" in where
    assert "gradients of 2 of 4 rows and of 2 of 3 parameters are unknown" in gradients
    assert "note: two lies in" in str(report)


def test_a_loop_that_no_parameter_feeds_costs_no_gradient():
    def model(p, x):
        scale = jax.lax.while_loop(lambda s: s < jnp.max(x), lambda s: 2 * s, 1.0)
        return jnp.tanh(x / scale @ p["one"]) @ p["last"]

    report = jinit.probe(model, {k: PARAMS[k] for k in ("one", "last")}, X)
    assert report.notes == ()
    assert all(math.isfinite(row["grad_rms"]) for row in report.rows)


@pytest.mark.parametrize(
    ("inside", "where"),
    [
        (branches, "two lies in a branch of a `cond`"),
        (mapped, "two lies in the body of a `shard_map`"),
        (ruled, "two lies in a function with a custom_vjp"),
    ],
)
def test_layers_that_no_program_goes_through_are_named(inside, where):
    report = jinit.probe(around(inside), PARAMS, X)
    assert [note.partition(",")[0] for note in report.notes] == [where]
    assert all(math.isfinite(row["grad_rms"]) for row in report.rows)
    assert report.to_dict()["notes"] == list(report.notes)
    lsuv = jinit.lsuv(around(inside), PARAMS, X)[1]
    assert lsuv.reasons == {"two": f"its layer{where[3:]}"}


def test_a_model_of_which_all_is_looked_at_has_no_notes():
    model = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(8)])
    report = jinit.probe(model, model.init(KEYS[0], X), X)
    assert report.notes == () and "note" not in str(report)


def test_a_jacobian_through_a_loop_is_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match="Leave `jacobian` out"):
        jinit.probe(around(loop), PARAMS, X, jacobian=True)
