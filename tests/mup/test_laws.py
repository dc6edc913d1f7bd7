"""What a parametrization does: stds, the symmetry behind it, depth, norms."""

import math

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jinit
from jinit import mup
from jinit.mup._factors import Factors, Tensor, rewritten
from jinit.mup._parametrization import Parametrization
from tests.support.trees import rows_by_path, struct
from tests.support.widths import (
    KEY,
    X,
    Y,
    mlp,
    mlp_shapes,
    mlp_variables,
    transformer_shapes,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")


def std(x):
    return float(np.sqrt(np.mean(np.square(np.asarray(x, np.float64)))))


class Initialized(nn.Module):
    width: int
    kernel: object

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(64, self.width)(tokens)
        x = nn.Dense(self.width, kernel_init=self.kernel)(x)
        return nn.Dense(64, kernel_init=self.kernel)(x)


@pytest.mark.parametrize(
    "init, drawn",
    [
        (jinit.lecun(), "fan_in"),
        (jinit.he(mode="fan_out"), "fan_out"),
        (jinit.xavier(), "fan_avg"),
        (jinit.normal(0.02), [("**/Dense_*/kernel", "constant")]),
    ],
)
def test_init_gives_the_std_of_the_parametrization(init, drawn):
    """Std at the target is the factor times std at the base, whatever drew it."""

    def start(width):
        tokens = jnp.zeros((1, 2), jnp.int32)
        return Initialized(width, init).init(KEY, tokens)["params"]

    base, target = start(64), start(512)
    p = mup.infer(base, target)
    started = p.init(target, drawn=drawn)
    for name, factor in [("Dense_0", 8**-0.5), ("Dense_1", 1), ("Embed_0", 1)]:
        leaf = "embedding" if name == "Embed_0" else "kernel"
        found = std(started[name][leaf]) / std(base[name][leaf])
        assert found == pytest.approx(factor, rel=0.06), name
        # And it is no identity: the drawn one has another size.
        if name == "Embed_0":
            assert std(target[name][leaf]) / std(base[name][leaf]) < 0.5


def test_init_at_the_base_width_changes_nothing():
    drawn = mlp_variables(16)
    started = mup.infer(mlp_variables(16), mlp_variables(16)).init(drawn)
    assert all(
        a is b for a, b in zip(*map(jax.tree.leaves, (started, drawn)), strict=True)
    )


def test_init_of_part_of_the_variables_and_of_nnx():
    p = mup.infer(mlp_variables(16), mlp_variables(64))
    drawn = mlp_variables(64)
    whole, part = p.init(drawn), p.init(drawn["params"])
    chex.assert_trees_all_equal(whole["params"], part)
    with pytest.raises(ValueError, match="other shapes"):
        p.init(mlp_variables(32))
    with pytest.raises(ValueError, match="does not know"):
        p.init({"other": jnp.ones(3)})

    def model(width):
        return nnx.Sequential(
            nnx.Linear(8, width, rngs=nnx.Rngs(0)),
            nnx.Linear(width, 4, rngs=nnx.Rngs(1)),
        )

    wide = model(64)
    state = nnx.state(wide, nnx.Param)
    p = mup.infer(nnx.state(model(16), nnx.Param), state)
    before = wide.layers[1].kernel[...]
    nnx.update(wide, p.init(state))
    np.testing.assert_allclose(wide.layers[1].kernel[...], 2 * before)


def test_rules_of_a_plan():
    shapes = [mlp_shapes(width) for width in (16, 64)]
    rules = [("**/kernel", jinit.he()), ("**", jinit.zeros)]
    p = mup.infer(*shapes)
    base = {r["path"]: r["std"] for r in jinit.plan(shapes[0], rules).rows}
    plan = jinit.plan(shapes[1], p.rules(rules))
    for row, said in zip(plan.rows, p.rows, strict=True):
        assert row["std"] == pytest.approx(said["std"] * base[row["path"]]), row["path"]
    same = mup.infer(shapes[0], shapes[0])
    assert jinit.plan(shapes[0], same.rules(rules)) == jinit.plan(shapes[0], rules)
    # Recipes look at the whole tree, and rules may keep.
    recipe = jinit.recipes.gpt2(1)
    p = mup.infer(transformer_shapes(16), transformer_shapes(64))
    assert jinit.plan(transformer_shapes(64), p.rules(recipe), allow_unused=True).rows
    p = mup.infer(*shapes)
    assert jinit.plan(shapes[1], p.rules([("**", jinit.keep)])).rows
    foreign = [("**", jax.nn.initializers.normal())]
    with pytest.raises(ValueError, match="does not say its std"):
        jinit.plan(shapes[1], p.rules(foreign))


def trained(params, p, tx, scale, steps=5):
    """`steps` of training, of an MLP whose logits have a scale."""
    tx = tx if p is None else p.optimizer(tx)

    def loss(w):
        return jnp.mean((scale * mlp(16).apply(w, X) - Y) ** 2)

    @jax.jit
    def step(params, state):
        value, slope = jax.value_and_grad(loss)(params)
        updates, state = tx.update(slope, state, params)
        return optax.apply_updates(params, updates), state, value

    state, losses = tx.init(params), []
    for _ in range(steps):
        params, state, value = step(params, state)
        losses.append(float(value))
    return losses


def symmetric(params, k, **wrong):
    """The last layer rewritten: multiplier times k, std and rates as they follow."""
    one = Factors(1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    changed = rewritten(one, k)._replace(**wrong)
    tensors = []
    for path, leaf in jax.tree.leaves_with_path(params):
        parts = tuple(key.key for key in path)
        factors = changed if "Dense_2" in parts else one
        tensors.append(Tensor(parts, leaf.shape, leaf.shape, "output", "", (), factors))
    started = jax.tree.map_with_path(
        lambda path, w: w * changed.std if "Dense_2" in str(path) else w, params
    )
    return started, Parametrization(tuple(tensors))


OPTIMIZERS = {
    "sgd": optax.sgd(0.3),
    "momentum": optax.sgd(0.1, momentum=0.9),
    "adam": optax.adam(0.02, eps=1e-30),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_symmetry_of_multiplier_std_and_rate(name):
    params, k = mlp_variables(16), 4.0
    standard = trained(params, None, OPTIMIZERS[name], 1.0)
    started, p = symmetric(params, k)
    # The scale is the last layer's, bias too.
    np.testing.assert_allclose(
        trained(started, p, OPTIMIZERS[name], k), standard, rtol=1e-4
    )
    assert standard[0] > 1.05 * standard[-1]
    # Another power of k, and it is another training.
    wrong = {"adam": 1 / k**2, "sgd": 1 / k}
    started, p = symmetric(params, k, **wrong)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(
            trained(started, p, OPTIMIZERS[name], k), standard, rtol=1e-4
        )


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_the_readout_in_its_weights_trains_alike(name):
    """Table 3 and table 8 are one parametrization."""

    def losses(readout):
        p = mup.infer(mlp_variables(4), mlp_variables(16), readout=readout)
        start = p.init(mlp_variables(16))
        tx = p.optimizer(OPTIMIZERS[name])

        # A bias has no inputs, and stays out of the multiplier.
        def loss(w):
            head = w["params"]["Dense_2"]["bias"][None]
            y = mlp(16).apply(w, X) - head
            return jnp.mean((p.readout_scale * y + head - Y) ** 2)

        state, values, slopes = tx.init(start), [], jax.jit(jax.value_and_grad(loss))
        for _ in range(5):
            value, slope = slopes(start)
            updates, state = tx.update(slope, state, start)
            start = optax.apply_updates(start, updates)
            values.append(float(value))
        return values

    np.testing.assert_allclose(losses("weights"), losses("multiplier"), rtol=1e-4)


@pytest.mark.parametrize(
    "tx", [optax.sgd(0.1, momentum=0.9), optax.adamw(0.02, weight_decay=0.1)]
)
def test_at_the_base_width_training_is_what_it_was(tx):
    params = mlp_variables(16)
    p = mup.infer(params, params, depth=(3, 3), depth_rule="completep")
    assert p.residual_scale == p.readout_scale == 1
    assert trained(p.init(params), p, tx, p.readout_scale) == trained(
        params, None, tx, 1.0
    )


def test_depth():
    shapes = mlp_variables(16), mlp_variables(64)
    p = mup.infer(*shapes, depth=(2, 8), depth_rule="completep")
    hidden, first = (rows_by_path(p)[f"Dense_{i}/kernel"] for i in (1, 0))
    assert p.residual_scale == 0.25
    assert (hidden["lr"], hidden["epsilon"]) == (0.25, 0.25 / 4)
    assert (first["lr"], first["epsilon"]) == (1, 0.25)
    assert "p.residual_scale = 0.25 (completep)" in str(p)
    p = mup.infer(*shapes, depth=(2, 8), depth_rule="depth_mup")
    rows = rows_by_path(p)
    assert p.residual_scale == 0.5 == jinit.residual_scale("depth_mup", 4)
    assert rows["Dense_1/kernel"]["lr"] == 0.125
    # The bias beside a hidden kernel is in the block; that of the input is not.
    assert rows["Dense_1/bias"]["lr"] == 0.5 and rows["Dense_0/bias"]["lr"] == 1
    sgd = mup.infer(*shapes, depth=(2, 8), depth_rule="completep", kind="sgd")
    assert rows_by_path(sgd)["Dense_1/kernel"]["lr"] == 4
    with pytest.raises(ValueError, match="`depth_rule` is 'deep'"):
        mup.infer(*shapes, depth=(2, 8), depth_rule="deep")


@pytest.mark.parametrize("shape", [(64, 256), (256, 64)])
def test_spectral_norms(shape):
    w = {"w": jax.random.normal(KEY, shape), "b": jnp.zeros(shape[1])}
    p, wanted = mup.spectral(w), math.sqrt(shape[1] / shape[0])
    started = p.init(w)
    norm = float(np.linalg.norm(started["w"], 2))
    assert norm == pytest.approx(wanted, rel=0.1)
    assert not np.any(started["b"])
    # Adam's first update has entries of one size, and here of one sign.
    one = jax.tree.map(jnp.ones_like, w)
    for tx, gradient in (
        (optax.adam(1.0), 1.0),
        (optax.sgd(1.0), wanted**-1 / shape[1]),
    ):
        tx = p.optimizer(tx)
        slope = jax.tree.map(lambda x, g=gradient: g * x, one)
        update = tx.update(slope, tx.init(w), w)[0]["w"]
        # SGD: of a gradient with the norm that it has where dL / dy is of size 1.
        norm = float(np.linalg.norm(update, 2))
        expected = wanted if gradient == 1 else wanted**2 * gradient * math.sqrt(
            shape[0] * shape[1])  # fmt: skip
        assert norm == pytest.approx(expected, rel=1e-3)


def test_spectral_layouts():
    tree = {
        "embed": {"embedding": struct(100, 16)},
        "conv": {"kernel": struct(3, 3, 8, 16)},
        "attn": {"query": {"kernel": struct(16, 2, 8)}},
        "scale": struct(),
    }
    rows = {row["path"]: row for row in mup.spectral(tree).rows}
    assert rows["embed/embedding"]["std"] == rows["embed/embedding"]["lr"] == 1
    assert rows["conv/kernel"]["lr"] == 1 / 72
    assert rows["attn/query/kernel"]["lr"] == 1 / 16
    with pytest.raises(ValueError, match="its layout is not known"):
        mup.spectral({"w": struct(3, 4, 5)})
    assert mup.spectral({"w": struct(3, 4, 5)}, overrides=[("w", "bio")]).rows[0][
        "lr"
    ] == pytest.approx(0.25)


def test_unit_scaling():
    p = mup.unit_scaling(transformer_shapes(16), transformer_shapes(64))
    rows = rows_by_path(p)
    assert rows["Embed_0/embedding"]["std"] == 1
    assert rows["Embed_0/embedding"]["lr"] == 1 / 8
    assert rows["Block_0/Dense_0/kernel"]["std"] == 1 / 8
    assert rows["Block_0/Dense_0/kernel"]["lr"] == 1 / 64
    assert rows["head/kernel"]["std"] == rows["head/kernel"]["lr"] == 1
    assert p.readout_scale == 1 / 64
    stack = (
        {"layers": {"kernel": struct(5, 8, 8)}},
        {"layers": {"kernel": struct(5, 64, 64)}},
    )
    assert mup.unit_scaling(*stack).rows[0]["lr"] == 1 / 64
    drawn = jax.tree.map(lambda s: np.ones(s.shape, s.dtype), transformer_shapes(64))
    started = p.init(drawn)["params"]
    assert std(started["Block_0"]["Dense_1"]["kernel"]) == pytest.approx(
        1 / 16, rel=1e-5
    )
    assert std(started["head"]["kernel"]) == pytest.approx(1, rel=1e-5)
    with pytest.raises(ValueError, match="no learning rate of the kind 'sgd'"):
        p.optimizer(optax.sgd(0.1)).init(drawn)


def test_attention_scale():
    assert mup.attention_scale(64) == 1 / 64
    assert mup.attention_scale(16, 16) == 1 / 4
    assert mup.attention_scale(64, 16) == 4 / 64
    with pytest.raises(ValueError, match="`head_dim` is 0"):
        mup.attention_scale(0)
    with pytest.raises(TypeError, match="`head_dim` is None"):
        mup.attention_scale(None)


def test_several_readouts():
    base = {"a": struct(8, 2), "b": struct(8, 2)}
    target = {"a": struct(16, 2), "b": struct(32, 2)}
    with pytest.raises(ValueError, match="(?s)different multipliers.*'a': 0.5"):
        _ = mup.infer(base, target).readout_scale
    assert mup.infer(base, target, readout="weights").readout_scale == 1
