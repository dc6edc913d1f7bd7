"""Recipes on real Flax models: the law of each tensor, and what the papers promise."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jinit
from jinit import recipes
from tests.support import laws

D, HEADS, VOCAB, TOKENS = 32, 4, 50, 8


class Block(nn.Module):
    """One layer of a transformer, as Flax's own modules make it."""

    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadDotProductAttention(HEADS)(nn.LayerNorm()(x))
        y = nn.gelu(nn.Dense(4 * D)(nn.LayerNorm()(x)))
        return x + nn.Dense(D)(y)


class Transformer(nn.Module):
    layers: int = 2

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(VOCAB, D)(tokens)
        x = x + nn.Embed(TOKENS, D, name="pos")(jnp.arange(TOKENS))[None]
        for _ in range(self.layers):
            x = Block()(x)
        return nn.Dense(VOCAB, name="head")(nn.LayerNorm()(x))


class NnxBlock(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(D, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(HEADS, D, decode=False, rngs=rngs)
        self.linear1 = nnx.Linear(D, 4 * D, rngs=rngs)
        self.linear2 = nnx.Linear(4 * D, D, rngs=rngs)


class NnxTransformer(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(VOCAB, D, rngs=rngs)
        self.pos = nnx.Embed(TOKENS, D, rngs=rngs)
        self.blocks = nnx.List([NnxBlock(rngs) for _ in range(2)])
        self.head = nnx.Linear(D, VOCAB, rngs=rngs)


def linen_shapes():
    tokens = jax.ShapeDtypeStruct((1, TOKENS), jnp.int32)
    return jax.eval_shape(Transformer().init, jax.random.key(0), tokens)


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
                step, variable_axes={"params": 0}, split_rngs={"params": True}, length=6
            )
            return scan(Block(), x, None)[0]

    x = jax.ShapeDtypeStruct((1, TOKENS, D), jnp.float32)
    shapes = jax.eval_shape(Scanned().init, jax.random.key(0), x)
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

    x = jax.ShapeDtypeStruct((1, 3, 3, 8), jnp.float32)
    shapes = jax.eval_shape(Model().init, jax.random.key(0), x)
    params = jinit.plan(shapes, recipes.torch_defaults()).init(key)
    laws.assert_law(
        values_at(params, "Conv_0/kernel"), laws.uniform(-(72**-0.5), 72**-0.5)
    )
    laws.assert_law(values_at(params, "hf/kernel"), laws.uniform(-0.2, 0.2))
    laws.assert_law(values_at(params, "hf/bias"), laws.uniform(-0.2, 0.2))


def test_unknown_leaves_are_named():
    shapes = {"Dense_0": {"kernel": jnp.ones((3, 4)), "gamma": jnp.ones(4)}}
    for recipe in set(recipes.__all__) - {"inside"}:
        with pytest.raises(ValueError, match="(?s)match no rule.*Dense_0/gamma"):
            jinit.plan(shapes, getattr(recipes, recipe)(2))


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


# What the papers promise: a step of the optimizer changes the function by an amount
# that does not depend on depth.


class Residual(nn.Module):
    """A residual perceptron with Fixup's scalars and no normalization."""

    layers: int

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(D, name="stem")(x)
        for _ in range(self.layers):
            x = x + FixupBranch()(x)
        return nn.Dense(10, name="head")(nn.relu(x))


class FixupBranch(nn.Module):
    @nn.compact
    def __call__(self, x):
        scalar = lambda name: self.param(name, nn.initializers.zeros, (1, 1))  # noqa: E731
        y = nn.relu(nn.Dense(D, use_bias=False)(x + scalar("in/bias")))
        y = nn.Dense(D, use_bias=False)(y + scalar("mid/bias"))
        return y * self.param("scale", nn.initializers.ones, (1, 1))


def change_after_one_step(apply, x, y, rate):
    """Return a program for the rms change of the outputs after one step of SGD."""

    def loss(params, *settings):
        logits = apply(params, x, *settings)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    @jax.jit
    def change(params, *settings):
        stepped = jax.tree.map(
            lambda p, g: p - rate * g, params, jax.grad(loss)(params, *settings)
        )
        moved = apply(stepped, x, *settings) - apply(params, x, *settings)
        return jnp.sqrt(jnp.mean(moved**2))

    return change


@pytest.mark.parametrize(
    "depths", [(4, 16), pytest.param((4, 16, 64), marks=pytest.mark.slow)]
)
def test_a_step_changes_a_fixup_network_by_the_same_at_every_depth(depths, key):
    x = jax.random.normal(key, (64, 16))
    y = jnp.arange(64) % 10

    # The program of a depth serves all laws.
    @functools.cache
    def change_of(layers):
        return change_after_one_step(Residual(layers).apply, x, y, 1e-3)

    def change(layers, rules):
        model = Residual(layers)
        shapes = jax.eval_shape(model.init, key, x)
        params = jinit.plan(shapes, rules).init(key)
        # The readout starts at 0 in Fixup, so a first step moves nothing below it.
        params["params"]["head"] = jax.tree.map(
            lambda a: jax.random.normal(key, a.shape) / 8, params["params"]["head"]
        )
        return float(change_of(layers)(params))

    fixup = [change(n, recipes.fixup(n)) for n in depths]
    plain = [("**/kernel", jinit.he()), *jinit.recipes.fixup(1)[-4:]]
    he = [
        change(n, [jinit.Rule(*r[:2], optional=True) for r in plain]) for n in (4, 16)
    ]
    assert max(fixup) / min(fixup) < 3
    assert not he[1] < 100 * he[0]  # it explodes, or is not even finite


def post_norm(params, x, alpha):
    """Post-LayerNorm transformer layers, scanned: x <- LN(alpha x + f(x))."""

    def norm(x):
        return (x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + 1e-6)

    def layer(x, p):
        q, k, v = (
            jnp.einsum("btd,dhk->bthk", x, p[n]["kernel"])
            for n in ("query", "key", "value")
        )
        scores = jax.nn.softmax(
            jnp.einsum("bthk,bshk->bhts", q, k) / (D // HEADS) ** 0.5
        )
        y = jnp.einsum("bhts,bshk->bthk", scores, v)
        x = norm(alpha * x + jnp.einsum("bthk,hkd->btd", y, p["out"]["kernel"]))
        y = jax.nn.relu(x @ p["up"]["kernel"]) @ p["down"]["kernel"]
        return norm(alpha * x + y), None

    return jax.lax.scan(layer, x, params)[0]


def post_norm_shapes(layers):
    def kernel(*shape):
        return {"kernel": jax.ShapeDtypeStruct((layers, *shape), jnp.float32)}

    head = D // HEADS
    return {
        "query": kernel(D, HEADS, head), "key": kernel(D, HEADS, head),
        "value": kernel(D, HEADS, head), "out": kernel(HEADS, head, D),
        "up": kernel(D, 4 * D), "down": kernel(4 * D, D),
    }  # fmt: skip


def post_norm_params(layers, deep, key):
    rules = recipes.deepnorm(layers, stacked=True)
    if not deep:
        # The plain transformer: Xavier, and alpha = 1.
        rules = [("**/kernel", rules[0].init)]
    return jinit.plan(post_norm_shapes(layers), rules).init(key)


def alpha_of(layers, deep):
    return jinit.residual_scale("deepnorm", layers).alpha if deep else 1.0


def test_a_step_changes_a_deepnorm_transformer_by_the_same_at_every_depth(key):
    x = jax.random.normal(key, (4, TOKENS, D))
    readout = jax.random.normal(key, (D, 10)) / D**0.5
    y = jnp.arange(4 * TOKENS).reshape(4, TOKENS) % 10

    step = change_after_one_step(
        lambda params, x, alpha: post_norm(params, x, alpha) @ readout, x, y, 1e-2
    )

    def change(layers, deep):
        params = post_norm_params(layers, deep, key)
        return float(step(params, alpha_of(layers, deep)))

    deep = [change(layers, True) for layers in (4, 64)]
    plain = [change(layers, False) for layers in (4, 64)]
    assert max(deep) / min(deep) < 3
    assert plain[1] / plain[0] > 2 * max(deep) / min(deep)


TX = optax.adam(1e-3)


@jax.jit
def trained(params, alpha, keys):
    """Adam on a task that needs attention: to name the token before."""

    def loss(params, tokens):
        x = params["table"][tokens] + params["positions"]
        logits = post_norm(params["layers"], x, alpha) @ params["readout"]
        before = optax.softmax_cross_entropy_with_integer_labels
        return before(logits[:, 1:], tokens[:, :-1]).mean()

    def step(state, key):
        tokens = jax.random.randint(key, (32, TOKENS), 0, 10)
        value, gradient = jax.value_and_grad(loss)(state[0], tokens)
        updates, tx_state = TX.update(gradient, state[1])
        return (optax.apply_updates(state[0], updates), tx_state), value

    return jax.lax.scan(step, (params, TX.init(params)), keys)[1]


def loss_after_training(deep, key, layers=48, steps=120):
    keys = jax.random.split(key, 5)
    params = {
        "layers": post_norm_params(layers, deep, key),
        "table": jax.random.normal(keys[0], (10, D)),
        "positions": jax.random.normal(keys[1], (1, TOKENS, D)),
        "readout": jax.random.normal(keys[2], (D, 10)) / D**0.5,
    }
    losses = trained(params, alpha_of(layers, deep), jax.random.split(keys[4], steps))
    return float(losses[-10:].mean())


# That a step changes them by the same at every depth is tested by default.
@pytest.mark.slow
def test_48_post_norm_layers_train_with_deepnorm_and_not_without(key):
    assert loss_after_training(True, key) < 0.3
    assert loss_after_training(False, key) > 0.98 * np.log(10)
