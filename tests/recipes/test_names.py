"""Recipes for shapes alone know the usual names, or say that they do not."""

import pytest

import jinit
from jinit import recipes
from tests.support.plans import stds_of
from tests.support.trees import struct

D, M, HEADS, LAYERS = 32, 96, 4, 3


def layers(**shapes):
    return {name: {"kernel": struct(*shape)} for name, shape in shapes.items()}


INTO, OUT_OF = (D, HEADS, D // HEADS), (HEADS, D // HEADS, D)
UP, DOWN, SQUARE = (D, M), (M, D), (D, D)


def attention(query, key, value, out):
    return {query: INTO, key: INTO, value: INTO, out: OUT_OF}


def turned(kernel):
    """A layer of transformers' FlaxConv1D: the kernel is (out, in)."""
    return {"kernel": struct(*reversed(kernel)), "bias": struct(kernel[1])}


# A block in each style, and the ends of its two branches.
STYLES = {
    "flax": (
        {
            "attention": layers(**attention("query", "key", "value", "out")),
            "Mlp_0": layers(Dense_0=UP, Dense_1=DOWN),
        },
        ("attention/out", "Mlp_0/Dense_1"),
    ),
    "q_proj": (
        {
            "attn": layers(**attention("q_proj", "k_proj", "v_proj", "o_proj")),
            "mlp": layers(gate_proj=UP, up_proj=UP, down_proj=DOWN),
        },
        ("attn/o_proj", "mlp/down_proj"),
    ),
    "q": (
        {
            "attn": layers(**attention("q", "k", "v", "o")),
            "mlp": layers(wi_0=UP, wi_1=UP, wo=DOWN),
        },
        ("attn/o", "mlp/wo"),
    ),
    "wq": (
        {
            "attn": layers(**attention("wq", "wk", "wv", "wo")),
            "feed_forward": layers(w1=UP, w2=DOWN, w3=UP),
        },
        ("attn/wo", "feed_forward/w2"),
    ),
    "one module": (
        layers(**attention("wq", "wk", "wv", "wo"), w1=UP, w2=DOWN, w3=UP),
        ("wo", "w2"),
    ),
    "c_attn": (
        {
            "attn": layers(c_attn=(D, 3 * D), c_proj=SQUARE),
            "mlp": layers(c_fc=UP, c_proj=DOWN),
        },
        ("attn/c_proj", "mlp/c_proj"),
    ),
    "c_attn, (out, in)": (
        {
            "attn": {"c_attn": turned((D, 3 * D)), "c_proj": turned(SQUARE)},
            "mlp": {"c_fc": turned(UP), "c_proj": turned(DOWN)},
        },
        ("attn/c_proj", "mlp/c_proj"),
    ),
    "qkv": (
        {
            "attn": layers(qkv=(D, 3 * D), proj=SQUARE),
            "mlp": layers(fc1=UP, fc2=DOWN),
        },
        ("attn/proj", "mlp/fc2"),
    ),
    "in_proj": (
        {
            "attn": layers(in_proj=(D, 3 * D), out_proj=SQUARE),
            **layers(linear1=UP, linear2=DOWN),
        },
        ("attn/out_proj", "linear2"),
    ),
    "to_q": (
        {
            "attn": layers(**attention("to_q", "to_k", "to_v", "to_out")),
            "ff": layers(w_in=UP, w_out=DOWN),
        },
        ("attn/to_out", "ff/w_out"),
    ),
    "bert": (
        {
            "attention": {
                "self": layers(query=INTO, key=INTO, value=INTO),
                "output": layers(dense=OUT_OF),
            },
            "intermediate": layers(dense=UP),
            "output": layers(dense=DOWN),
        },
        ("attention/output/dense", "output/dense"),
    ),
    "neox": (
        {
            "attention": layers(query_key_value=(D, 3 * D), dense=SQUARE),
            "mlp": layers(dense_h_to_4h=UP, dense_4h_to_h=DOWN),
        },
        ("attention/dense", "mlp/dense_4h_to_h"),
    ),
    "no names": (
        {
            "attn": layers(query=INTO, key=INTO, value=INTO, last=OUT_OF),
            "mlp": layers(a=DOWN, b=UP),
        },
        ("attn/last", "mlp/a"),
    ),
}


def model(block):
    blocks = {
        f"block_{index}": {**block, "norm": {"scale": struct(D)}}
        for index in range(LAYERS)
    }
    return {"embed": {"embedding": struct(100, D)}, **blocks}


@pytest.mark.parametrize("style", STYLES)
def test_gpt2_scales_every_residual_output(style):
    block, ends = STYLES[style]
    plan = jinit.plan(model(block), recipes.gpt2(LAYERS))
    small = {row["path"] for row in plan.rows if row["std"] == 0.02 / 6**0.5}
    assert small == {
        f"block_{index}/{end}/kernel" for index in range(LAYERS) for end in ends
    }
    assert plan.notes == ("residual outputs: 6 of 6 (3 layers x 2)",)


FUSED = {"c_attn", "c_attn, (out, in)", "qkv", "in_proj", "neox"}


@pytest.mark.parametrize("style", [*STYLES])
@pytest.mark.parametrize("name", ["deepnorm", "t_fixup", "t5"])
def test_queries_have_their_law_whatever_their_names(style, name):
    block, _ = STYLES[style]
    recipe = getattr(recipes, name)
    if style in FUSED:
        with pytest.raises(ValueError, match="queries, keys and values.*jinit.blocks"):
            jinit.plan(model(block), recipe(LAYERS))
        return
    flax, _ = STYLES["flax"]
    expected = sorted(set(stds_of(model(flax), recipe(LAYERS)).values()))
    actual = sorted(set(stds_of(model(block), recipe(LAYERS)).values()))
    assert actual == pytest.approx(expected)


def test_layouts_of_kernels_that_biases_turn():
    block, _ = STYLES["c_attn, (out, in)"]
    rows = jinit.plan(model(block), recipes.small_init(LAYERS)).rows
    fans = {row["path"]: (row["fan_in"], row["fan_out"]) for row in rows}
    assert fans["block_0/attn/c_attn/kernel"] == (D, 3 * D)
    assert fans["block_0/mlp/c_proj/kernel"] == (M, D)
    rows = jinit.plan(model(block), recipes.torch_defaults()).rows
    limits = {row["path"]: row["std"] * 3**0.5 for row in rows}
    for name in ("kernel", "bias"):
        assert limits[f"block_0/mlp/c_proj/{name}"] == pytest.approx(M**-0.5)


UNCLEAR = {
    "an attention": layers(a=SQUARE, b=SQUARE, c=SQUARE, d=SQUARE),
    "a part of an attention": layers(a=SQUARE, value=SQUARE, out=SQUARE),
    "two squares": layers(a=SQUARE, b=SQUARE),
}


def test_a_guess_that_nothing_supports_is_an_error():
    for name in ("an attention", "two squares"):
        tree = model({"module": UNCLEAR[name]})
        for recipe in (recipes.gpt2, recipes.small_init):
            with pytest.raises(ValueError, match="neither names nor shapes.*Network"):
                jinit.plan(tree, recipe(LAYERS))
        ends = "**/b/kernel" if name == "two squares" else "**/d/kernel"
        jinit.plan(tree, recipes.gpt2(LAYERS, residual_outputs=ends))
    for name in ("an attention", "a part of an attention"):
        tree = model({"module": UNCLEAR[name]})
        for recipe in (recipes.deepnorm, recipes.t_fixup, recipes.t5):
            with pytest.raises(ValueError, match="makes queries, keys or values"):
                jinit.plan(tree, recipe(LAYERS))
        roles = {"query": "**/a/kernel", "key": "**/b/kernel"}
        if name == "an attention":
            jinit.plan(tree, recipes.deepnorm(LAYERS, **roles))


def test_ends_that_are_missing_are_said():
    # A module with one kernel shows neither by its name nor by its neighbours.
    block = {"up": layers(net=UP), "narrow": layers(net=DOWN)}
    with pytest.raises(ValueError, match="finds none by its names.*Network"):
        jinit.plan(model(block), recipes.gpt2(LAYERS))
    actual, _ = STYLES["flax"]
    block = {"attention": actual["attention"], **block}
    with pytest.warns(UserWarning, match="finds 3 layers .* have 6"):
        plan = jinit.plan(model(block), recipes.gpt2(LAYERS))
    assert plan.notes == ("residual outputs: 3 of 6 (3 layers x 2)",)
