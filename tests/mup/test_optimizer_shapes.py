"""`p.optimizer` around transformations that look at the shapes of parameters."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from jinit import mup
from tests.support.trees import struct

pytestmark = pytest.mark.usefixtures("quick_compilation")


def model(width):
    return {
        "bias": struct(width),
        "embedding": struct(50, width),
        "hidden": struct(width, width),
        "output": struct(width, 4),
        "scalar": struct(),
    }


BASE, WIDE = model(8), model(32)
MUP = mup.infer(BASE, WIDE)
RATES = {
    kind: {t.path: t.rate(kind) for t in MUP.tensors}
    for kind in ("adam", "sgd", "muon")
}


def factors(tx, p=MUP, shapes=WIDE, kind=None):
    """Return the ratio of each update to that of `tx`, for equal gradients."""
    ones = jax.tree.map(lambda w: jnp.full(w.shape, 1e-3), shapes)
    ours = p.optimizer(tx, kind)

    @jax.jit
    def first(w):
        plain, _ = tx.update(w, tx.init(w), w)
        made, _ = ours.update(w, ours.init(w), w)
        return jax.tree.map(lambda a, b: a.ravel()[0] / b.ravel()[0], made, plain)

    return jax.tree.map(float, first(ones))


def by(condition, chosen, other=None):
    """Return an optimizer that updates leaves that meet a condition by `chosen`."""
    return optax.multi_transform(
        {True: chosen, False: other or optax.sgd(0.1)},
        lambda tree: jax.tree.map(lambda w: bool(condition(w)), tree),
    )


def decayed(condition):
    return optax.adamw(
        0.1, weight_decay=0.1, mask=lambda tree: jax.tree.map(condition, tree)
    )


def is_large(w):
    return w.size >= 128


# The second item of each case names the tensors that are updated as under SGD.
BY_SHAPE = {
    "size": (by(is_large, optax.adam(0.1)), {"bias", "scalar"}),
    # Only the embedding and the hidden kernel have more than 1000 entries.
    "size, of few": (by(lambda w: w.size > 1000, optax.adam(0.1)),
                     {"bias", "scalar", "output"}),
    "vocabulary": (by(lambda w: 50 in w.shape, optax.adam(0.1)),
                   {"bias", "hidden", "output", "scalar"}),
    "axes": (by(lambda w: w.ndim > 1, optax.adam(0.1)), {"bias", "scalar"}),
    "size, clipped": (
        optax.chain(optax.clip_by_global_norm(1.0), by(is_large, optax.adam(0.1))),
        {"bias", "scalar"}),
    "two of a kind": (by(is_large, optax.adam(0.1), optax.lion(0.3)), set()),
    "mask": (optax.chain(optax.masked(
        optax.scale_by_adam(), lambda t: jax.tree.map(is_large, t)), optax.scale(-0.1)),
        {"bias", "scalar"}),
    "decay by axes": (decayed(lambda w: w.ndim > 1), set()),
    # Factored at the target, and not at the base.
    "adafactor": (optax.adafactor(
        0.1, min_dim_size_to_factor=16, multiply_by_parameter_scale=False), set()),
    "adagrad by size": (by(is_large, optax.adagrad(0.1)), {"bias", "scalar"}),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_SHAPE)
def test_branches_are_those_of_the_parameters(name):
    tx, as_sgd = BY_SHAPE[name]
    wanted = {n: RATES["sgd" if n in as_sgd else "adam"][n] for n in WIDE}
    found = factors(tx)
    if "decay" in name:
        # What decays is independent of the factor.
        found, wanted = ({n: d[n] for n in ("bias", "scalar")} for d in (found, wanted))
    assert found == pytest.approx(wanted, rel=1e-4)


REFUSED = {
    "muon by size": (by(lambda w: w.size > 1000, contrib.muon(0.1)),
                     r"hidden: its update depends on its shape.*\(8, 8\).*\(32, 32\)"),
    "nuclear norm": (contrib.muon(0.1, adaptive=True),
                     r"3 of 5 tensors.*hidden: .*adaptive=True"),
    "adaptive clipping": (
        optax.chain(optax.adaptive_grad_clip(0.01), optax.sgd(0.1)),
        "5 of 5 tensors.*bias: with twice the gradient"),
    "centered": (optax.chain(optax.centralize(), optax.sgd(0.1)),
                 "3 of 5 tensors.*hidden: its update is 0.*centered"),
    "noise": (optax.chain(optax.add_noise(0.1, 0.5, key=0), optax.sgd(0.1)),
              "5 of 5 tensors.*bias: it draws random numbers"),
    "ranks": (optax.chain(optax.stateless(
        lambda g, _: jax.tree.map(lambda u: jnp.cumsum(u).reshape(u.shape), g))),
        "bias: it uses the operation 'cumsum'"),
}  # fmt: skip


# The kinds that settle it: "muon" is for the tensors that Muon takes.
SETTLED = {
    "muon by size": [("hidden", "muon"), ("embedding", "muon")],
    "nuclear norm": [(name, "muon") for name in ("hidden", "embedding", "output")],
}


@pytest.mark.parametrize("name", REFUSED)
def test_where_a_trial_is_unsure_it_names_the_tensors(name):
    tx, text = REFUSED[name]
    with pytest.raises(ValueError, match=f"(?s){text}.*pass kind='adam'"):
        MUP.optimizer(tx).init(WIDE)
    # A kind settles it, for some tensors or for all.
    kinds = SETTLED.get(name, [("**", "sgd")])
    jax.eval_shape(MUP.optimizer(tx, kinds[0][1]).init, WIDE)
    jax.eval_shape(MUP.optimizer(tx, kinds).init, WIDE)


def test_a_kind_that_the_trial_contradicts_is_an_error_that_says_both():
    """One word is for the optimizer, which may be Adam for vectors; a pair is not."""
    tx = contrib.muon(0.1)
    jax.eval_shape(MUP.optimizer(tx, "muon").init, WIDE)
    with pytest.raises(ValueError, match="(?s)2 of 5 .*bias: .*'muon', .*shows 'adam'"):
        MUP.optimizer(tx, [("**", "muon")])
    with pytest.raises(ValueError, match="hidden: .*'sgd', and the trial shows 'muon'"):
        MUP.optimizer(tx, [("hidden", "sgd")])
    text = "(?s)5 of 5 .*says 'muon', .*shows 'adam'.*kinds are 'adam', 'sgd', 'muon'"
    with pytest.raises(ValueError, match=text):
        MUP.optimizer(optax.adam(0.1), "muon")


def test_kinds_by_pattern():
    tx = by(lambda w: w.size > 1000, contrib.muon(0.1))
    found = factors(tx, kind=[("hidden", "muon"), ("embedding", "adam")])
    wanted = {n: RATES["sgd"][n] for n in WIDE}
    wanted |= {"hidden": RATES["muon"]["hidden"], "embedding": 1.0}
    assert found == pytest.approx(wanted, rel=1e-4)
    with pytest.raises(ValueError, match="`kind` is 'muun'.*Did you mean 'muon'"):
        MUP.optimizer(tx, [("**", "muun")])
    with pytest.raises(TypeError, match="`kind` is 3"):
        MUP.optimizer(tx, 3)
    with pytest.raises(ValueError, match="hiden"):
        MUP.optimizer(tx, [("hiden", "muon")]).init(WIDE)


def test_a_large_model_is_tried_without_its_arrays():
    """The shapes have a trillion parameters, and no machine could hold their arrays."""

    def layers(width):
        return {str(i): {"up": struct(width, 4 * width), "bias": struct(4 * width)}
                for i in range(8)}  # fmt: skip

    p = mup.infer(layers(256), layers(2**17))
    for tx in (optax.adamw(0.1), optax.adafactor(0.1), contrib.muon(0.1)):
        jax.eval_shape(p.optimizer(tx).init, layers(2**17))


MUON = {
    "plain": {},
    "momentum": {"nesterov": False, "weight_decay": 0.1},
    "consistent_rms": {"consistent_rms": 0.2},
    "adaptive": {"adaptive": True},
    "schatten": {"preconditioning": "schatten"},
    "spectral": {"preconditioning": "spectral"},
    "coefficients": {"ns_coeffs": ((3.4, -4.8, 2.0), (2.3, -3.0, 1.2))},
}
KERNELS = {
    "query": (lambda d: (d, d // 4, 4), contrib.MuonDimensionNumbers((0,), (1, 2))),
    "out": (lambda d: (d // 4, 4, d), contrib.MuonDimensionNumbers((0, 1), (2,))),
    "up": (lambda d: (d, 4 * d), contrib.MuonDimensionNumbers()),
    "down": (lambda d: (4 * d, d), contrib.MuonDimensionNumbers()),
    "embedding": (lambda d: (20, d), contrib.MuonDimensionNumbers()),
    "stack": (lambda d: (3, d, 2 * d), contrib.MuonDimensionNumbers((1,), (2,))),
    "bias": (lambda d: (d,), None),
}  # fmt: skip


def kernels(width, names):
    return {name: {"kernel": struct(*KERNELS[name][0](width))} for name in names}


def matrix(name, u):
    """Return an update as a matrix (inputs, outputs); of a stack the first one."""
    u = u[0] if name == "stack" else u
    if name == "bias":
        return u
    return u.reshape(len(u), -1) if name == "query" else u.reshape(-1, u.shape[-1])


def of_rank_one(shape, random):
    """Return an array with one singular value, which makes Newton-Schulz exact."""
    signs = [random.choice([-1.0, 1.0], size=n) for n in shape]
    return jnp.asarray(functools.reduce(np.multiply.outer, signs), "float32")


def norms(name, width, base=8):
    """Return the spectral norm of each update, divided by sqrt(n_out / n_in)."""
    # Few kernels, because each is compiled.
    all_of_them = name in ("plain", "consistent_rms")
    names = list(KERNELS) if all_of_them else ["bias", "stack", "up"]
    dims = {n: {"kernel": KERNELS[n][1]} for n in names}
    tx = contrib.muon(
        0.1, ns_steps=2, **MUON[name],
        # Optax takes the numbers as a tree, or as a function.
        muon_weight_dimension_numbers=dims if name != "momentum" else lambda _: dims,
    )  # fmt: skip
    shapes = kernels(width, names)
    p = mup.infer(kernels(base, names), shapes)
    random, kind, size = np.random.default_rng(0), None, 1.0
    if name == "adaptive":
        # This update grows with the gradient, and a wider model has a smaller one.
        kind, size = [("bias/*", "adam"), ("**", "sgd")], base / width
    gradient = jax.tree.map(lambda w: size * of_rank_one(w.shape, random), shapes)
    ours, still = p.optimizer(tx, kind), jax.tree.map(jnp.zeros_like, gradient)
    made, _ = jax.jit(ours.update)(gradient, jax.jit(ours.init)(still), still)
    matrices = {n: matrix(n, np.asarray(made[n]["kernel"])) for n in names}
    flat = {n: np.linalg.norm(m, 2) / np.sqrt(m.shape[-1] / len(m))
            for n, m in matrices.items() if n != "bias"}  # fmt: skip
    return flat | {"bias": abs(matrices["bias"]).max()}


# One that is compiled, and the options that change the norm itself.
QUICK_MUON = ("plain", "consistent_rms", "adaptive")


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK_MUON else pytest.param(n, marks=pytest.mark.slow) for n in MUON],
)
def test_the_norm_of_muon_is_flat_in_width(name):
    if set(MUON[name]) - set(inspect.signature(contrib.muon).parameters):
        pytest.skip("this release of Optax has no such option")
    assert norms(name, 32) == pytest.approx(norms(name, 8), rel=1e-3)


def test_muon_in_a_spectral_parametrization():
    """All updates have the same ratio of spectral norm to sqrt(n_out / n_in)."""
    shapes = {"up": struct(8, 32), "down": struct(32, 8), "square": struct(16, 16)}
    gradient = {n: of_rank_one(w.shape, np.random.default_rng(0))
                for n, w in shapes.items()}  # fmt: skip
    ours = mup.spectral(shapes).optimizer(contrib.muon(0.1, ns_steps=2))
    made, _ = jax.jit(ours.update)(gradient, jax.jit(ours.init)(gradient), gradient)
    ratios = [float(jnp.linalg.norm(u, 2) * (len(u) / u.shape[1]) ** 0.5)
              for u in made.values()]  # fmt: skip
    assert ratios == pytest.approx([ratios[0]] * 3, rel=1e-3)
    with pytest.raises(ValueError, match="no learning rate of the kind 'muon'"):
        p = mup.unit_scaling({n: struct(4, 4) for n in shapes}, shapes)
        p.optimizer(contrib.muon(0.1)).init(shapes)
