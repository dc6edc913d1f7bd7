"""Balduzzi et al. 2017: mirrored kernels make a deep relu network linear at the start.

The gradients of the network are those of a linear one, so that it trains. In a network
with He's kernels of the same depth they have become noise, and it does not train.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import jinit
from benchmarks.papers import _train
from benchmarks.papers._result import Result, panels
from examples import _mlp
from examples._data import Images

GUESS = math.log(_train.CLASSES)


def run(quick: bool, images: Images) -> Result:
    """Compare the network with a linear map, then train it and He's network."""
    depth, width, steps = (60, 32, 100) if quick else (200, 128, 300)
    train = _train.training(images)
    inputs = train.x.shape[1]
    linear = jax.jit(lambda key: _looks_linear(key, inputs, width, depth))(
        jax.random.key(0)
    )
    he = _train.draw(jinit.he(), 1, inputs, width, depth)
    errors = {
        "looks linear": _nonlinearity(linear, train.x[:64]),
        "he": _nonlinearity(jax.tree.map(lambda a: a[0], he), train.x[:64]),
    }
    stacked = _train.stack([jax.tree.map(lambda a: a[None], linear), he])
    _, losses = _train.fit(
        _train.mlp_loss(jax.nn.relu), stacked, train, jax.random.key(1),
        optimizer=_train.momentum(0.01), steps=steps, size=64,
    )  # fmt: skip
    ends = dict(zip(errors, map(float, _train.last(losses)), strict=True))
    return Result(
        "Balduzzi, Frean, Leary, Lewis, Ma and McWilliams 2017",
        f"a relu network of {depth} layers with looks-linear kernels is linear at the "
        "start and trains; He's of the same depth does not",
        f"distance from a linear map: {errors['looks linear']:.1e}, He's "
        f"{errors['he']:.2f}; loss after {steps} steps: {ends['looks linear']:.2f}, "
        f"He's {ends['he']:.2f} (ln 10 = {GUESS:.2f})",
        {"depth": depth, "nonlinearity": errors, "loss": ends, "losses": losses},
        {
            "the network is linear": errors["looks linear"] < 1e-4,
            "He's network is not linear": errors["he"] > 0.1,
            "the network trains": ends["looks linear"] < 0.5,
            "He's network does not train": ends["he"] > GUESS - 0.3,
        },
        _figure(np.asarray(losses), list(errors)),
    )


def _looks_linear(key: jax.Array, inputs: int, width: int, depth: int) -> _mlp.Params:
    """Draw kernels with mirrored outputs (first), inputs (last) or both (hidden)."""
    first, hidden, last = jax.random.split(key, 3)
    return _mlp.Params(
        first=jinit.looks_linear(part="first")(first, (inputs, width)),
        hidden=jinit.stacked(jinit.looks_linear())(hidden, (depth - 1, width, width)),
        last=jinit.looks_linear(part="last")(last, (width, _train.CLASSES)),
        biases=jnp.zeros((depth, width)),
    )


@jax.jit
def _outputs(params: _mlp.Params, x: jax.Array) -> jax.Array:
    return _mlp.forward(params, x, jax.nn.relu)[0]


def _nonlinearity(params: _mlp.Params, x: jax.Array) -> float:
    """Return how far the outputs are from a linear map that agrees on a basis."""
    kernel = _outputs(params, jnp.eye(x.shape[1]))
    outputs = _outputs(params, x)
    return float(jnp.linalg.norm(outputs - x @ kernel) / jnp.linalg.norm(outputs))


def _figure(losses: Any, names: list[str]) -> Figure:
    figure, (axes,) = panels(["loss"], ["step"], ["cross-entropy"])
    for name, values in zip(names, losses, strict=True):
        axes.plot(values, label=name)
    axes.axhline(GUESS, color="gray", lw=0.8, label="guessing")
    axes.set_ylim(0, 3)
    axes.legend()
    return figure
