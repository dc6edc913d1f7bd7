"""`audit` tells experts that are counted as inputs from laws that are meant so."""

import math

import jax
import jax.numpy as jnp
import pytest

import jinit
from tests.support.trees import rows_by_path

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEYS = jax.random.split(jax.random.key(14), 16)
MEMBERS = "members counted as inputs"


def norm(x):
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)


def mixture(params, x):
    """Add a branch of experts for each entry of `params`."""
    for p in params:
        h = norm(x)
        weights = jax.nn.softmax(h @ p["router"])
        h = jax.nn.relu(jnp.einsum("bd,edf->bef", h, p["up"]))
        x = x + jnp.einsum("bef,efd,be->bd", h, p["down"], weights)
    return x


def drawn(up, down, experts, width, units, depth=1):
    keys = jax.random.split(KEYS[1], (depth, 2))
    return [
        {
            "router": jnp.zeros((width, experts)),
            "up": up(first, (experts, width, units)),
            "down": down(second, (experts, units, width)),
        }
        for first, second in keys
    ]


def audit(params):
    width = len(params[0]["router"])
    return jinit.audit(mixture, params, jax.random.normal(KEYS[2], (8, width)))


@pytest.mark.parametrize(
    ("experts", "width", "units"),
    # The first is 1 / sqrt(fan_out) = sqrt(2 / (4 * 32)), the second nearly std 0.1.
    # The ends are 1 / sqrt(4) or 1 / sqrt(16) times a law of their fans.
    [(4, 32, 64), (4, 48, 80), (8, 48, 96)],
)
def test_no_other_formula_excuses_the_root_of_the_experts(experts, width, units):
    shape = experts, width, units
    report = audit(drawn(jinit.he(), jinit.lecun(), *shape))
    paths = {finding.path: finding.category for finding in report.findings}
    assert paths == {"0/up": MEMBERS, "0/down": MEMBERS}
    rows = rows_by_path(report)
    for path, fan in (("0/up", width), ("0/down", units)):
        text = f"over axes (0, 1): fan_in {experts} x {fan} = {experts * fan}"
        assert text in rows[path]["law"]
        factor = rows[path]["std"] / rows[path]["right_std"]
        # The end reads relu, and LeCun's law leaves out its gain.
        gain = 1.0 if path == "0/up" else 2**-0.5
        times = math.sqrt(2) if path == "0/up" else 1.0
        # Three standard errors of the std of the draws.
        bound = 3 / math.sqrt(2 * experts * width * units)
        expected = times * gain / math.sqrt(experts)
        assert factor == pytest.approx(expected, rel=bound)
    right = (init(layout="bio") for init in (jinit.he, jinit.lecun))
    audit(drawn(*right, *shape)).check()


def test_the_depth_of_the_network_is_no_excuse_if_all_experts_show_it():
    """Four branches and four experts: 1 / sqrt(4) is GPT-2's factor, too."""
    shape = 4, 48, 80
    wrong = audit(drawn(jinit.he(), jinit.lecun(), *shape, depth=4))
    assert {finding.category for finding in wrong.findings} == {MEMBERS}
    assert len(wrong.findings) == 8
    up, down = jinit.he(layout="bio"), 0.5 * jinit.lecun(layout="bio")
    audit(drawn(up, down, *shape, depth=4)).check()


def test_one_rare_draw_of_many_is_no_contradiction():
    shape = experts, width, units = 4, 32, 64
    params = drawn(jinit.he(), jinit.lecun(), *shape, depth=10)
    # The std of the first kernel is four standard errors off.
    error = 1 / math.sqrt(2 * experts * width * units)
    first = params[0]["up"]
    std = math.sqrt(2 / (experts * width))
    params[0]["up"] = first * std * (1 + 4 * error) / jnp.std(first)
    assert len(audit(params).findings) == 19


def test_one_formula_of_all_experts_is_meant_so():
    # Four experts of 4 x 48 units: 2 / fan_out is 2 / (experts * fan_in) at the first.
    def he_of_outputs(key, shape):
        return math.sqrt(2 / shape[-1]) * jax.random.normal(key, shape)

    audit(drawn(he_of_outputs, he_of_outputs, 4, 48, 192)).check()
    # sqrt(2 / (4 * 50)) is the std 0.1 at both.
    plain = jinit.normal(0.1)
    audit(drawn(plain, plain, 4, 50, 50)).check()
    # DeepNorm of four branches: (8 * 2)^(-1/4) is 1 / sqrt(4), too.
    deep = 0.5 * jinit.xavier(layout="bio")
    audit(drawn(deep, deep, 4, 48, 48, depth=4)).check()


def test_members_that_are_no_blocks_of_a_stack_have_no_depth():
    """1 / sqrt(8) at the end of one branch of eight blocks is no law of the depth."""

    def blocks(p, x):
        h = norm(x).reshape(len(x), *p["w"].shape[:2])
        return x + jnp.einsum("bgi,gio->bgo", h, p["w"]).reshape(x.shape)

    x = jax.random.normal(KEYS[2], (4, 8 * 40))
    params = {"w": jinit.lecun()(KEYS[0], (8, 40, 40))}
    report = jinit.audit(blocks, params, x)
    assert [finding.category for finding in report.findings] == [MEMBERS]
    params = {"w": jinit.lecun(layout="bio")(KEYS[0], (8, 40, 40))}
    jinit.audit(blocks, params, x).check()
