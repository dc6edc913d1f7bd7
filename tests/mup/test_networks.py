"""Networks tell classes by contraction and growth, in models of any style."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jinit
from jinit import mup
from tests.support.models import MLP
from tests.support.trees import struct
from tests.support.widths import network_of_zoo
from tests.support.zoo import adapted, experts, gpt2, llama, t5

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def _as_the_field_writes():
    """Most code bases add biases of lower rank."""
    with jax.numpy_rank_promotion("allow"):
        yield


def inferred(module, name, **options):
    nets = [network_of_zoo(module, name, times) for times in (1, 4)]
    return mup.infer(*nets, **options)


def rows_of(p):
    return {row["path"]: row for row in p.rows}


def ends(rows, end):
    """Return the (class, std, rate) of every tensor whose path ends so, as a set."""
    chosen = [row for path, row in rows.items() if path.endswith(end)]
    assert chosen, end
    return {(row["class"], row["std"], row["lr"]) for row in chosen}


HIDDEN, FOLDED = ("hidden", 0.5, 0.25), ("output", 0.25, 0.25)
VECTOR, INPUT, SCALAR = ("vector", 1, 1), ("input", 1, 1), ("scalar", 1, 1)


@pytest.mark.parametrize("name", [n for n in llama.MODELS if "fused" not in n])
def test_grouped_queries(name):
    """Two key heads at both widths: k and v read the width, and write a fixed size."""
    p = inferred(llama, name)
    rows = rows_of(p)
    for end in ("wk", "wv"):
        assert ends(rows, end) == {FOLDED}
    for end in ("wq", "wo", "w_gate", "w_up", "w_down"):
        assert ends(rows, end) == {HIDDEN}
    assert ends(rows, "norm") == {VECTOR} and ends(rows, "embed") == {INPUT}
    assert ends(rows, "lm_head") == {("output", 1, 1)}
    assert p.readout_scale == 0.25 == rows["lm_head"]["multiplier"]
    # The note names the readout as what to multiply, and keys and values as what not.
    multiply, inside = str(p).split("- multiply", 1)[1].split("\n")[:2]
    assert "(lm_head)" in multiply and "/wk" in inside and "lm_head" not in inside


def test_one_kernel_for_all_heads_of_grouped_queries_says_so():
    p = inferred(llama, "llama, fused, (out, in)")
    rows = rows_of(p)
    assert ends(rows, "qkv_proj") == ends(rows, "gate_up_proj") == {HIDDEN}
    assert ends(rows, "q_norm") == {SCALAR}
    assert any("qkv_proj" in text and "sqrt(n)" in text for text in p.remarks)


@pytest.mark.parametrize("name", t5.MODELS)
def test_layers_along_any_axis_bias_tables_and_tied_logits(name):
    p = inferred(t5, name)
    rows = rows_of(p)
    for end in ("query/kernel", "out/kernel", "wi_0/kernel", "mlp/wo/kernel"):
        assert ends(rows, end) == {HIDDEN}
    # (heads, buckets): as many outputs as heads, and one bucket is read at a time.
    assert ends(rows, "rel_embedding") == {INPUT}
    tied = rows["token_embedder/embedding"]
    assert (tied["class"], tied["std"], tied["lr"]) == ("output", 1, 1)
    assert p.readout_scale == tied["multiplier"] == 0.25
    assert any("embedding and a readout at once" in text for text in p.remarks)
    with pytest.raises(ValueError, match="embedding too.*readout='multiplier'"):
        inferred(t5, name, readout="weights")


def test_kernels_of_gpt2_as_vectors_and_tied():
    rows = rows_of(inferred(gpt2, "gpt2"))
    assert ends(rows, "c_attn/weight") == ends(rows, "mlp/c_proj/weight") == {HIDDEN}
    assert rows["transformer/wte"]["multiplier"] == 0.25
    assert ends(rows, "transformer/wpe") == {INPUT}


def matrices(width, /, **shapes):
    """Return abstract parameters; a letter stands for the width in a shape."""
    sizes = {"d": width, "h": 2 * width, "n": width // 4}
    return {
        name: struct(*(sizes.get(size, size) for size in shape))
        for name, shape in shapes.items()
    }


def network(model, width, x, /, **shapes):
    return jinit.network(model, matrices(width, **shapes), x)


def classes(p):
    return {
        t.path: (t.mup_class, t.factors.multiplier, t.factors.std) for t in p.tensors
    }


def infer(model, x, /, **shapes):
    return mup.infer(network(model, 16, x, **shapes), network(model, 64, x, **shapes))


X = struct(6, 5)


def test_routers_and_experts():
    def model(p, x):
        x = x @ p["into"]
        weights = jax.nn.softmax(x @ p["router"])
        h = jax.nn.silu(jnp.einsum("bd,edh->beh", x, p["up"]))
        return (x + jnp.einsum("beh,ehd,be->bd", h, p["down"], weights)) @ p["head"]

    p = infer(model, X, into=(5, "d"), router=("d", 4), up=(4, "d", "h"),
              down=(4, "h", "d"), head=("d", 3))  # fmt: skip
    assert classes(p) == {
        "into": ("input", 1, 1),
        "router": ("output", 1, 0.25),
        "up": ("hidden", 1, 0.5),
        "down": ("hidden", 1, 0.5),
        "head": ("output", 0.25, 1),
    }
    # The table has the names of the field for these hidden kernels and this output.
    names = {row["path"]: row["class"] for row in p.rows}
    assert names["router"] == "router" and names["up"] == names["down"] == "expert"
    assert p.readout_scale == 0.25
    # More experts are more copies, and no growth of the width.
    wide = {"into": (5, "d"), "router": ("d", 8), "up": (8, "d", "h"),
            "down": (8, "h", "d"), "head": ("d", 3)}  # fmt: skip
    narrow = {name: tuple(4 if n == 8 else n for n in s) for name, s in wide.items()}
    q = mup.infer(network(model, 16, X, **narrow), network(model, 64, X, **wide))
    assert classes(q)["up"] == ("hidden", 1, 0.5) and q.readout_scale == 0.25


def test_bottlenecks_and_adapters():
    """LoRA+ (Hayou et al., 2024): the rate of A is 1 / n, that of B stays."""

    def model(p, x):
        h = jax.nn.relu(x @ p["into"])
        h = h @ (p["base"] + p["a"] @ p["b"]) + jnp.tanh(h @ p["down"]) @ p["up"]
        return h @ p["head"]

    p = infer(model, X, into=(5, "d"), base=("d", "d"), a=("d", 2), b=(2, "d"),
              down=("d", 2), up=(2, "d"), head=("d", 3))  # fmt: skip
    rates = {t.path: t.factors.adam for t in p.tensors}
    assert rates["a"] == rates["down"] == 0.25 and rates["b"] == rates["up"] == 1
    assert p.readout_scale == 0.25 and classes(p)["a"] == ("output", 1, 0.25)


def test_heads_that_are_mapped_over_are_outputs():
    """More heads along a batch axis are a wider query, and more inputs behind it."""

    def model(p, x):
        x = x @ p["into"]

        def head(q, k, v, o):
            weights = jax.nn.softmax((x @ q) @ (x @ k).T)
            return weights @ (x @ v) @ o

        y = jax.vmap(head)(p["q"], p["k"], p["v"], p["o"])
        return (x + y.sum(0)) @ p["head"]

    into = dict.fromkeys("qkv", ("n", "d", 4))
    p = infer(model, X, into=(5, "d"), o=("n", 4, "d"), head=("d", 3), **into)
    assert {classes(p)[name] for name in "qkvo"} == {("hidden", 1, 0.5)}


def test_what_shapes_cannot_tell():
    def model(p, x):
        h = p["table"][x]
        h = jnp.tanh(jnp.einsum("bd,qd->bq", h, p["middle"]))
        return jax.nn.relu(h) @ p["vector"], h @ p["head"].T

    ids = struct(6, dtype="int32")
    p = infer(model, ids, table=(9, "d"), middle=("d", "d"), vector=("d",),
              head=(9, "d"))  # fmt: skip
    assert classes(p) == {
        "table": ("input", 1, 1), "middle": ("hidden", 1, 0.5),
        "vector": ("output", 0.25, 1), "head": ("output", 0.25, 1),
    }  # fmt: skip


def test_kernels_that_are_kept_flat():
    def model(p, x):
        h = jax.nn.relu(x @ p["into"].reshape(5, -1))
        h = h @ p["middle"].reshape(h.shape[1], h.shape[1])
        return h @ p["head"]

    def net(d):
        return jinit.network(
            model, {"into": struct(5 * d), "middle": struct(d * d),
                    "head": struct(d, 3)}, X
        )  # fmt: skip

    p = mup.infer(net(16), net(64))
    assert classes(p)["into"] == ("input", 1, 1)
    assert classes(p)["middle"] == ("hidden", 1, 0.5)
    assert {t.path: t.factors.adam for t in p.tensors}["middle"] == 0.25


class Decoder(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(self.width, (3, 3))(x))
        x = nn.relu(nn.Conv(self.width, (3, 3), feature_group_count=2)(x))
        x = nn.Conv(self.width, (3, 3), feature_group_count=self.width)(x)
        up = nn.ConvTranspose(self.width, (3, 3), (2, 2), transpose_kernel=True)
        return nn.ConvTranspose(3, (3, 3), transpose_kernel=True)(nn.relu(up(x)))


def test_convolutions_grouped_depthwise_and_transposed():
    x = struct(1, 4, 4, 3)

    def net(width):
        model = Decoder(width)
        return jinit.network(model, jax.eval_shape(model.init, KEY, x), x)

    rows = rows_of(mup.infer(net(8), net(32)))
    kernels = {path.split("/")[0]: row for path, row in rows.items() if "k" in path}
    assert {name: row["class"] for name, row in kernels.items()} == {
        "Conv_0": "input", "Conv_1": "hidden", "Conv_2": "input",
        "ConvTranspose_0": "hidden", "ConvTranspose_1": "output",
    }  # fmt: skip
    # (3, 3, 3, 32), with the outputs before the inputs.
    assert kernels["ConvTranspose_1"]["multiplier"] == 0.25


def test_models_that_hold_their_arrays_and_a_step_of_training():
    def model(width):
        rngs = nnx.Rngs(0)
        return nnx.Sequential(
            nnx.Linear(5, width, rngs=rngs), nnx.relu,
            nnx.Linear(width, width, rngs=rngs), nnx.relu,
            nnx.Linear(width, 3, rngs=rngs),
        )  # fmt: skip

    x = jnp.ones((6, 5))
    base, target = (jinit.network(model(width), x) for width in (16, 64))
    p = mup.infer(base, target)
    by_shapes = mup.infer(base.params, target.params)
    assert p.rows == by_shapes.rows and p.readout_scale == 0.25
    started = p.init(target.params)
    kernels = [
        leaf.std() for leaf in jax.tree.leaves(target.replace(started).params)
        if leaf.ndim > 1
    ]  # fmt: skip
    before = [w.std() for w in jax.tree.leaves(target.params) if w.ndim > 1]
    np.testing.assert_allclose(kernels, np.multiply(before, [1, 1, 2]), rtol=1e-5)
    tx = p.optimizer(optax.adam(0.1))
    slope = jax.tree.map(jnp.ones_like, started)
    updates, _ = tx.update(slope, tx.init(started), started)
    steps = {float(leaf.ravel()[0]) for leaf in jax.tree.leaves(updates)}
    np.testing.assert_allclose(sorted(steps), [-0.1, -0.025], rtol=1e-4)
    rules = p.rules([("**/kernel", jinit.normal(1.0)), ("**", jinit.zeros)])
    stds = [row["std"] for row in jinit.plan(target.params, rules).rows]
    assert sorted(stds)[-3:] == [0.5, 1, 1]


@pytest.mark.parametrize("use_bias", [True, False])
def test_equinox_is_outputs_first(use_bias):
    if not adapted.installed("equinox"):
        pytest.skip("equinox is not installed: pip install equinox")
    import equinox as eqx

    def net(width):
        model = eqx.nn.MLP(5, 3, width, 2, key=KEY, use_bias=use_bias)
        return jinit.network(lambda m, x: jax.vmap(m)(x), model, jnp.ones((6, 5)))

    base, target = net(128), net(512)
    p = mup.infer(base, target)
    weights = [row for row in p.rows if row["path"].endswith("weight")]
    assert [row["class"] for row in weights] == ["input", "hidden", "output"]
    started = p.init(target.params)
    assert jax.tree.structure(started) == jax.tree.structure(target.params)
    # Equinox draws biases, too, with the std of the kernel: it is 1 / sqrt(inputs).
    if use_bias:
        ratio = started.layers[1].bias / target.params.layers[1].bias
        np.testing.assert_allclose(ratio, 2.0, rtol=1e-6)


def test_overrides_win_and_may_be_roles():
    p = inferred(
        llama, "llama",
        overrides=[("@scale", "scalar"), ("@gate", "scalar"), ("lm_head", "io"),
                   (lambda path, leaf: "up" in leaf.roles, "output")],
    )  # fmt: skip
    rows = rows_of(p)
    assert ends(rows, "norm") == {SCALAR} and ends(rows, "w_gate") == {SCALAR}
    assert {row["class"] for path, row in rows.items() if "w_up" in path} == {"output"}
    with pytest.raises(ValueError, match="matches no leaf"):
        inferred(llama, "llama", overrides=[("@router", "output")])
    with pytest.raises(ValueError, match="no such role"):
        inferred(llama, "llama", overrides=[("@quarry", "output")])


def test_depth_is_that_of_the_networks():
    def model(p, x):
        x = x @ p["into"]
        x, _ = jax.lax.scan(lambda x, w: (x + jax.nn.relu(x) @ w, None), x, p["blocks"])
        return x @ p["head"]

    def net(width, layers):
        return network(model, width, X, into=(5, "d"), blocks=(layers, "d", "d"),
                       head=("d", 3))  # fmt: skip

    llamas = [network_of_zoo(llama, "llama, scanned", times) for times in (1, 4)]
    deep = rows_of(mup.infer(*llamas, depth=(2, 8), depth_rule="depth_mup"))
    # Keys lie in a branch, as queries do, and the readout does not.
    assert deep["layers/wk"]["lr"] == deep["layers/wq"]["lr"] == 0.125
    assert deep["lm_head"]["lr"] == 1
    p = mup.infer(net(16, 2), net(64, 6), depth_rule="completep")
    assert p.residual_scale == pytest.approx(1 / 3)
    assert classes(p)["blocks"] == ("hidden", 1, 0.5)
    q = mup.infer(net(16, 2), net(64, 6), depth=(2, 6), depth_rule="completep")
    assert p == q


def test_what_a_network_does_not_tell():
    def model(p, x):
        h = x @ p["into"]
        filtered = jnp.fft.fft(h.mean(0)) * jnp.fft.fft(p["filter"])
        return jnp.fft.ifft(filtered).real @ p["head"]

    shapes = {"into": (5, "d"), "head": ("d", 3)}
    with pytest.raises(ValueError, match=r"(?s)'filter'.*`fft`.*overrides=\["):
        infer(model, X, filter=("d", "d"), **shapes)
    assert classes(infer(model, X, filter=(1, "d"), **shapes))["filter"][0] == "vector"
    p = infer(model, X, filter=(2, "d"), **shapes)
    assert any("does not tell their use: filter" in text for text in p.remarks)

    def encoder(p, x):
        return jax.nn.relu(x @ p["into"]) @ p["out"]

    p = infer(encoder, X, into=(5, "d"), out=("d", "d"))
    assert p.readout_scale == 1
    assert any("no tensor is a readout" in text for text in p.remarks)


def test_networks_and_shapes_do_not_mix():
    net = network_of_zoo(llama, "llama", 1)
    with pytest.raises(TypeError, match="`base_shapes` is a Network.*`shapes` is not"):
        mup.infer(net, net.params)
    with pytest.raises(ValueError, match="different structure"):
        mup.infer(net, network_of_zoo(gpt2, "gpt2", 1))


def test_equal_networks_change_nothing():
    net = network_of_zoo(llama, "llama", 1)
    p = mup.infer(net, net)
    assert p.is_noop and p.readout_scale == 1
    delta = mup.infer(net, net, delta_shapes=network_of_zoo(llama, "llama", 2))
    assert delta.is_noop and rows_of(delta)["layers/0/wk"]["class"] == "output"


def test_flax_models_are_read_alike_by_shapes_and_by_networks():
    x = jnp.ones((2, 8))
    models = [MLP((width, width, 4)) for width in (16, 64)]
    nets = [jinit.network(m, jax.eval_shape(m.init, KEY, x), x) for m in models]
    p, q = mup.infer(*nets), mup.infer(*(net.params for net in nets))
    assert p.rows == q.rows and str(p) == str(q)


@pytest.mark.parametrize("name", experts.MODELS)
def test_mixtures_of_experts(name):
    rows = rows_of(inferred(experts, name))
    router = "gate" if "mixed" in name else "router"
    chosen = {path: row for path, row in rows.items() if f"/{router}" in path}
    routers = {(r["class"], r["std"], r["lr"]) for r in chosen.values()}
    assert routers == {("router", *FOLDED[1:])}
    others = {
        (r["class"], r["std"], r["lr"]) for path, r in rows.items()
        if path.startswith("blocks") and path not in chosen
    }  # fmt: skip
    assert others == {("expert", *HIDDEN[1:])}
