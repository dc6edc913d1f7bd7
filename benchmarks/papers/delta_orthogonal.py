"""Xiao et al. 2018: a plain tanh CNN trains at any depth from delta-orthogonal kernels.

The 256 convolutions have circular padding, no normalization and no skips, and start on
the edge of chaos. Kernels by He and by Xavier are for comparison, and Gaussian kernels
on the same edge, which keep the signal but not the singular values.
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
from jinit import theory

CHANNELS = 16
WINDOW = (3, 3)
GUESS = math.log(_train.CLASSES)
# The paper's bias is so small that q, and with it the curvature of tanh, is small.
EDGE = theory.critical("tanh", sigma_b2=2e-5)
_GAIN, _BIAS = math.sqrt(EDGE.sigma_w2), jinit.normal(math.sqrt(EDGE.sigma_b2))
SCHEMES = {
    "delta-orthogonal": (jinit.delta_orthogonal(_GAIN), _BIAS),
    "gaussian, same edge": (jinit.lecun(gain=_GAIN), _BIAS),
    "he": (jinit.he(), jinit.zeros),
    "xavier": (jinit.xavier(), jinit.zeros),
}


class Params(NamedTuple):
    """The hidden kernels are stacked, so that one loop runs over all layers."""

    first: jax.Array  # (*WINDOW, 1, CHANNELS)
    hidden: jax.Array  # (depth - 1, *WINDOW, CHANNELS, CHANNELS)
    biases: jax.Array  # (depth, CHANNELS)
    last: jax.Array  # (pixels * CHANNELS, classes)


def run(quick: bool, images: Images) -> Result:
    """Train from all four kinds of kernels, and compare the losses."""
    depth, steps, size, rate = (128, 30, 8, 0.02) if quick else (256, 200, 32, 0.01)
    names = [n for n in SCHEMES if not quick or "edge" not in n]
    x, y = _pictures(images, 2000)
    curves = {}
    for name in names:
        params = _draw(*SCHEMES[name], depth=depth, pixels=x.shape[1] ** 2)
        _, losses = _train.fit(
            _loss, jax.tree.map(lambda a: a[None], params), (x, y), jax.random.key(1),
            optimizer=_train.momentum(rate), steps=steps, size=size,
        )  # fmt: skip
        curves[name] = np.asarray(losses[0])
    ends = {name: float(_train.last(curves[name][None])[0]) for name in names}
    bound = 1.9 if quick else 0.7
    listed = ", ".join(f"{name} {value:.2f}" for name, value in ends.items())
    return Result(
        "Xiao, Bahri, Sohl-Dickstein, Schoenholz and Pennington 2018",
        f"a tanh CNN of {depth} layers without normalization or skips trains from "
        "delta-orthogonal kernels on the edge of chaos; from He's and Xavier's kernels "
        "it does not",
        f"loss after {steps} steps: {listed} (ln 10 = {GUESS:.2f})",
        {"depth": depth, "loss": ends, "losses": curves},
        {
            "delta-orthogonal kernels train": ends["delta-orthogonal"] < bound,
            "He's kernels do not train": ends["he"] > GUESS - 0.3,
            "Xavier's kernels do not train": ends["xavier"] > GUESS - 0.3,
        },
        _figure(curves),
    )


def _pictures(images: Images, most: int) -> tuple[jax.Array, jax.Array]:
    """Return square images with one channel, at half size if above 14 x 14."""
    x = images.train_x[:most]
    side = math.isqrt(x.shape[1])
    x = x.reshape(-1, side, side, 1)
    if side > 14:
        x = x.reshape(-1, side // 2, 2, side // 2, 2, 1).mean(axis=(2, 4))
    return jnp.asarray(x), jnp.asarray(images.train_y[:most])


def _draw(kernel: Any, bias: Any, depth: int, pixels: int) -> Params:
    first, hidden, biases, last = jax.random.split(jax.random.key(0), 4)
    square = (depth - 1, *WINDOW, CHANNELS, CHANNELS)
    return Params(
        first=kernel(first, (*WINDOW, 1, CHANNELS)),
        hidden=jax.jit(jinit.stacked(kernel), static_argnums=1)(hidden, square),
        biases=bias(biases, (depth, CHANNELS)),
        last=jinit.lecun()(last, (pixels * CHANNELS, _train.CLASSES)),
    )


def _convolution(h: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Convolve with circular padding, as one product of patches."""
    # On a CPU this is 8 times as fast as XLA's convolution.
    side = h.shape[1]
    h = jnp.pad(h, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="wrap")
    taps = [h[:, i : i + side, j : j + side] for i in range(3) for j in range(3)]
    patches = jnp.concatenate(taps, axis=-1)
    return patches @ kernel.reshape(-1, CHANNELS) + bias[None, None, None]


def _loss(params: Params, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    x, y = batch
    h = jnp.tanh(_convolution(x, params.first, params.biases[0]))

    def layer(h: jax.Array, parts: Any) -> tuple[jax.Array, None]:
        return jnp.tanh(_convolution(h, *parts)), None

    h, _ = jax.lax.scan(layer, h, (params.hidden, params.biases[1:]))
    logits = h.reshape(len(h), -1) @ params.last
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def _figure(curves: dict[str, np.ndarray]) -> Figure:
    figure, (axes,) = panels(["loss"], ["step"], ["cross-entropy"])
    for name, losses in curves.items():
        axes.plot(losses, label=name)
    axes.axhline(GUESS, color="gray", lw=0.8, label="guessing")
    axes.set_ylim(0, 3)
    axes.legend()
    return figure
