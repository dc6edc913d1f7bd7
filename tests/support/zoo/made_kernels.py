"""Kernels that are functions of parameters: standardized, masked, quantized, drawn.

In plain JAX. Whatever is done to a kernel entry by entry, or by its own statistics, the
product still contracts the same axis.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests.support.zoo.truth import dense, floats, known

X = floats(7, 6)
PARAMS = {"first": dense(6, 8), "second": dense(8, 9), "last": dense(9, 3)}
TABLE = """
first   io  6  8  input
second  io  8  9
last    io  9  3  readout
"""


def network(make):
    """Return a perceptron whose middle kernel is made by a function."""

    def forward(params, x, *others):
        x = jax.nn.relu(x @ params["first"])
        x = jax.nn.relu(x @ make(params, params["second"], *others))
        return x @ params["last"]

    return forward


def standardized(params, w):
    """Qiao et al. 2019: each output's weights have mean 0 and variance 1 / fan_in."""
    mean, variance = jnp.mean(w, axis=0, keepdims=True), jnp.var(w, axis=0)
    scale = jax.lax.rsqrt(jnp.maximum(variance * w.shape[0], 1e-4)) * params["gain"]
    return (w - mean) * scale[None]


def fake_quantized(params, w):
    """Round in the pass forward, and not in the pass back."""
    scale = jnp.max(jnp.abs(w)) / 127
    return w + jax.lax.stop_gradient(
        jnp.clip(jnp.round(w / scale), -128, 127) * scale - w
    )


def ternary(params, w):
    """Ma et al. 2024: -1, 0 or 1, times the mean of absolute values."""
    scale = 1 / jnp.clip(jnp.mean(jnp.abs(w)), min=1e-5)
    rounded = jnp.clip(jnp.round(w * scale), -1, 1) / scale
    return w + jax.lax.stop_gradient(rounded - w)


def masked(params, w):
    """Germain et al. 2015: constants set some weights to 0."""
    return w * np.tril(np.ones((8, 9), np.float32))


def positive(params, w):
    return jax.nn.softplus(w)


def dropped(params, w, key):
    """Wan et al. 2013: weights are dropped by draws."""
    return jnp.where(jax.random.bernoulli(key, 0.9, w.shape), w / 0.9, 0.0)


def drawn(params, w, noise):
    """Blundell et al. 2015: a Gaussian for each weight, with noise as an input."""
    return w + jnp.log1p(jnp.exp(params["rho"])) * noise


def kronecker(params, w):
    return w + jnp.kron(params["left"], params["right"])


def toeplitz(params, w):
    """Entries depend on the difference of their places; constants look them up."""
    places = np.arange(8)[:, None] - np.arange(9)[None, :] + 8
    return w * 0.5 + params["diagonals"][places]


def quantized(params, x):
    """A product of 8-bit integers, as it is served."""

    def rounded(a, axis):
        scale = jnp.max(jnp.abs(a), axis=axis, keepdims=True) / 127
        return jnp.round(a / scale).astype(jnp.int8), scale

    for name in ("first", "second", "last"):
        (x8, x_scale), (w8, w_scale) = rounded(x, 1), rounded(params[name], 0)
        y = jax.lax.dot(x8, w8, preferred_element_type=jnp.int32)
        x = jax.nn.relu(y.astype(jnp.float32) * x_scale * w_scale)
    return x


def masked_stack(params, x, masks):
    """Papamakarios et al. 2017: the kernels of a scan are masked before the scan."""
    kernels = jnp.where(masks, params["stack"], 0)
    x = x @ params["first"]
    x, _ = jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, kernels)
    return x @ params["last"]


def of(make, *others, table="", **more):
    return functools.partial(
        known, network(make), {**PARAMS, **more}, X, *others, table=TABLE + table,
        depth=0,
    )  # fmt: skip


def transposed(params, x):
    """An autoencoder whose decoder is the transposed encoder."""
    h = jnp.tanh(x @ params["w"] + params["b"])
    return h @ params["w"].T + params["c"]


def energy(params, x):
    """The force of an energy: a gradient inside of the model."""

    def total(x):
        return jnp.sum(jnp.tanh(x @ params["w"]) @ params["v"])

    return -jax.grad(total)(x)


def factorization(params, x):
    """Rendle 2010: pairs of features meet by their vectors."""
    pairs = jnp.einsum("bi,ik,bj,jk->b", x, params["v"], x, params["v"])
    return pairs / 2 + x @ params["w"]


KEY = jax.eval_shape(lambda: jax.random.key(0))
MODELS = {
    "weight standardization": of(
        standardized, table="gain none . . scale|other", gain=dense(9)
    ),
    "fake quantization": of(fake_quantized),
    "ternary kernels": of(ternary),
    "masked kernels": of(masked),
    "masked kernels, scanned": functools.partial(
        known, masked_stack,
        {"first": dense(6, 8), "stack": dense(4, 8, 8), "last": dense(8, 3)},
        X, jax.ShapeDtypeStruct((4, 8, 8), bool), depth=0,
        table="""
first   io   6  8  input
stack   bio  8  8
last    io   8  3  readout
""",
    ),
    "positive kernels": of(positive),
    "drop connect": of(dropped, KEY),
    "Bayesian kernels": of(
        drawn, floats(8, 9), table="rho . . . other?", rho=dense(8, 9)
    ),
    "Kronecker products": of(
        kronecker, table="left . . . other?\nright . . . other?",
        left=dense(4, 3), right=dense(2, 3),
    ),
    "Toeplitz kernels": of(
        toeplitz, table="diagonals . . . other?", diagonals=dense(17)
    ),
    "8-bit products": functools.partial(
        known, quantized, PARAMS, X, table=TABLE, depth=0
    ),
    # One kernel is the first and the last: it has no layout that is right for both.
    "transposed decoder": functools.partial(
        known, transposed, {"w": dense(6, 4), "b": dense(4), "c": dense(6)}, X,
        table="w . . . input readout\n{b,c} none . . bias", depth=0,
    ),
    "gradient of an energy": functools.partial(
        known, energy, {"w": dense(6, 8), "v": dense(8)}, X,
        table="w . . . input readout?\nv . . . readout? input? bias? other? scale?",
        depth=0,
    ),
    "factorization machine": functools.partial(
        known, factorization, {"v": dense(6, 4), "w": dense(6)}, X,
        table="v io 6 4 input readout\nw i 6 1 input readout", depth=None,
    ),
}  # fmt: skip
