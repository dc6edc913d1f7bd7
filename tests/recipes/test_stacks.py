"""Plans from shapes alone find the axis that counts scanned layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import jinit
from jinit import recipes
from tests.support.trees import struct

WIDTH, LENGTH = 48, 3


class Block(nn.Module):
    bias: bool

    @nn.compact
    def __call__(self, x, _):
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(
            4, use_bias=self.bias, name="attention"
        )(y)
        y = nn.Dense(2 * WIDTH, use_bias=self.bias, name="wi")(nn.LayerNorm()(x))
        y = nn.Dense(WIDTH, use_bias=self.bias, name="wo")(nn.gelu(y))
        return x + y, None


class Net(nn.Module):
    axis: int
    bias: bool

    @nn.compact
    def __call__(self, x):
        scan = nn.scan(
            Block,
            variable_axes={"params": self.axis},
            split_rngs={"params": True},
            length=LENGTH,
        )
        x = nn.Dense(WIDTH, name="embed")(x)
        return nn.LayerNorm()(scan(self.bias, name="layers")(x, None)[0])


def shapes(axis, bias):
    x = jnp.ones((2, 5, 8))
    params = jax.eval_shape(Net(axis, bias).init, jax.random.key(0), x)["params"]
    return {"layers": params["layers"]}


LAYOUTS = {
    "attention/query/kernel": ("ioo", 48, 48),
    "attention/out/kernel": ("iio", 48, 48),
    "wi/kernel": ("io", 48, 96),
    "wo/kernel": ("io", 96, 48),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["small_init", "deepnorm", "t_fixup", "t5"])
def test_fans_of_scanned_layers(name, axis, bias):
    recipe = getattr(recipes, name)
    numbers = [LENGTH] if name != "t5" else [None, LENGTH]
    for number in numbers:
        plan = jinit.plan(shapes(axis, bias), recipe(number, stacked=True))
        rows = {row["path"]: row for row in plan.rows}
        for path, (layout, *fans) in LAYOUTS.items():
            row = rows[f"layers/{path}"]
            assert row["layout"] == layout[:axis] + "b" + layout[axis:], path
            assert [row["fan_in"], row["fan_out"]] == fans, path


def test_a_kernel_alone_is_told_by_the_number_of_layers():
    tree = {"layers": {"up": {"kernel": struct(48, 3, 96)}}}
    for number, fan_in in ((3, 48), (48, 3), (None, 3)):
        (row,) = jinit.plan(tree, recipes.t5(number, stacked=True)).rows
        assert row["fan_in"] == fan_in


def test_leaves_that_share_no_axis_are_named():
    # Two leaves of one module with neither axis in common.
    module = {"kernel": struct(4, 5, 6), "scale": struct(7, 8)}
    with pytest.raises(ValueError, match=r"layers/up/kernel.*counts the layers"):
        jinit.plan({"layers": {"up": module}}, recipes.t5(stacked=True))


def test_torch_biases_of_scanned_layers():
    for axis in (0, 1):
        rules = recipes.torch_defaults(stacked=True)
        rows = {r["path"]: r for r in jinit.plan(shapes(axis, True), rules).rows}
        for name in ("kernel", "bias"):
            std = rows[f"layers/wo/{name}"]["std"]
            assert std == pytest.approx((3 * 96) ** -0.5)
