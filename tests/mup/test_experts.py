"""Experts and routers as classes: their factors, and slopes that tell a wrong class."""

import jax
import jax.numpy as jnp
import optax
import pytest

import jinit
from jinit import mup
from tests.support.trees import rows_by_path, struct

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(3)
INPUTS, EXPERTS, OUTPUTS = 8, 4, 3


def forward(p, x):
    x = jax.nn.relu(x @ p["into"])
    weights = jax.nn.softmax(x @ p["router"])
    h = jax.nn.relu(jnp.einsum("bd,edm->bem", x, p["up"]))
    return x + jnp.einsum("bem,emd,be->bd", h, p["down"], weights)


def model(p, x):
    return forward(p, x) @ p["head"]


def shapes(d, experts=EXPERTS):
    return {
        "into": struct(INPUTS, d),
        "router": struct(d, experts),
        "up": struct(experts, d, 2 * d),
        "down": struct(experts, 2 * d, d),
        "head": struct(d, OUTPUTS),
    }


def net(d, experts=EXPERTS):
    return jinit.network(model, shapes(d, experts), struct(6, INPUTS))


def factors(p, path):
    row = rows_by_path(p)[path]
    return row["class"], row["std"], row["multiplier"], row["lr"]


ROUTER, EXPERT = ("router", 0.25, 1, 0.25), ("expert", 0.5, 1, 0.25)


def test_classes_and_factors():
    p = mup.infer(net(16), net(64))
    assert factors(p, "router") == ROUTER
    assert factors(p, "up") == factors(p, "down") == EXPERT
    assert p.readout_scale == 0.25
    sgd = rows_by_path(mup.infer(net(16), net(64), kind="sgd"))
    assert sgd["router"]["lr"] == 0.25 and sgd["up"]["lr"] == 1
    # The table names both.
    lines = [line.split() for line in str(p).split("\n")]
    assert any({"router", "(64,"} <= set(line) and line.count("router") == 2
               for line in lines)  # fmt: skip
    assert any({"up", "expert"} <= set(line) for line in lines)


def test_more_experts_are_more_copies():
    """Each expert has a logit of its own, which sums over the width as before."""
    p = mup.infer(net(16, 4), net(64, 16))
    assert factors(p, "router") == ROUTER
    assert factors(p, "up") == factors(p, "down") == EXPERT
    # More experts alone change nothing.
    q = mup.infer(net(16, 4), net(16, 16))
    assert {row["std"] for row in q.rows} == {row["lr"] for row in q.rows} == {1}


def test_a_user_may_name_them():
    """Shapes do not tell a router, and a tree of one module may take it for a head."""
    trees = ({"head": shapes(16)["router"]}, {"head": shapes(64)["router"]})
    assert factors(mup.infer(*trees), "head") == ("output", 1, 0.25, 1)
    p = mup.infer(*trees, overrides=[("head", "router")])
    assert factors(p, "head") == ROUTER
    assert p.readout_scale == 1 and p.labels()["head"] == "muon"
    q = mup.infer(shapes(16), shapes(64), overrides=[("up", "expert")])
    assert factors(q, "up") == EXPERT and factors(q, "down")[0] == "hidden"
    # A spectral scheme has the rate 1 / n_in for all matrices.
    rates = mup.spectral({"w": struct(16, 4)}, overrides=[("w", "router")])
    assert rates.rows[0]["lr"] == 1 / 16
    with pytest.raises(ValueError, match="'router', 'expert'.*Did you mean 'router'"):
        mup.infer(shapes(16), shapes(64), overrides=[("router", "routter")])


def test_rules_may_name_them():
    rules = [("into", "input"), ("router", "router"), ("up", "bIO"), ("down", "bIO"),
             ("head", "output")]  # fmt: skip
    p = mup.from_rules(shapes(64), rules, width=(16, 64))
    assert factors(p, "router") == ROUTER
    assert factors(p, "up") == ("hidden", *EXPERT[1:])
    rules[2:4] = [("@expert", "expert")]
    q = mup.from_rules(net(64), rules, width=(16, 64))
    assert factors(q, "router") == ROUTER and factors(q, "up") == EXPERT


def test_the_word_of_the_user_counts():
    p = mup.infer(net(16), net(64), overrides=[("router", "input"), ("up", "output")])
    assert factors(p, "router") == ("input", 1, 1, 1)
    assert factors(p, "up")[0] == "output"


X = jax.random.normal(KEY, (16, INPUTS))
Y = jax.random.normal(jax.random.fold_in(KEY, 1), (16, OUTPUTS))
WIDTHS = [32, 256]


def make(width):
    def init(key, x):
        del x
        plan = jinit.plan(net(width), [("**", jinit.lecun())])
        return plan.init(key)

    def apply(params, x):
        return 32 / width * (forward(params, x) @ params["head"])

    return init, apply


def verdicts(overrides=()):
    """Return the verdict on each layer, for some classes that a user names."""

    def parametrize(base, target):
        nets = [
            jinit.network(model, tree, struct(6, INPUTS)) for tree in (base, target)
        ]
        return mup.infer(*nets, overrides=overrides)

    report = mup.coordinate_check(
        make, WIDTHS, [(X, Y)] * 3, lambda p: p.optimizer(optax.adam(1e-2)),
        loss=lambda y, target: jnp.mean((y - target) ** 2), seeds=2,
        parametrize=parametrize,
    )  # fmt: skip
    return {row["path"]: row["verdict"] for row in report.rows}


def test_slopes_are_flat_and_a_wrong_class_grows():
    """With a rate that does not shrink, an update adds up over the width."""
    right = verdicts()
    assert set(right.values()) == {"flat"} and {"up", "down"} <= set(right)
    wrong = verdicts([("router", "input"), ("up", "input")])
    assert wrong["router"] == wrong["up"] == "grows"
