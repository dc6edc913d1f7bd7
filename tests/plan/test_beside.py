"""The bias beside a kernel shows, by shapes alone, which axes are its outputs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import jinit
from tests.support.models import shapes_of
from tests.support.trees import struct

HE = [("**/bias", jinit.zeros), ("**/b*", jinit.zeros), ("**", jinit.he())]


def row_of(tree, path, rules=HE):
    rows = jinit.plan(tree, rules, allow_unused=True).rows
    return next(row for row in rows if row["path"] == path)


def layer(kernel, bias, name="kernel"):
    return {"layer": {name: struct(*kernel), "bias": struct(*bias)}}


# The shapes of a kernel and of its bias; the layout and the fans that they show.
KERNELS = [
    ((144, 48), (144,), "oi", 48),
    ((48, 144), (144,), "io", 48),
    ((48, 48), (48,), "io", 48),
    ((16, 3, 5), (16, 1), "oik", 15),
    ((16, 16, 5), (16, 1), "oik", 80),
    ((16, 3, 3, 7), (16, 1, 1), "oikk", 63),
    ((16, 3, 3, 3), (16,), "oikk", 27),
    ((3, 3, 4, 16), (16,), "kkio", 36),
    ((3, 3, 16, 4), (16,), "kkoi", 36),
    ((4, 8, 3, 3), (8,), "iokk", 36),
    ((64, 4, 16), (4, 16), "ioo", 64),
    ((6, 5, 9), (6, 9), "bio", 5),
    ((5, 6, 9), (9, 6), "ibo", 5),
    ((6, 9, 5), (6, 9), "boi", 5),
    ((6, 64, 64), (6, 64), "bio", 64),
    ((64, 6, 64), (64, 6), "ibo", 64),
    ((6, 3, 3, 5, 8), (6, 8), "bkkio", 45),
    ((64, 6, 4, 16), (4, 6, 16), "iboo", 64),
]


@pytest.mark.parametrize(("kernel", "bias", "layout", "fan_in"), KERNELS)
def test_a_bias_shows_the_outputs(kernel, bias, layout, fan_in):
    row = row_of(layer(kernel, bias), "layer/kernel")
    assert (row["layout"], row["fan_in"]) == (layout, fan_in)
    assert row["std"] == pytest.approx((2 / fan_in) ** 0.5)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"weight": (9, 5), "bias": (9,)}, {"weight": "oi"}),
        ({"w": (9, 5), "b": (9,)}, {"w": "oi"}),
        ({"W": (9, 5), "b": (9,)}, {"W": "oi"}),
        (
            {"w1": (9, 5), "b1": (9,), "w2": (9, 5), "b2": (5,)},
            {"w1": "oi", "w2": "io"},
        ),
        # All kernels of a cell share a bias, and must agree with it.
        (
            {"weight_ih": (24, 5), "weight_hh": (24, 8), "bias": (24,)},
            {"weight_ih": "oi", "weight_hh": "oi"},
        ),
        (
            {"weight_1": (5, 20), "weight_2": (20, 5), "bias": (5,)},
            {"weight_1": "io", "weight_2": "io"},
        ),
        # A bias that fits nothing shows nothing.
        ({"kernel": (4, 3), "bias": (9,)}, {"kernel": "io"}),
    ],
)
def test_the_bias_of_a_kernel_is_known_by_its_name(names, expected):
    tree = {"layer": {name: struct(*shape) for name, shape in names.items()}}
    for name, layout in expected.items():
        assert row_of(tree, f"layer/{name}")["layout"] == layout


def test_settings_of_the_user_win():
    tree = layer((9, 5), (9,))
    for init in (jinit.he(layout="io"), jinit.he(in_axis=0, out_axis=1)):
        rules = [("**/kernel", init), ("**/bias", jinit.zeros)]
        assert row_of(tree, "layer/kernel", rules)["fan_in"] == 9


def test_an_axis_of_layers_or_of_inputs_is_left_to_the_user():
    tree = layer((8, 8, 4), (8, 4))
    with pytest.raises(ValueError, match="'layer/kernel'.*'ioo' and 'bio'"):
        jinit.plan(tree, HE, allow_unused=True)
    # The name of Flax's attention says which.
    tree = {"query": tree["layer"]}
    assert row_of(tree, "query/kernel")["layout"] == "ioo"


def test_a_kernel_without_a_bias_is_like_the_others_or_unknown():
    turned = {"weight": struct(9, 5), "bias": struct(9)}
    tree = {"a": turned, "b": {"weight": struct(9, 4)}, "c": {"weight": struct(4, 4)}}
    rules = [("a/bias", jinit.zeros), ("**", jinit.he())]
    with pytest.raises(ValueError, match=r"'b/weight' \(9, 4\).*has no bias.*Network"):
        jinit.plan(tree, rules)
    # A scheme without fans needs no layout, and a square kernel has one fan.
    plan = jinit.plan(tree, [("b/*", jinit.normal()), *rules])
    assert plan.rows[-1]["fan_in"] == 4
    # Where nothing shows (out, in), the order is Flax's.
    plain = {"b": tree["b"], "d": {"weight": struct(5, 9), "bias": struct(9)}}
    assert row_of(plain, "b/weight")["fan_in"] == 9


@pytest.mark.parametrize(
    "make", [jinit.he_normal, jinit.glorot_uniform, jinit.orthogonal, jinit.xavier]
)
def test_every_scheme_that_counts_axes_is_told_them(make, key):
    flax, torch = layer((5, 9), (9,)), layer((9, 5), (9,))
    rules = [("**/bias", jinit.zeros), ("**", make())]
    first, second = (
        row_of(flax, "layer/kernel", rules),
        row_of(torch, "layer/kernel", rules),
    )
    assert first["std"] == pytest.approx(second["std"])
    assert jinit.plan(torch, rules).init(key)["layer"]["kernel"].shape == (9, 5)


def test_initializers_of_jax_cannot_be_told():
    rules = [("**/bias", jinit.zeros), ("**", jax.nn.initializers.he_normal())]
    jinit.plan(layer((5, 9), (9,)), rules)
    with pytest.raises(ValueError, match=r"(?s)'layer/kernel'.*jinit's initializer"):
        jinit.plan(layer((9, 5), (9,)), rules)


def test_flax_s_attention_is_read_right():
    shapes = shapes_of(nn.MultiHeadDotProductAttention(4), struct(1, 5, 32))
    rows = jinit.plan(shapes, HE, allow_unused=True).rows
    fans = {row["path"].split("/")[1]: row["fan_in"] for row in rows if row["fan_in"]}
    assert fans == {"key": 32, "out": 32, "query": 32, "value": 32}


def test_values_of_kernels_in_flax_s_order_are_those_without_a_bias(key):
    tree = layer((5, 9), (9,))
    rules = [("**/kernel", jinit.he()), ("**", jinit.zeros)]
    alone = {"layer": {"kernel": struct(5, 9)}}
    with_bias = jinit.plan(tree, rules).init(key)["layer"]["kernel"]
    without = jinit.plan(alone, rules[:1]).init(key)["layer"]["kernel"]
    assert jnp.array_equal(with_bias, without)
