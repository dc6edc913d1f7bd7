"""With Fixup and DeepNorm a step changes the function alike at every depth."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jinit
from jinit import recipes
from tests.support.models import shapes_of

D, HEADS, TOKENS = 32, 4, 8


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
        params = jinit.plan(shapes_of(model, x), rules).init(key)
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
