"""Which tensors Muon takes, along which axes, and what p.optimizer makes of it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from optax.contrib import MuonDimensionNumbers as Axes
from optax.contrib import muon

import jinit
from jinit import mup
from jinit.mup._parametrization import Parametrization
from tests.support.trees import struct
from tests.support.widths import mlp_shapes

pytestmark = pytest.mark.usefixtures("quick_compilation")

LAYERS, EXPERTS, HEADS, WORDS = 3, 4, 2, 11


@pytest.fixture(autouse=True)
def _as_the_field_writes():
    """Most code bases add biases of lower rank."""
    with jax.numpy_rank_promotion("allow"):
        yield


def forward(p, ids):
    """Run a transformer with experts, whose layers lie along the second axis."""
    x = p["embed"][ids]
    x = x + jax.lax.conv_general_dilated(
        x, p["depthwise"], (1,), "SAME", feature_group_count=x.shape[-1],
        dimension_numbers=("NHC", "HIO", "NHC"),
    )  # fmt: skip
    layers = jax.tree.map(lambda w: jnp.moveaxis(w, 1, 0), p["layers"])
    x, _ = jax.lax.scan(lambda x, p: (block(p, x), None), x, layers)
    return x @ p["head"]


def block(p, x):
    y = x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * p["norm"]
    q, k, v = (jnp.einsum("bsd,dhk->bshk", y, p[name]) for name in ("q", "k", "v"))
    weights = jax.nn.softmax(jnp.einsum("bshk,bthk->bhst", q, k))
    attended = jnp.einsum("bhst,bthk->bshk", weights, v)
    x = x + jnp.einsum("bshk,hkd->bsd", attended, p["out"])
    routed = jax.nn.softmax(x @ p["router"])
    h = jax.nn.silu(jnp.einsum("bsd,edm->besm", x, p["wi"]))
    return x + jnp.einsum("besm,emd,bse->bsd", h, p["wo"], routed)


def shapes(d):
    stacked = {
        "norm": (d, LAYERS), "q": (d, LAYERS, HEADS, d // HEADS),
        "k": (d, LAYERS, HEADS, d // HEADS), "v": (d, LAYERS, HEADS, d // HEADS),
        "out": (HEADS, LAYERS, d // HEADS, d), "router": (d, LAYERS, EXPERTS),
        "wi": (EXPERTS, LAYERS, d, 2 * d), "wo": (EXPERTS, LAYERS, 2 * d, d),
    }  # fmt: skip
    return {
        "embed": struct(WORDS, d),
        "depthwise": struct(3, 1, d),
        "layers": {name: struct(*shape) for name, shape in stacked.items()},
        "head": struct(d, WORDS),
    }


def net(d):
    return jinit.network(forward, shapes(d), struct(2, 5, dtype="int32"))


# In the order that code bases write by hand for such models.
DIMENSIONS = {
    "embed": None,
    "depthwise": None,
    "layers": {
        "norm": None,
        "q": Axes((0,), (2, 3)),
        "k": Axes((0,), (2, 3)),
        "v": Axes((0,), (2, 3)),
        "out": Axes((0, 2), (3,)),
        "router": Axes((0,), (2,)),
        "wi": Axes((2,), (3,)),
        "wo": Axes((2,), (3,)),
    },
    "head": None,
}


def test_axes_are_those_that_the_network_contracts():
    p = mup.infer(net(8), net(16))
    assert p.muon_dimension_numbers() == DIMENSIONS
    # The widths need not differ: the network knows, and so does a spectral scheme.
    assert mup.infer(net(8), net(8)).muon_dimension_numbers() == DIMENSIONS
    assert mup.spectral(net(8)).muon_dimension_numbers() == DIMENSIONS
    labels = p.labels()
    assert labels["layers"]["q"] == labels["layers"]["router"] == "muon"
    assert labels["layers"]["norm"] == labels["depthwise"] == labels["head"] == "adam"
    skipping = p.labels(skip=["@router", "layers/wi"])["layers"]
    assert {n for n, label in skipping.items() if label == "muon"} == {
        "q", "k", "v", "out", "wo"}  # fmt: skip
    assert p.muon_dimension_numbers(skip="@expert")["layers"]["wo"] is None


# A matrix (inputs, outputs) of each kernel, for one layer and one expert.
MATRICES = {
    "q": lambda u: u[:, 0].reshape(len(u), -1),
    "out": lambda u: u[:, 0].reshape(-1, u.shape[-1]),
    "wi": lambda u: u[0, 0],
    "wo": lambda u: u[0, 0],
    "router": lambda u: u[:, 0],
}


def of_rank_one(shape, random):
    """Return an array whose matrices all have one singular value."""
    value = np.ones(())
    for n in shape:
        value = np.multiply.outer(value, random.choice([-1.0, 1.0], size=n))
    return jnp.asarray(value, "float32")


def norms(d, **options):
    """Return each spectral norm over sqrt(n_out / n_in), and Adam's entries."""
    p = mup.infer(net(8), net(d))
    tx = muon(
        0.1, ns_steps=2, muon_weight_dimension_numbers=p.muon_dimension_numbers(),
        **options,
    )  # fmt: skip
    random = np.random.default_rng(0)
    gradient = jax.tree.map(lambda w: of_rank_one(w.shape, random), shapes(d))
    ours = p.optimizer(tx)

    @jax.jit
    def first(gradient):
        return ours.update(gradient, ours.init(gradient), gradient)[0]

    updates = first(gradient)
    ratios = {}
    for name, matrix in MATRICES.items():
        u = np.asarray(matrix(updates["layers"][name]))
        ratios[name] = np.linalg.norm(u, 2) / np.sqrt(u.shape[1] / u.shape[0])
    entries = {n: float(abs(updates[n]).max()) for n in ("embed", "depthwise", "head")}
    return ratios, entries


