"""Operations that may stand between two layers, by what is odd about them."""

import jax
import jax.numpy as jnp
from jax import lax


def _mean(x):
    return x.mean(-1, keepdims=True)


def _norm(x):
    return jnp.linalg.norm(x, axis=-1, keepdims=True)


def _pairs(x):
    return (x[..., :, None] - x[..., None, :]).reshape(*x.shape[:-1], -1)


def _kept(x):
    """Keep the two largest entries, and weigh them."""
    weights, places = lax.top_k(jax.nn.softmax(x), 2)
    return jnp.einsum("bk,bkd->bd", weights, jax.nn.one_hot(places, x.shape[-1])) * x


NORMS = {
    "rsqrt": lambda x: x * lax.rsqrt(_mean(x * x) + 1e-6),
    "sqrt": lambda x: x / jnp.sqrt(_mean(x**2) + 1e-6),
    "power": lambda x: x * (_mean(jnp.square(x)) + 1e-6) ** -0.5,
    "norm": lambda x: x / _norm(x),
    "std": lambda x: (x - _mean(x)) / (x.std(-1, keepdims=True) + 1e-6),
    "difference of moments": lambda x: (
        (x - _mean(x)) * lax.rsqrt(_mean(x * x) - _mean(x) ** 2 + 1e-6)
    ),
    "logarithm": lambda x: x * jnp.exp(-0.5 * jnp.log(_mean(x * x))),
    "small scale": lambda x: 0.01 * x / _norm(x),
    "log_softmax": jax.nn.log_softmax,
}
OPERATIONS = {
    **NORMS,
    "abs": jnp.abs,
    "fourth power": lambda x: x**4,
    "clip": lambda x: jnp.clip(x, -0.5, 0.3),
    "softplus": jax.nn.softplus,
    "root of size": lambda x: jnp.sqrt(jnp.abs(x)),
    "log1p": lambda x: jnp.log1p(x * x),
    "logsumexp": lambda x: x - jax.nn.logsumexp(x, -1, keepdims=True),
    "sum of exp": lambda x: x / jnp.sum(jnp.exp(x), -1, keepdims=True),
    "softmax": lambda x: jax.nn.softmax(x),
    "entropy": lambda x: (
        x * jnp.sum(jax.nn.softmax(x) * jax.nn.log_softmax(x), -1, keepdims=True)
    ),
    "geometric mean": lambda x: x * jnp.exp(_mean(jnp.log(jnp.abs(x)))),
    "sum of sizes": lambda x: x / jnp.abs(x).sum(-1, keepdims=True),
    "batch norm": lambda x: (x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5),
    "group norm": lambda x: jax.vmap(NORMS["std"], 1, 1)(x.reshape(len(x), 4, -1)),
    "max": lambda x: x - x.max(-1, keepdims=True),
    "min": lambda x: x + x.min(0),
    "maxout": lambda x: x.reshape(len(x), -1, 4).max(-1),
    "products": lambda x: jnp.prod(x.reshape(len(x), -1, 2), -1),
    "median": lambda x: x - jnp.median(x, -1, keepdims=True),
    "sort": lambda x: jnp.sort(x)[:, -8:],
    "top_k": lambda x: lax.top_k(x, 8)[0],
    "top_k routes": _kept,
    "argmax": lambda x: x * jax.nn.one_hot(x.argmax(-1), x.shape[-1]),
    "gather": lambda x: jnp.take_along_axis(x, jnp.argsort(x * x), -1)[:, ::2],
    "scatter": lambda x: jnp.zeros_like(x).at[:, ::2].set(x[:, 1::2]),
    "fft": lambda x: jnp.fft.fft(x).real,
    "size of complex": lambda x: jnp.abs(x[:, ::2] + 1j * x[:, 1::2]),
    "phase": lambda x: (x * jnp.exp(1j * x)).imag,
    "concatenated relu": lambda x: jnp.sqrt(jax.nn.relu(jnp.concatenate([x, -x], -1))),
    "glu": jax.nn.glu,
    "pairs": _pairs,
    "neighbors": lambda x: x[:, 1:] * x[:, :-1],
    "roll": lambda x: x + jnp.roll(x, 1, -1),
    "twice": lambda x: (x + jax.nn.gelu(x)) * x,
    "like tokens": lambda x: jax.nn.softmax(x @ x.T / 8) @ x,
    "fori_loop": lambda x: lax.fori_loop(0, 3, lambda i, x: jnp.tanh(x) + i, x),
    "while_loop": lambda x: lax.while_loop(
        lambda x: jnp.abs(x).max() > 1, lambda x: 0.9 * x, x
    ),
    "associative scan": lambda x: lax.associative_scan(
        lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1]), (jax.nn.sigmoid(x), x), axis=-1
    )[1],
    "missing values": lambda x: jnp.nan_to_num(jnp.log(x + 3)),
}  # fmt: skip
