"""Recipes of vision models: other architectures, names alone, and bad input."""

import math
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import jinit
from jinit import recipes
from tests.support import vision_models as models
from tests.support.in_libraries import in_linen
from tests.support.trees import struct
from tests.support.zoo import every, truth

ZOO = every.models()
VISION = ("big_vision_vit", "clip", "dit", "resnet", "siglip", "unet")


@pytest.fixture(autouse=True)
def _as_the_field_writes():
    with jax.numpy_rank_promotion("allow"):
        yield


def network(name):
    entry = ZOO[name]()
    return jinit.network(
        entry.model, *entry.arguments, rngs=entry.rngs, **entry.options
    )


def stds(model, recipe):
    return {row["path"]: row["std"] for row in jinit.plan(model, recipe).rows}


def test_flax_s_attention_in_big_vision_s_vit():
    """nn.MultiHeadDotProductAttention draws (d, heads, size) as (d, heads size)."""
    actual = stds(network("vit"), recipes.big_vision_vit())
    assert actual["block1/attention/query/kernel"] == pytest.approx(0.25)
    assert actual["block1/attention/out/kernel"] == pytest.approx(0.25)
    assert actual["block0/Mlp_0/Dense_0/kernel"] == pytest.approx((2 / 80) ** 0.5)
    assert actual["block0/Mlp_0/Dense_1/bias"] == 1e-6
    assert actual["block0/attention/out/bias"] == actual["cls"] == 0
    assert actual["embedding/kernel"] == pytest.approx(48**-0.5)


def test_names_alone_give_big_vision_s_laws():
    entry = ZOO["vit"]()
    shapes = entry.arguments[0]["params"]
    by_names = stds(shapes, recipes.big_vision_vit(2))
    assert by_names == pytest.approx(stds(network("vit"), recipes.big_vision_vit()))


@pytest.mark.parametrize("name", ["resnet v1", "resnet v2"])
def test_names_alone_give_torchvision_s_laws(name):
    entry = ZOO[name]()
    shapes = entry.arguments[0]["params"]
    assert stds(shapes, recipes.resnet()) == pytest.approx(
        stds(network(name), recipes.resnet())
    )
    with pytest.raises(ValueError, match="names do not tell.*branch_norms="):
        jinit.plan(shapes, recipes.resnet(zero_init_residual=True))
    norms = [f"block{i}/bn2/scale" for i in range(2)]
    recipe = recipes.resnet(zero_init_residual=True, branch_norms=norms)
    rows = jinit.plan(shapes, recipe).rows
    zeros = {r["path"] for r in rows if r["initializer"] == "jinit.zeros"}
    assert {path for path in zeros if path.endswith("scale")} == set(norms)


@pytest.mark.parametrize("name", ["resnet v1", "resnet v1 in training", "in NNX"])
def test_the_last_batch_norms_of_branches(name):
    net = network("resnet v1 in NNX" if name == "in NNX" else name)
    plan = jinit.plan(net, recipes.resnet(zero_init_residual=True))
    zeros = {row["path"] for row in plan.rows if row["initializer"] == "jinit.zeros"}
    scales = {path for path in zeros if "scale" in net.parameters[path].roles}
    assert scales == {"block0/bn2/scale", "block1/bn2/scale"}
    assert plan.notes == ("norms that end branches: 2",)