@pytest.mark.parametrize("options", [{}, {"consistent_rms": 0.2}], ids=str)
def test_the_norm_of_an_update_is_flat_in_width(options):
    """Yang, Simon and Bernstein: |dW| = c sqrt(n_out / n_in), for each member."""
    (base, adam), (wide, adam_wide) = norms(8, **options), norms(32, **options)
    assert wide == pytest.approx(base, rel=2e-3)
    # Adam's rate of an embedding and of a readout with a multiplier stays.
    assert adam == pytest.approx(dict.fromkeys(adam, adam["embed"]), rel=1e-3)
    assert adam_wide == pytest.approx(adam, rel=1e-3)


def test_labels_are_those_of_multi_transform():
    p, params = mup.infer(net(8), net(16)), shapes(16)
    by_label = {"muon": optax.lion(1e-3, weight_decay=0.0), "adam": optax.adam(1e-3)}
    tx = optax.multi_transform(by_label, p.labels())
    ones = jax.tree.map(lambda w: jnp.ones(w.shape), params)
    state = jax.jit(tx.init)(ones)
    sizes = {
        label: sum(leaf.size for leaf in jax.tree.leaves(inner) if leaf.ndim)
        for label, inner in state.inner_states.items()
    }
    hidden = sum(
        w.size for w, label in zip(
            jax.tree.leaves(params), jax.tree.leaves(p.labels()), strict=True)
        if label == "muon")  # fmt: skip
    everything = sum(w.size for w in jax.tree.leaves(params))
    # Lion has one moment for each entry, and Adam two.
    assert sizes == {"muon": hidden, "adam": 2 * (everything - hidden)}


def test_a_tree_in_the_form_of_the_parameters():
    """Linen's "params", a state of NNX, and what is left after JSON."""
    p = mup.infer(mlp_shapes(16), mlp_shapes(64))
    whole = p.labels()
    assert list(whole) == ["params"]
    inner = p.labels(mlp_shapes(64)["params"])
    assert inner == whole["params"]
    kernels = [inner[f"Dense_{i}"]["kernel"] for i in range(3)]
    assert kernels == ["adam", "muon", "adam"]
    saved = Parametrization.from_dict(json.loads(json.dumps(p.to_dict())))
    assert saved == p and saved.labels() == whole
    assert saved.muon_dimension_numbers() == p.muon_dimension_numbers()
    with pytest.raises(ValueError, match="does not know"):
        p.labels({"other": struct(3)})
    with pytest.raises(ValueError, match="other shapes"):
        p.labels(mlp_shapes(16))


def test_states_of_nnx():
    def state(width):
        model = nnx.Sequential(
            nnx.Linear(3, width, rngs=nnx.Rngs(0)),
            nnx.Linear(width, width, rngs=nnx.Rngs(0)),
            nnx.Linear(width, 2, rngs=nnx.Rngs(0)),
        )
        return nnx.state(model, nnx.Param)

    p, params = mup.infer(state(4), state(16)), state(16)
    tx = p.optimizer(
        muon(0.1, muon_weight_dimension_numbers=p.muon_dimension_numbers())
    )
    updates, _ = jax.eval_shape(lambda w: tx.update(w, tx.init(w), w), params)
    assert jax.tree.structure(updates) == jax.tree.structure(params)
    assert jax.tree.leaves(p.labels()).count("muon") == 1


