"""Layouts: which axes of a kernel are inputs, and what cannot be told."""

import flax.linen as nn
import jax.numpy as jnp
import pytest

import jinit
from jinit import recipes
from tests.support.models import shapes_of
from tests.support.trees import struct

LAYOUTS = [
    (nn.DenseGeneral((2, 8)), (1, 16), "ioo"),
    (nn.DenseGeneral(16, axis=(-2, -1)), (1, 2, 8), "iio"),
    (nn.Conv(7, (3,)), (1, 4, 5), "kio"),
    (nn.Conv(7, (3, 3, 3)), (1, 4, 4, 4, 5), "kkkio"),
]


@pytest.mark.parametrize("layer, shape, layout", LAYOUTS)
def test_layouts_of_flax_s_layers(layer, shape, layout):
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            return layer.copy(parent=self, name=None)(x)

    shapes = shapes_of(Model(), struct(*shape))
    rows = jinit.plan(shapes, recipes.deepnorm(2)).rows
    assert [r["layout"] for r in rows if r["path"].endswith("kernel")] == [layout]


def test_a_kernel_of_unknown_axes_is_named_and_a_role_tells_them():
    shapes = {"mix": {"kernel": jnp.ones((16, 3, 5))}}
    for recipe in (recipes.deepnorm, recipes.t5, recipes.small_init, recipes.vit):
        with pytest.raises(ValueError, match="mix/kernel.*which of them are inputs"):
            jinit.plan(shapes, recipe(2))
    (row,) = jinit.plan(shapes, recipes.t_fixup(2, query="mix/kernel")).rows
    assert (row["layout"], row["fan_in"]) == ("ioo", 16)
    (row,) = jinit.plan(shapes, recipes.deepnorm(2, residual_outputs="mix/kernel")).rows
    assert (row["layout"], row["fan_in"]) == ("iio", 48)