def grouped(layout, groups):
    """A grouped convolution behind another one, with kernels of a layout."""
    numbers = {"HWIO": ("NHWC", (3, 3)), "OIHW": ("NCHW", (3, 3))}
    data, window = numbers[layout]

    def model(params, x):
        for kernel, count in ((params["first"], 1), (params["second"], groups)):
            x = jax.lax.conv_general_dilated(
                x,
                kernel,
                (1, 1),
                "SAME",
                dimension_numbers=(data, layout, data),
                feature_group_count=count,
            )
        return x

    def kernel(n, m):
        return truth.dense(*((*window, n, m) if layout == "HWIO" else (m, n, *window)))

    params = {"first": kernel(4, 8), "second": kernel(8 // groups, 16)}
    image = struct(2, 6, 6, 4) if data == "NHWC" else struct(2, 4, 6, 6)
    return jinit.network(model, params, image)


@pytest.mark.parametrize("layout", ["HWIO", "OIHW"])
@pytest.mark.parametrize("groups", [1, 4, 8])
def test_the_fan_out_of_grouped_convolutions(layout, groups):
    """torch.nn.init: fan_out = weight.size(0) x window, whatever the groups are."""
    actual = stds(grouped(layout, groups), recipes.resnet())
    expected = {"first": math.sqrt(2 / (8 * 9)), "second": math.sqrt(2 / (16 * 9))}
    assert actual == pytest.approx(expected)
    # jinit's own scheme counts what an input reaches: the units of its group.
    own = stds(grouped(layout, groups), [("**", jinit.he(mode="fan_out"))])
    assert own["second"] == pytest.approx(math.sqrt(2 * groups / (16 * 9)))


class Scanned(nn.Module):
    """Blocks of DiT in a scan, whose kernels have an axis of layers."""

    @nn.compact
    def __call__(self, x, c):
        class Block(nn.Module):
            @nn.compact
            def __call__(self, x, c):
                modulation = nn.Dense(24, name="modulation")(nn.silu(c))
                shift, scale, gate = jnp.split(modulation, 3, axis=-1)
                y = nn.LayerNorm(use_bias=False, use_scale=False)(x)
                y = y * (1 + scale[:, None]) + shift[:, None]
                y = nn.Dense(8, name="down")(nn.gelu(nn.Dense(16, name="up")(y)))
                return x + gate[:, None] * y, None

        x = nn.Conv(8, (4,), (4,), name="patches")(x)
        c = nn.Dense(8, name="time")(c)
        axes = {"params": 0}
        scan = nn.scan(
            Block, axes, split_rngs={"params": True}, in_axes=nn.broadcast, length=3
        )
        x, _ = scan(name="blocks")(x, c)
        return nn.Dense(4, name="last")(x)


def test_scanned_blocks_of_dit():
    module, inputs = Scanned(), (struct(2, 12, 2), struct(2, 5))
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    net = jinit.network(module, shapes, *inputs)
    plan = jinit.plan(net, recipes.dit())
    actual = {row["path"]: row["std"] for row in plan.rows}
    assert actual["blocks/modulation/kernel"] == actual["last/kernel"] == 0
    assert actual["blocks/up/kernel"] == pytest.approx((2 / 24) ** 0.5)
    assert actual["patches/kernel"] == pytest.approx((2 / (8 + 8)) ** 0.5)
    assert actual["time/kernel"] == 0.02
    # A jitted function of any parameters but 0 does not give 0.
    params = {"params": plan.init(jax.random.key(1))}
    x, c = jnp.ones((2, 12, 2)), jnp.ones((2, 5))
    assert not module.apply(params, x, c).any()


def test_fused_kernels_of_big_vision():
    """Queries, keys and values are drawn each by its own fans in one kernel, too."""
    actual = stds(network("dit"), recipes.big_vision_vit())
    assert actual["blocks/0/attn/qkv/kernel"] == pytest.approx((2 / 32) ** 0.5)
    # DiT's own code has one linear layer (d, 3 d).
    actual = stds(network("dit"), recipes.dit(grid=(9, 1)))
    assert actual["blocks/0/attn/qkv/kernel"] == pytest.approx((2 / 64) ** 0.5)
    with pytest.raises(ValueError, match="not 3 equal parts"):
        jinit.plan(network("llama, fused, (out, in)"), recipes.big_vision_vit())


MISSING = {
    "dit": ("vit", "no modulation .* and no layer that makes the condition"),
    "unet": ("clip", "no convolution and no residual branch. Take another"),
    "resnet": ("gpt2", "no convolution"),
    "siglip": ("clip", "no bias of the logits.*logit_biases="),
    "clip": ("vit", "no temperature .*temperatures="),
    "big_vision_vit": ("clip", "residual branch, and the network shows no residual"),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_model_without_the_roles_is_an_error_that_names_them(name):
    model, words = MISSING[name]
    with pytest.raises(ValueError, match=f"recipes.{name} is for models that.*{words}"):
        jinit.plan(network(model), recipes.get(name))


def test_zeros_need_a_norm_that_ends_the_branch():
    """In a network of the second kind a convolution is the last, and no norm."""
    with pytest.raises(ValueError, match="no norm that ends a residual branch"):
        jinit.plan(network("resnet v2"), recipes.resnet(zero_init_residual=True))


@pytest.mark.parametrize("name", ["clip", "dit", "siglip", "unet"])
def test_shapes_alone_do_not_show_the_roles(name):
    shapes = {"a": {"kernel": jnp.ones((4, 4))}}
    with pytest.raises(ValueError, match=f"recipes.{name} reads roles.*a Network"):
        jinit.plan(shapes, recipes.get(name))


def test_numbers_that_a_model_hands_out_need_patterns():
    """A temperature that goes to the loss is no temperature in the network."""

    def model(p, x, y):
        return x @ p["x"], y @ p["y"], jnp.exp(p["t"]), p["b"]

    params = {"x": truth.dense(4, 3), "y": truth.dense(4, 3)}
    params |= {"t": truth.dense(1), "b": truth.dense(1)}
    net = jinit.network(model, params, struct(2, 4), struct(2, 4))
    rest = ("@matrix", jinit.lecun())
    with pytest.raises(ValueError, match=r"temperatures=\[...\] and logit_biases"):
        jinit.plan(net, [*recipes.siglip(), rest])
    plan = jinit.plan(net, [*recipes.siglip(temperatures="t", logit_biases="b"), rest])
    start = plan.init(jax.random.key(0))
    assert start["t"] == pytest.approx(math.log(10)) and start["b"] == -10


def test_settings_that_are_out_of_range():
    for make in (recipes.siglip, recipes.clip):
        with pytest.raises(ValueError, match="temperature"):
            make(temperature=0)
    with pytest.raises(ValueError):
        recipes.dit(grid=(0, 4))
    with pytest.raises(TypeError, match="zero_init_residual"):
        recipes.resnet(zero_init_residual="yes")
    with pytest.raises(TypeError, match="zero_head"):
        recipes.big_vision_vit(zero_head=1)
    with pytest.raises(TypeError, match="Did you mean 'temperature'"):
        recipes.clip(temperature_=0.1)


def test_numbers_may_be_traced():
    net = network("clip")
    rest = ("**", jinit.zeros)

    def scale(temperature):
        recipe = recipes.clip(temperature=temperature)
        assert "traced" in str(recipe)
        return jinit.plan(net, [*recipe, rest]).init(jax.random.key(0))["logit_scale"]

    assert jnp.exp(jax.jit(scale)(0.05)) == pytest.approx(20)


def test_part_of_a_model():
    """Each tower has its own recipe; what a recipe needs must lie in its part."""

    def two(layers, image, text):
        return models.vit(layers, image), layers.linear("text", 4, 5)(text)

    net = jinit.network(*in_linen(two, struct(2, 8, 8, 3), struct(2, 4)))
    rest = ("**", jinit.zeros)
    inside = recipes.inside("text/**", recipes.big_vision_vit())
    with pytest.raises(ValueError, match="shows no residual branch"):
        jinit.plan(net, [*inside, rest])
    image = re.compile("^(?!text)")
    actual = stds(net, [*recipes.inside(image, recipes.big_vision_vit()), rest])
    assert actual["mlp0_up/kernel"] == pytest.approx((2 / 80) ** 0.5)
    assert actual["text/kernel"] == 0
