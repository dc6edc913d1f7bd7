"""Layers are read from the equations, so models of every style have theirs set."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jinit

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (64, 5, 8))


def drawn(key, **shapes):
    keys = dict(zip(shapes, jax.random.split(key, len(shapes)), strict=True))
    # Weights far from any good size, each by another factor, and small biases.
    return {
        name: (2.0 + i if len(shape) > 1 else 0.1)
        * jax.random.normal(keys[name], shape)
        for i, (name, shape) in enumerate(shapes.items())
    }


def stds(history):
    last = max(row["step"] for row in history.rows)
    return {row["path"]: row["std"] for row in history.rows if row["step"] == last}


def transposed(p, x):
    return jax.nn.relu(x @ p["up"].T + p["bias"][None, None]) @ p["down"].T


def mixture(p, x):
    gates = jax.nn.softmax(x @ p["router"])
    hidden = jax.nn.relu(jnp.einsum("btd,edf->btef", x, p["wi"]))
    return jnp.einsum("btef,efd,bte->btd", hidden, p["wo"], gates)


def images(p, x):
    x = x[:, None, :, :]
    dims = ("NCHW", "OIHW", "NCHW")
    y = jax.lax.conv_general_dilated(x, p["w"], (1, 1), "SAME", dimension_numbers=dims)
    return (y + p["b"][None, :, None, None]).mean((2, 3)) @ p["head"]


def jitted(p, x):
    block = jax.jit(lambda w, x: x + jax.nn.relu(x @ w["up"]) @ w["down"])
    for one in ("a", "b"):
        x = block({name: p[f"{one}_{name}"] for name in ("up", "down")}, x)
    return x


def stacked(p, x):
    def step(x, w):
        return x + jnp.tanh(x @ w[0]) @ w[1], None

    layers = jnp.moveaxis(p["up"], 1, 0), jnp.moveaxis(p["down"], 1, 0)
    return jax.lax.scan(step, x, layers)[0]


STYLES = {
    "out_in": (transposed, {"up": (16, 8), "bias": (16,), "down": (3, 16)}),
    "experts": (mixture, {"router": (8, 4), "wi": (4, 8, 16), "wo": (4, 16, 8)}),
    "channels_first": (images, {"w": (6, 1, 3, 3), "b": (6,), "head": (6, 2)}),
    "jitted_block": (
        jitted,
        {"a_up": (8, 16), "a_down": (16, 8), "b_up": (8, 16), "b_down": (16, 8)},
    ),
    "scan_of_axis_one": (stacked, {"up": (8, 3, 16), "down": (16, 3, 8)}),
}
ROWS = {
    "out_in": {"up", "down"},
    "experts": {
        "router",
        *(f"{w}[member {i}]" for w in ("wi", "wo") for i in range(4)),
    },
    "channels_first": {"w", "head"},
    "jitted_block": {"a_up", "a_down", "b_up", "b_down"},
    "scan_of_axis_one": {f"{w}[{i}]" for w in ("up", "down") for i in range(3)},
}


@pytest.mark.parametrize("style", STYLES)
def test_lsuv_sets_every_layer(style):
    model, shapes = STYLES[style]
    new, history = jinit.lsuv(model, drawn(KEY, **shapes), X)
    assert set(stds(history)) == ROWS[style] and history.left == ()
    np.testing.assert_allclose(list(stds(history).values()), 1, atol=0.02)
    # The rows that are probed afterwards are measured anew.
    rows = {row["path"]: row for row in jinit.probe(model, new, X).rows}
    for name in shapes.keys() & rows.keys():
        if not any(path.startswith(f"{name}[") for path in stds(history)):
            assert rows[name]["std"] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("style", STYLES)
def test_data_dependent_sets_every_unit(style):
    model, shapes = STYLES[style]
    _, history = jinit.data_dependent(model, drawn(KEY, **shapes), X)
    assert history.left == ()
    last = [row for row in history.rows if row["step"] == history.steps]
    for row in last:
        assert row["least_std"] == pytest.approx(1, abs=0.02)
        assert row["largest_std"] == pytest.approx(1, abs=0.02)
        if row["path"] in ("w",) or (style == "out_in" and row["path"] == "up"):
            assert row["largest_mean"] < 0.02


def test_the_std_of_an_expert_is_that_of_its_own_output():
    model, shapes = STYLES["experts"]
    params, _ = jinit.lsuv(model, drawn(KEY, **shapes), X)
    outputs = jnp.einsum("btd,edf->ebtf", X, params["wi"])
    np.testing.assert_allclose(outputs.std((1, 2, 3)), 1, atol=0.02)


def test_a_layer_may_be_the_whole_model():
    model = nn.Dense(4, kernel_init=jinit.normal(3.0))
    variables, _ = jinit.lsuv(model, model.init(KEY, X), X)
    assert model.apply(variables, X).std() == pytest.approx(1, abs=0.02)


def test_a_functions_module_has_the_names_of_the_module():
    net = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(4)])
    variables = net.init(KEY, X)
    around = jax.vmap(net.apply, (None, 0))
    found = jinit.probe(around, variables, X)
    assert [row["path"] for row in found.rows] == ["layers_0", "relu", "layers_2"]
    assert jinit.lsuv(around, variables, X)[1].left == ()


def test_a_parameter_that_is_looked_up_or_added_stays():
    def tied(p, ids):
        x = p["table"][ids] + p["positions"][None]
        return jnp.tanh(x @ p["w"]) @ p["table"].T

    params = drawn(KEY, table=(12, 8), positions=(5, 8), w=(8, 8))
    ids = jax.random.randint(KEY, (16, 5), 0, 12)
    new, history = jinit.lsuv(tied, params, ids)
    assert history.left == ("positions", "table")
    for name in history.left:
        np.testing.assert_array_equal(new[name], params[name])


def test_one_odd_layer_is_left_and_listed():
    def odd(p, x):
        # The second layer's kernel is divided by its own norm, the third is zero.
        x = jnp.tanh(x @ p["first"]) @ (p["normed"] / jnp.linalg.norm(p["normed"]))
        return x + jnp.tanh(x @ p["zero"]) + jnp.tanh(x @ p["last"])

    params = drawn(KEY, first=(8, 8), normed=(8, 8), zero=(8, 8), last=(8, 8))
    params["zero"] = jnp.zeros((8, 8))
    new, history = jinit.data_dependent(odd, params, X)
    assert history.left == ("normed", "zero")
    y = X @ new["first"]
    np.testing.assert_allclose(y.std((0, 1)), 1, atol=0.02)


def test_a_model_of_nnx_comes_back_as_a_model():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.up = nnx.Linear(8, 16, rngs=rngs)
            self.down = nnx.Linear(16, 4, rngs=rngs)

        def __call__(self, x):
            return self.down(nnx.relu(self.up(x)))

    model = Net(nnx.Rngs(0))
    before = np.asarray(model.up.kernel[...])
    net = jinit.network(model, X)
    for new, history in (jinit.lsuv(model, X), jinit.lsuv(net)):
        assert isinstance(new, Net) and new.up.__class__ is nnx.Linear
        assert new(X).std() == pytest.approx(1, abs=0.02)
        assert {row["path"] for row in history.rows} == {"up", "down"}
    np.testing.assert_array_equal(model.up.kernel[...], before)


def test_layers_are_skipped_by_role():
    model, shapes = STYLES["experts"]
    params = drawn(KEY, **shapes)
    new, history = jinit.lsuv(model, params, X, skip=["@router"])
    assert "router" not in stds(history) and history.left == ("router",)
    np.testing.assert_array_equal(new["router"], params["router"])
    with pytest.raises(ValueError, match="router"):
        jinit.lsuv(model, params, X, skip=["@ruoter"])


@pytest.mark.parametrize("function", [jinit.lsuv, jinit.data_dependent])
@pytest.mark.parametrize("width", [4, 8])
def test_a_transposed_decoder_follows_the_encoder(function, width):
    def tied(p, x):
        hidden = jnp.tanh(x @ p["w"] + p["b"][None, None])
        y = hidden @ p["w"].T + p["c"][None, None]
        return jnp.tanh(y) @ p["last"]

    params = drawn(KEY, w=(8, width), b=(width,), c=(8,), last=(8, 3))
    new, history = function(tied, params, X)
    assert history.left == ()
    np.testing.assert_array_equal(new["c"], params["c"])
    first = X @ new["w"] + new["b"][None, None]
    decoded = jnp.tanh(first) @ new["w"].T + new["c"][None, None]
    last = jnp.tanh(decoded) @ new["last"]
    over = (0, 1) if function is jinit.data_dependent else None
    np.testing.assert_allclose(first.std(over), 1, atol=0.03)
    np.testing.assert_allclose(last.std(over), 1, atol=0.03)


def test_an_offset_with_axes_of_one_entry_is_no_weight():
    params = drawn(KEY, w=(8, 4), offset=(1, 1, 4), table=(5, 4))

    def shifted(p, x):
        return jnp.tanh(x @ p["w"]) * 2 + p["offset"] + p["table"][None]

    assert jinit.lsuv(shifted, params, X)[1].left == ("table",)
