"""Recipes on real Flax models: the law of each tensor, and what is refused."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jinit
from jinit import recipes
from jinit.recipes._recipe import RECIPES
from tests.support import laws
from tests.support.models import Block, Transformer, shapes_of
from tests.support.trees import struct

D, HEADS, VOCABULARY, TOKENS = 32, 4, 48, 8


class NnxBlock(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(D, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(HEADS, D, decode=False, rngs=rngs)
        self.linear1 = nnx.Linear(D, 4 * D, rngs=rngs)
        self.linear2 = nnx.Linear(4 * D, D, rngs=rngs)


class NnxTransformer(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(VOCABULARY, D, rngs=rngs)
        self.pos = nnx.Embed(TOKENS, D, rngs=rngs)
        self.blocks = nnx.List([NnxBlock(rngs) for _ in range(2)])
        self.head = nnx.Linear(D, VOCABULARY, rngs=rngs)


def linen_shapes():
    return shapes_of(Transformer(), struct(1, TOKENS, dtype="int32"))


def nnx_shapes():
    return nnx.state(nnx.eval_shape(lambda: NnxTransformer(nnx.Rngs(0))), nnx.Param)


BETA = jinit.residual_scale("deepnorm", 2).beta
SCALE = jinit.residual_scale("t_fixup", 2)
XAVIER, XAVIER_UP = (2 / (2 * D)) ** 0.5, (2 / (5 * D)) ** 0.5

# The std of: query, attention's value, out, first and second of the MLP, embedding,
# position embedding, readout.
STDS = {
    "gpt2": (0.02, 0.02, 0.01, 0.02, 0.01, 0.02, 0.01, 0.02),
    "small_init": (
        XAVIER_UP, XAVIER_UP, 1 / D**0.5, XAVIER_UP, 1 / D**0.5, XAVIER_UP, XAVIER_UP,
        XAVIER_UP,
    ),
    "deepnorm": (
        XAVIER, BETA * XAVIER, BETA * XAVIER, BETA * XAVIER_UP, BETA * XAVIER_UP,
        D**-0.5, D**-0.5, D**-0.5,
    ),
    "t_fixup": (
        XAVIER, SCALE * XAVIER, SCALE * XAVIER, SCALE * XAVIER_UP, SCALE * XAVIER_UP,
        D**-0.5 * 18**-0.25, D**-0.5 * 18**-0.25, D**-0.5,
    ),
    "t5": (
        D**-0.5 / 8**0.5, D**-0.5, D**-0.5, D**-0.5, (4 * D) ** -0.5, D**-0.5, D**-0.5,
        D**-0.5,
    ),
    "vit": (0.02,) * 8,
}  # fmt: skip
LEAVES = (
    "query/kernel", "value/kernel", "out/kernel", "Dense_0/kernel", "Dense_1/kernel",
    "Embed_0/embedding", "pos/embedding", "head/kernel",
)  # fmt: skip
NNX_LEAVES = (
    "query/kernel", "value/kernel", "out/kernel", "linear1/kernel", "linear2/kernel",
    "embed/embedding", "pos/embedding", "head/kernel",
)  # fmt: skip
KURTOSIS = {"t5": 3.0, "vit": 3.0}


def values_at(tree, end):
    """Every leaf whose path ends so, as one array."""
    found = [
        np.ravel(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if "/".join(str(getattr(k, "key", getattr(k, "idx", ""))) for k in path)
        .rstrip("/").endswith(end)
    ]  # fmt: skip
    assert found, end
    return np.concatenate(found)


@pytest.mark.parametrize(
    "shapes, ends", [(linen_shapes, LEAVES), (nnx_shapes, NNX_LEAVES)]
)
@pytest.mark.parametrize("name", STDS)
def test_laws(name, shapes, ends, key):
    params = jinit.plan(shapes(), getattr(recipes, name)(2)).init(key)
    for end, std in zip(ends, STDS[name], strict=True):
        x = values_at(params, end)
        laws.assert_moments(x, 0.0, std, KURTOSIS.get(name, 3.0))
        with pytest.raises(AssertionError):
            laws.assert_moments(x, 0.0, 1.6 * std, 3.0)
    assert (values_at(params, "scale") == 1).all()
    assert (values_at(params, "bias") == 0).all()


@pytest.mark.parametrize(
    "shapes, ends", [(linen_shapes, LEAVES), (nnx_shapes, NNX_LEAVES)]
)
def test_laws_of_torch(shapes, ends, key):
    tree = shapes()
    params = jinit.plan(tree, recipes.torch_defaults()).init(key)
    limits = dict(zip(ends, (
        (6 / (4 * D)) ** 0.5, (6 / (4 * D)) ** 0.5, D**-0.5, D**-0.5, (4 * D) ** -0.5,
    ), strict=False))  # fmt: skip
    for end, limit in limits.items():
        laws.assert_law(values_at(params, end), laws.uniform(-limit, limit))
    laws.assert_law(values_at(params, ends[5]), laws.normal(1.0))
    # A bias has the fan of its kernel; those of attention and norms are 0.
    bias = values_at(params, ends[4].replace("kernel", "bias"))
    laws.assert_law(bias, laws.uniform(-((4 * D) ** -0.5), (4 * D) ** -0.5))
    assert (values_at(params, "query/bias") == 0).all()
    assert (values_at(params, "out/bias") == 0).all()


def test_scanned_layers_count_their_own_fans(key):
    class Scanned(nn.Module):
        @nn.compact
        def __call__(self, x):
            step = lambda block, x, _: (block(x), None)  # noqa: E731
            scan = nn.scan(
                step, variable_axes={"params": 0}, split_rngs={"params": True},
                length=6, metadata_params={nn.PARTITION_NAME: "layers"},
            )  # fmt: skip
            return scan(Block(D, HEADS), x, None)[0]

    shapes = shapes_of(Scanned(), struct(1, TOKENS, D))
    rules = recipes.deepnorm(6, stacked=True)
    params = jinit.plan(shapes, rules).init(key)
    beta = jinit.residual_scale("deepnorm", 6).beta
    laws.assert_moments(values_at(params, "out/kernel"), 0, beta * XAVIER, 3.0)
    laws.assert_moments(values_at(params, "Dense_0/kernel"), 0, beta * XAVIER_UP, 3.0)


def test_recurrent_and_convolution_kernels_of_torch(key):
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(16, (3, 3))(x).reshape(1, 9, -1)
            return nn.RNN(nn.OptimizedLSTMCell(25))(x)

    shapes = shapes_of(Model(), struct(1, 3, 3, 8))
    params = jinit.plan(shapes, recipes.torch_defaults()).init(key)
    laws.assert_law(
        values_at(params, "Conv_0/kernel"), laws.uniform(-(72**-0.5), 72**-0.5)
    )
    laws.assert_law(values_at(params, "hf/kernel"), laws.uniform(-0.2, 0.2))
    laws.assert_law(values_at(params, "hf/bias"), laws.uniform(-0.2, 0.2))


def test_unknown_leaves_are_named():
    shapes = {"Dense_0": {"kernel": jnp.ones((3, 4)), "gamma": jnp.ones(4)}}
    # Some recipes read roles that names do not show, and say so before.
    before = "names do not show|shapes alone|no leaf of the tree"
    error = f"(?s)match no rule.*Dense_0/gamma|{before}"
    for name, entry in RECIPES.items():
        with pytest.raises(ValueError, match=error):
            settings = dict(entry.example) or {"num_layers": 2}
            jinit.plan(shapes, recipes.get(name, **settings))


def test_patterns_of_roles():
    shapes = {
        "mlp": {
            "up": {"kernel": jnp.ones((8, 32))},
            "end": {"kernel": jnp.ones((32, 8))},
        }
    }
    rules = recipes.gpt2(8, residual_outputs=["mlp/end/kernel"])
    stds = [row["std"] for row in jinit.plan(shapes, rules).rows]
    assert stds == [0.005, 0.02]
    rules = recipes.gpt2(8, residual_outputs="**/end/kernel", embeddings=["table"])
    with pytest.raises(ValueError, match="'table'"):
        jinit.plan(shapes, rules)


ERRORS = [
    (lambda: recipes.gpt2(0), "`num_layers` is 0"),
    (lambda: recipes.deepnorm(2, part="encoder"), "`other_layers` is missing"),
    (lambda: recipes.fixup(2, branch_layers=1), "two or more"),
]


@pytest.mark.parametrize("make, text", ERRORS)
def test_errors_of_makers(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_errors_of_kernels():
    fused = {"qkv": {"kernel": jnp.ones((8, 24))}}
    with pytest.raises(ValueError, match="qkv/kernel.*jinit.blocks"):
        jinit.plan(fused, recipes.deepnorm(2))
    flat = {"query": {"kernel": jnp.ones((8, 8))}}
    with pytest.raises(ValueError, match="query/kernel.*`head_dim`"):
        jinit.plan(flat, recipes.t5())
    assert jinit.plan(flat, recipes.t5(head_dim=4)).rows[0]["std"] == 8**-0.5 / 2
    odd = {"mix": {"kernel": jnp.ones(8)}}
    with pytest.raises(ValueError, match="mix/kernel.*which of them are inputs"):
        jinit.plan(odd, recipes.deepnorm(2))