def test_modules_of_equinox():
    """Optax calls what can be called, so that such a tree comes in a function."""
    eqx = pytest.importorskip("equinox", reason="pip install equinox")

    def network(width):
        module = eqx.nn.MLP(5, 3, width, 2, key=jax.random.key(0))
        return jinit.network(lambda m, x: jax.vmap(m)(x), module, jnp.ones((6, 5)))

    base, target = network(8), network(32)
    p = mup.infer(base, target)
    labels = p.labels()(None)
    assert [layer.weight for layer in labels.layers] == ["adam", "muon", "adam"]
    dims = p.muon_dimension_numbers()
    # Weights are (outputs, inputs).
    assert dims(None).layers[1].weight == Axes((1,), (0,))
    by_label = {"muon": optax.lion(1e-3), "adam": optax.adam(1e-3)}
    for tx in (
        muon(0.1, muon_weight_dimension_numbers=dims),
        optax.multi_transform(by_label, p.labels()),
    ):
        ours = p.optimizer(tx)
        jax.eval_shape(lambda w, tx=ours: tx.update(w, tx.init(w), w), target.params)


def test_shapes_alone():
    """Classes stand in for roles; equal shapes have none."""

    def tree(d):
        return {
            "embed": {"embedding": struct(11, d)},
            "block": {"query": {"kernel": struct(d, 4, d // 4)},
                      "key": {"kernel": struct(d, 2, 4), "bias": struct(2, 4)},
                      "stack": struct(5, d, 4 * d)},
            "head": {"kernel": struct(d, 11)},
        }  # fmt: skip

    dims = mup.infer(tree(16), tree(64)).muon_dimension_numbers()
    assert dims["block"]["query"]["kernel"] == Axes((0,), (1, 2))
    assert dims["block"]["key"] == {"kernel": Axes((0,), (1, 2)), "bias": None}
    assert dims["block"]["stack"] == Axes((1,), (2,))
    assert dims["embed"]["embedding"] is dims["head"]["kernel"] is None
    # A readout that takes its multiplier into the weights is a readout still.
    folded = mup.infer(tree(16), tree(64), readout="weights")
    assert folded.labels()["head"]["kernel"] == "adam"
    for p in (mup.infer(tree(16), tree(16)), mup.spectral({"w": struct(8, 8)})):
        with pytest.raises(ValueError, match="nothing grows.*jinit.network"):
            p.labels()
        with pytest.raises(ValueError, match="nothing grows"):
            p.muon_dimension_numbers()
    with pytest.raises(ValueError, match="matches no"):
        mup.infer(tree(16), tree(64)).labels(skip="blocks/**")


def test_convolutions_bottlenecks_and_vectors():
    """Windows count as inputs; one input, one output or groups make no matrix."""

    def model(p, x):
        form = ("NHWC", "HWIO", "NHWC")

        def conv(x, kernel, groups=1):
            return jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=form,
                feature_group_count=groups)  # fmt: skip

        x = jax.nn.relu(conv(x, p["stem"]))
        x = jax.nn.relu(conv(x, p["conv"]))
        x = jax.nn.relu(conv(x, p["grouped"], 2))
        x = jax.nn.relu(conv(x, p["depthwise"], x.shape[-1])).mean((1, 2))
        x = x + jax.nn.sigmoid(x @ p["gate"]) * (x @ p["down"] @ p["up"])
        return x @ p["head"].T

    def network(d):
        sizes = {
            "stem": (3, 3, 3, d), "conv": (3, 3, d, d), "grouped": (3, 3, d // 2, d),
            "depthwise": (3, 3, 1, d), "gate": (d, 1), "down": (d, 2), "up": (2, d),
            "head": (5, d),
        }  # fmt: skip
        params = {name: struct(*shape) for name, shape in sizes.items()}
        return jinit.network(model, params, struct(2, 6, 6, 3))

    dims = mup.infer(network(8), network(16)).muon_dimension_numbers()
    assert dims == {
        "stem": None, "conv": Axes((0, 1, 2), (3,)), "grouped": None,
        "depthwise": None, "gate": None, "down": Axes((0,), (1,)),
        "up": Axes((0,), (1,)), "head": None,
    }  # fmt: skip
