"""What cannot be set stays as it is, and is listed with the reason."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from jinit._from_data import layerwise, lsuv

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEYS = jax.random.split(jax.random.key(0), 4)
X = jax.random.normal(KEYS[0], (32, 8))


def last_stds(history):
    return {r["path"]: r["std"] for r in history.rows if r["step"] == history.steps}


def pair(p, x):
    """A pair of LoRA beside a kernel, and a head of zeros."""
    y = jnp.tanh(x @ p["w"] + x @ p["a"] @ p["b"])
    return jnp.tanh(y @ p["next"]) @ p["head"]


def pair_params():
    lecun = jinit.lecun()
    shapes = {"w": (8, 8), "a": (8, 2), "next": (8, 8)}
    params = {
        name: 5 * lecun(key, shape)
        for key, (name, shape) in zip(KEYS, shapes.items(), strict=False)
    }
    return {**params, "b": jnp.zeros((2, 8)), "head": jnp.zeros((8, 3))}


@pytest.mark.parametrize("function", [jinit.lsuv, jinit.data_dependent])
def test_zero_kernels_stay_and_the_layers_behind_them_are_set(function):
    params = pair_params()
    new, history = function(pair, params, X)
    assert history.left == ("b", "head")
    assert dict(history.reasons) == dict.fromkeys(history.left, "its weights are 0")
    assert "left as they are: b (its weights are 0), head" in str(history)
    assert history.to_dict()["reasons"]["b"] == "its weights are 0"
    for name in history.left:
        np.testing.assert_array_equal(new[name], params[name])
    y = jnp.tanh(X @ new["w"]) @ new["next"]
    assert y.std() == pytest.approx(1, rel=0.05)


def experts(p, x):
    chosen = jax.nn.one_hot(jnp.argmax(x @ p["router"], -1), 4)
    rows = jnp.einsum("be,bd->ebd", chosen, x)
    hidden = jax.nn.relu(jnp.einsum("ebd,edh->ebh", rows, p["up"]))
    return jnp.einsum("ebh,ehd,be->bd", hidden, p["down"], chosen)


def test_experts_without_tokens_stay_and_the_others_are_set():
    draw = jinit.lecun(layout="bio")
    router = jnp.zeros((8, 4)).at[0, 1].set(1.0)
    params = {
        "router": router.at[0, 3].set(-1.0),
        "up": 3 * draw(KEYS[1], (4, 8, 16)),
        "down": 3 * draw(KEYS[2], (4, 16, 8)),
    }
    new, history = jinit.lsuv(experts, params, X)
    expected = [f"{name}[member {i}]" for name in ("up", "down") for i in (0, 2)]
    assert sorted(history.left) == sorted(expected)
    assert set(history.reasons.values()) == {"its output is 0 for the whole batch"}
    for name in ("up", "down"):
        np.testing.assert_array_equal(new[name][::2], params[name][::2])
        assert not np.array_equal(new[name][1], params[name][1])
    stds = {p: s for p, s in last_stds(history).items() if p not in history.left}
    assert len(stds) == 5
    assert all(s == pytest.approx(1, rel=0.05) for s in stds.values())


def test_a_step_of_a_stack_whose_kernel_is_0_stays():
    def stack(p, x):
        return jax.lax.scan(lambda x, w: (x + jnp.tanh(x @ w), None), x, p["w"])[0]

    kernels = jinit.lecun(layout="bio")(KEYS[1], (3, 8, 8)).at[1].set(0)
    new, history = jinit.lsuv(stack, {"w": kernels}, X)
    assert dict(history.reasons) == {"w[1]": "its weights are 0"}
    np.testing.assert_array_equal(new["w"][1], 0)
    stds = last_stds(history)
    assert stds["w[0]"] == pytest.approx(1, rel=0.05)
    assert stds["w[2]"] == pytest.approx(1, rel=0.05)


class Spectral(nn.Module):
    only: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.SpectralNorm(nn.Dense(8, name="normed"))(x, update_stats=False)
        return x if self.only else nn.Dense(8, name="plain")(nn.relu(x))


def test_a_spectral_norm_is_left_without_a_try():
    variables = Spectral().init(KEYS[0], X)
    new, history = jinit.lsuv(Spectral(), variables, X)
    assert history.left == ("normed/kernel",) and history.steps == 2
    assert last_stds(history)["plain"] == pytest.approx(1, rel=0.05)
    kernels = (tree["params"]["normed"]["kernel"] for tree in (new, variables))
    np.testing.assert_array_equal(*kernels)
    model = Spectral(only=True)
    with pytest.raises(ValueError, match="no layer to set"):
        jinit.lsuv(model, model.init(KEYS[0], X), X)


def test_what_several_passes_do_not_set_stays_and_is_warned_of():
    def model(p, x):
        return jnp.tanh(x @ p["first"]) @ p["last"]

    params = {n: 2 * jinit.lecun()(KEYS[1], (8, 8)) for n in ("first", "last")}
    net = jinit.network(model, params, X)

    def task_of(layers):
        # The factor of the last layer is too small by half each time.
        def rescale(output, bias, layer, _):
            right = lsuv._to_std(output, bias, layer.members, 1.0, 0.02)
            half = right.factor**0.5 if layer.path == "last" else right.factor
            return right._replace(factor=half)

        return layerwise.task_for(net, layers, rescale, "half")

    layers = net._read.reading.adjustable
    with pytest.warns(UserWarning, match="last was left .* it was not set in one pass"):
        _, passed = layerwise.set_layers(
            net, layers, task_of, lambda _: params, 0.02, 1
        )
    assert passed.reasons == {("last", ()): "it was not set in one pass"}
    np.testing.assert_array_equal(passed.params["last"], params["last"])
    assert not np.array_equal(passed.params["first"], params["first"])


def test_a_bias_that_exceeds_the_target_is_warned_of():
    def model(p, x):
        return jnp.tanh(x @ p["first"]) @ p["last"] + p["bias"][None]

    params = {
        "first": jinit.lecun()(KEYS[1], (8, 8)),
        "last": jinit.lecun()(KEYS[2], (8, 8)),
        "bias": 9 * jax.random.normal(KEYS[3], (8,)),
    }
    with pytest.warns(UserWarning, match="last was left as it is, since its bias"):
        new, history = jinit.lsuv(model, params, X)
    assert "bias alone" in history.reasons["last"]
    np.testing.assert_array_equal(new["last"], params["last"])
    assert last_stds(history)["first"] == pytest.approx(1, rel=0.05)


def test_nothing_can_be_set_and_a_sick_layer_are_errors():
    params = pair_params()
    zeros = jax.tree.map(jnp.zeros_like, params)
    with pytest.raises(ValueError, match="w cannot be scaled .* its weights are 0"):
        jinit.lsuv(pair, zeros, X)
    with pytest.raises(ValueError, match="output of next is not finite"):
        jinit.lsuv(pair, {**params, "next": params["next"] * jnp.nan}, X)


def test_what_was_left_out_or_belongs_to_no_layer_has_a_reason():
    def model(p, ids):
        return jnp.tanh(p["table"][ids] @ p["w"] + p["added"]) @ p["last"]

    params = {
        "table": jax.random.normal(KEYS[0], (8, 4)),
        "w": jinit.lecun()(KEYS[1], (4, 8)),
        "added": jax.random.normal(KEYS[2], (16, 8)),
        "last": jinit.lecun()(KEYS[2], (8, 8)),
    }
    ids = jnp.arange(16) % 8
    _, history = jinit.lsuv(model, params, ids, skip=["last"])
    assert dict(history.reasons) == {
        "added": "it is added",
        "last": "it was left out",
        "table": "it is looked up",
    }
