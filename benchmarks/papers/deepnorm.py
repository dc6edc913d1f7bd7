"""Wang et al. 2022: a step changes a DeepNorm transformer equally at any depth.

A post-LN transformer computes x <- LN(alpha x + f(x)). Its kernels are Xavier's, with
gain beta except in queries and keys. The original transformer has alpha = beta = 1,
and the change by a step grows with its depth.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import jinit
from benchmarks.papers import _train
from benchmarks.papers._result import Result, panels
from examples._data import Images

HEADS = 4
SCHEMES = ("deepnorm", "post-LN")
# At so small a rate the change is proportional to it, however steep the loss.
RATE = 1e-5


class Params(NamedTuple):
    """The parameters are kernels; those of the layers are stacked."""

    embedding: jax.Array  # (pixels of a row, width)
    positions: jax.Array  # (rows, width)
    layers: tuple[jax.Array, ...]  # q, k, v, o, up, down: (L, inputs, outputs)
    last: jax.Array  # (width, classes)


def run(quick: bool, images: Images) -> Result:
    """Measure the change of the logits by one step, at several depths."""
    width, depths = (32, (6, 24)) if quick else (64, (6, 24, 96))
    batch = _train.training(images, 32)
    side = math.isqrt(batch.x.shape[1])
    rows = batch.x.reshape(-1, side, side)  # the rows of an image are its tokens
    changes = {
        name: [_change(name, depth, width, rows, batch.y) for depth in depths]
        for name in SCHEMES
    }
    ours, plain = (np.array(changes[name]) for name in SCHEMES)
    spread = float(ours.max() / ours.min())
    growth = float(plain[-1] / plain[0])
    return Result(
        "Wang, Ma, Dong, Huang, Zhang and Wei 2022",
        "a step of SGD changes a DeepNorm transformer by a bounded amount at any "
        "depth; the change of a post-LN one grows with depth",
        f"change of the logits over the rate, at {', '.join(map(str, depths))} layers: "
        f"DeepNorm {_listed(ours)}; post-LN {_listed(plain)}",
        {"depths": depths, "change": changes, "spread": spread, "growth": growth},
        {
            "DeepNorm: largest over smallest below 2": spread < 2,
            "post-LN: last over first above 2": growth > 2,
            "DeepNorm changes less at every depth": bool((ours < plain).all()),
        },
        _figure(depths, changes),
    )


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def _change(name: str, depth: int, width: int, x: jax.Array, y: jax.Array) -> float:
    """Return the rms change of the logits by a step over the rate, a mean of seeds."""
    alpha, beta = 1.0, 1.0
    if name == "deepnorm":
        scales = jinit.residual_scale("deepnorm", depth)
        assert isinstance(scales, tuple)
        alpha, beta = scales.alpha, scales.beta
    changes = [
        _after_a_step(_draw(key, beta, depth, width, x.shape[1]), x, y, alpha)
        for key in jax.random.split(jax.random.key(0), 3)
    ]
    return float(np.mean(changes)) / RATE


@jax.jit
def _after_a_step(params: Params, x: jax.Array, y: jax.Array, alpha: float) -> Any:
    def loss(params: Params) -> tuple[jax.Array, jax.Array]:
        logits = _logits(params, x, alpha)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return losses.mean(), logits

    gradient, before = jax.grad(loss, has_aux=True)(params)
    after = optax.apply_updates(params, optax.tree.scale(-RATE, gradient))
    return jnp.sqrt(jnp.mean((_logits(after, x, alpha) - before) ** 2))


def _draw(key: jax.Array, beta: float, depth: int, width: int, rows: int) -> Params:
    keys = jax.random.split(key, 9)
    sizes = [(width, width)] * 4 + [(width, 4 * width), (4 * width, width)]
    gains = [1.0, 1.0, *[beta] * 4]  # queries and keys keep a gain of 1
    return Params(
        embedding=jinit.lecun()(keys[0], (rows, width)),
        positions=jinit.normal(0.5)(keys[1], (rows, width)),
        layers=tuple(
            jinit.stacked(jinit.xavier(gain=gain))(key, (depth, *size))
            for gain, key, size in zip(gains, keys[2:8], sizes, strict=True)
        ),
        last=jinit.lecun()(keys[8], (width, _train.CLASSES)),
    )


def _logits(params: Params, x: jax.Array, alpha: jax.Array | float) -> jax.Array:
    def layer(h: jax.Array, kernels: Any) -> tuple[jax.Array, None]:
        *attention, up, down = kernels
        h = _normalized(alpha * h + _attention(h, *attention))
        return _normalized(alpha * h + jax.nn.relu(h @ up) @ down), None

    h = _normalized(x @ params.embedding + params.positions[None])
    h, _ = jax.lax.scan(layer, h, params.layers)
    return h.mean(axis=1) @ params.last


def _attention(
    h: jax.Array, q: jax.Array, k: jax.Array, v: jax.Array, o: jax.Array
) -> jax.Array:
    heads = [(h @ w).reshape(*h.shape[:2], HEADS, -1) for w in (q, k, v)]
    return jax.nn.dot_product_attention(*heads).reshape(h.shape) @ o


def _normalized(h: jax.Array) -> jax.Array:
    h = h - h.mean(axis=-1, keepdims=True)
    return h * jax.lax.rsqrt(jnp.mean(h**2, axis=-1, keepdims=True) + 1e-6)


def _figure(depths: tuple[int, ...], changes: dict[str, list[float]]) -> Figure:
    figure, (axes,) = panels(
        ["change of the logits by one step, over the rate"], ["layers"], ["rms"],
        log=True,
    )  # fmt: skip
    for name, values in changes.items():
        axes.plot(depths, values, "o-", label=name)
    axes.set_xscale("log")
    axes.legend()
    return figure
