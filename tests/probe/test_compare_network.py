"""Schemes are compared in a network that is there: its kernels are drawn anew."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit

KEY = jax.random.key(0)
KEYS = jax.random.split(jax.random.key(1), 3)
X = jax.random.normal(KEY, (64, 32))


def deep(p, x):
    """Kernels are kept as (outputs, inputs), and the first one grows."""
    for name in sorted(p)[:-1]:
        x = jax.nn.relu(x @ p[name]["w"].T + p[name]["b"][None])
    return x @ p["out"]["w"].T


def params():
    sizes = [32, *[128] * 11]
    tree = {
        f"layer_{i:02}": {"w": jnp.ones((n, m)), "b": jnp.full(n, 0.01)}
        for i, (m, n) in enumerate(itertools.pairwise(sizes))
    }
    return {**tree, "out": {"w": jnp.ones((4, 128))}}


def test_the_axes_are_those_of_the_network_and_other_parameters_stay():
    net = jinit.network(deep, params(), X)
    found = jinit.compare(net, {"he": jinit.he(), "lecun": "lecun"}, keys=KEYS)
    assert [len(reports) for reports in found.reports.values()] == [3, 3]
    for report in found.reports["he"]:
        sizes = {row["path"]: row["rms"] for row in report.parameters}
        # The fan_in of (128, 32) is 32: n draws have an rms within 4 / sqrt(2 n).
        assert sizes["layer_00/w"] == pytest.approx((2 / 32) ** 0.5, rel=0.05)
        assert sizes["out/w"] == pytest.approx((2 / 128) ** 0.5, rel=0.13)
        assert sizes["layer_00/b"] == pytest.approx(0.01)
        assert report.verdict == []
    assert found.rows[0]["rms_last"] > 10 * found.rows[1]["rms_last"]


def test_the_values_are_those_of_a_plan():
    net = jinit.network(deep, params(), X)
    report = jinit.compare(net, ["he"], keys=KEYS[0]).reports["he"][0]
    plan = jinit.plan(net, [("@matrix", jinit.he()), ("**", jinit.keep)])
    planned = jinit.probe(net.replace(plan.init(KEYS[0])))
    for one, other in zip(report.parameters, planned.parameters, strict=True):
        np.testing.assert_allclose(one["rms"], other["rms"], rtol=1e-6)


def test_errors():
    net = jinit.network(deep, params(), X)
    with pytest.raises(TypeError, match="has its inputs"):
        jinit.compare(net, ["he"], X, KEYS)
    with pytest.raises(TypeError, match="must be an initializer"):
        jinit.compare(net, {"three": 3}, keys=KEYS)
    with pytest.raises(TypeError, match="`keys`"):
        jinit.compare(net, ["he"])
    embed, ids = nn.Embed(8, 4), jnp.zeros((2, 3), int)
    table = jinit.network(embed, embed.init(KEY, ids), ids)
    with pytest.raises(ValueError, match="no kernels"):
        jinit.compare(table, ["he"], keys=KEYS)
