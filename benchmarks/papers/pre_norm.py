"""Xiong et al. 2020: the last gradient falls as 1 / sqrt(L) in pre-norm transformers.

A pre-norm transformer computes x <- x + f(LN(x)), with one more norm at the end; a
post-norm one x <- LN(x + f(x)). The paper's Theorem 1 bounds the gradient to the last
kernel of the last layer by a multiple of 1 / sqrt(L) in pre-norm, since the stream that
the last norm divides by has grown as sqrt(L), and by a number without L in post-norm.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import jinit
from benchmarks.papers import _train
from benchmarks.papers._result import Result, panels
from examples._data import Images

HEADS = 4
PLACES = ("pre-norm", "post-norm")

Kernels = tuple[jax.Array, ...]  # q, k, v, o, up, down


class Params(NamedTuple):
    """The parameters are kernels; those of the L layers are stacked."""

    embedding: jax.Array  # (pixels of a row, width)
    positions: jax.Array  # (rows, width)
    layers: Kernels  # (L, inputs, outputs) each
    last: jax.Array  # (width, classes)


def run(quick: bool, images: Images) -> Result:
    """Measure the gradient of the last layer's last kernel, at every depth."""
    width, most, seeds = (64, 32, 2) if quick else (128, 64, 4)
    x = _train.training(images, 32).x
    side = math.isqrt(x.shape[1])
    rows = x.reshape(-1, side, side)  # the rows of an image are its tokens
    norms = {
        place: np.asarray(_norms(rows, place, width, most, seeds)) for place in PLACES
    }
    depths = [most // 2**n for n in (3, 2, 1, 0)]
    last = {place: values[np.array(depths) - 1] for place, values in norms.items()}
    slopes = {place: _slope(values) for place, values in norms.items()}
    pre, post = (slopes[place] for place in PLACES)
    return Result(
        "Xiong, Yang, He, Zheng, Zheng, Xing, Zhang, Lan, Wang and Liu 2020",
        "the gradient of the last layer falls as 1 / sqrt(L) in a pre-norm transformer "
        "and does not depend on L in a post-norm one",
        f"gradient of the last kernel at {', '.join(map(str, depths))} layers: "
        f"pre-norm {_listed(last['pre-norm'])}, as L^{pre:.2f}; post-norm "
        f"{_listed(last['post-norm'])}, as L^{post:.2f}",
        {"slope": slopes, "norm by depth": norms},
        {
            "pre-norm: the exponent is -1/2 within 0.1": abs(pre + 0.5) < 0.1,
            "post-norm: the exponent is 0 within 0.1": abs(post) < 0.1,
            "post-norm is the larger one at every depth": bool(
                (last["post-norm"] > last["pre-norm"]).all()
            ),
        },
        _figure(norms),
    )


def _slope(norms: np.ndarray) -> float:
    """Return the exponent of the depth from an eighth of the largest one on."""
    depths = np.arange(1, len(norms) + 1)
    deep = depths >= len(norms) // 8
    return float(np.polyfit(np.log(depths[deep]), np.log(norms[deep]), 1)[0])


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{value:.2g}" for value in values)


@functools.partial(jax.jit, static_argnames=("place", "width", "most", "seeds"))
def _norms(x: jax.Array, place: str, width: int, most: int, seeds: int) -> jax.Array:
    """Return the gradient norm of the last kernel at depths 1, 2, ...

    The first L layers of the deepest network are a network of depth L, whose last
    kernel gets its gradient from the stream before its layer alone.
    """

    def one(key: jax.Array) -> jax.Array:
        params = _draw(key, most, width, x.shape[1])
        h = x @ params.embedding + params.positions[None]

        def layer(h: jax.Array, kernels: Kernels) -> tuple[jax.Array, jax.Array]:
            squares = jax.vmap(lambda one: _square(one, kernels, params.last, place))
            return _layer(h, kernels, place), squares(h).mean()

        return jax.lax.scan(layer, h, params.layers)[1]

    squares = jax.vmap(one)(jax.random.split(jax.random.key(0), seeds))
    return jnp.sqrt(squares.mean(axis=0))


def _square(h: jax.Array, kernels: Kernels, head: jax.Array, place: str) -> jax.Array:
    """Return the squared norm of the gradient that one token's loss gives.

    The theorem is about the loss of one token. In a mean over tokens and examples the
    gradient would also grow as these become alike.
    """

    def loss(down: jax.Array) -> jax.Array:
        after = _layer(h[None], (*kernels[:-1], down), place)[0, 0]
        after = _normalized(after) if place == "pre-norm" else after
        return -jax.nn.log_softmax(after @ head)[0]

    return jnp.sum(jax.grad(loss)(kernels[-1]) ** 2)


def _draw(key: jax.Array, depth: int, width: int, rows: int) -> Params:
    """Draw the paper's kernels: Xavier's normal law in all layers."""
    keys = jax.random.split(key, 9)
    sizes = [(width, width)] * 4 + [(width, 4 * width), (4 * width, width)]
    kernels = jinit.stacked(jinit.xavier())
    return Params(
        embedding=jinit.lecun()(keys[0], (rows, width)),
        positions=jinit.normal(0.5)(keys[1], (rows, width)),
        layers=tuple(
            kernels(key, (depth, *size))
            for key, size in zip(keys[2:8], sizes, strict=True)
        ),
        last=jinit.lecun()(keys[8], (width, _train.CLASSES)),
    )


def _layer(h: jax.Array, kernels: Kernels, place: str) -> jax.Array:
    *attention, up, down = kernels
    for branch in (
        lambda z: _attention(z, *attention),
        lambda z: jax.nn.relu(z @ up) @ down,
    ):
        if place == "pre-norm":
            h = h + branch(_normalized(h))
        else:
            h = _normalized(h + branch(h))
    return h


def _attention(
    h: jax.Array, q: jax.Array, k: jax.Array, v: jax.Array, o: jax.Array
) -> jax.Array:
    heads = [(h @ w).reshape(*h.shape[:2], HEADS, -1) for w in (q, k, v)]
    return jax.nn.dot_product_attention(*heads).reshape(h.shape) @ o


def _normalized(h: jax.Array) -> jax.Array:
    h = h - h.mean(axis=-1, keepdims=True)
    return h * jax.lax.rsqrt(jnp.mean(h**2, axis=-1, keepdims=True) + 1e-6)


def _figure(norms: dict[str, np.ndarray]) -> Figure:
    figure, (axes,) = panels(
        ["gradient of the last layer's last kernel"], ["layers"], ["norm"], log=True
    )
    for place, values in norms.items():
        depths = np.arange(1, len(values) + 1)
        axes.plot(depths, values, label=place)
    deepest = norms["pre-norm"][-1]
    law = deepest * np.sqrt(len(depths) / depths)
    axes.plot(depths, law, color="gray", lw=0.8, label="1 / sqrt(L)")
    axes.set_xscale("log")
    axes.legend()
    return figure
