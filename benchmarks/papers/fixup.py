"""Zhang, Dauphin and Ma 2019: a step changes a Fixup network equally at any depth.

The residual networks x + W_2 relu(W_1 x) have no normalization. With He's kernels the
signal doubles in every block. With W_2 = 0 alone the signal stays, but L branches learn
at once, and the change grows as L. Fixup also scales W_1 by L^(-1/2).
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
from examples._mlp import Batch

DEPTHS = (10, 100, 1000)
SCHEMES = ("fixup", "zero last layer", "he")
RATE = 1e-3


class Params(NamedTuple):
    """The parameters are kernels; those of the L blocks are stacked."""

    first: jax.Array  # (inputs, width)
    up: jax.Array  # (L, width, width)
    down: jax.Array  # (L, width, width)
    last: jax.Array  # (width, classes)


def run(quick: bool, images: Images) -> Result:
    """Measure the change of the logits by one step, at three depths."""
    width, depths = (32, DEPTHS[:2]) if quick else (128, DEPTHS)
    batch = _train.training(images, 64)
    changes = {
        name: [_change(name, depth, width, batch) for depth in depths]
        for name in SCHEMES
    }
    fixup, zero, he = (np.array(changes[name]) for name in SCHEMES)
    spread = fixup.max() / fixup.min()
    growth = float(np.polyfit(np.log(depths), np.log(zero), 1)[0])
    explodes = bool(np.isinf(he[-1]) or he[-1] > 100 * he[0])
    return Result(
        "Zhang, Dauphin and Ma 2019",
        "a step of SGD changes a Fixup network equally at any depth; the change of "
        "He's network grows with depth",
        f"change of the logits over the rate, at {', '.join(map(str, depths))} blocks: "
        f"Fixup {_listed(fixup)}; W_2 = 0 without its scale {_listed(zero)} (as "
        f"L^{growth:.2f}); He {_listed(he)}",
        {"depths": depths, "change": changes, "spread": spread, "growth": growth},
        {
            "Fixup: largest over smallest below 3": bool(spread < 3),
            "without the scale the change grows about as L": 0.6 < growth < 1.4,
            "He's change grows": explodes,
        },
        _figure(depths, changes),
    )


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{value:.2g}" for value in values)


def _change(name: str, depth: int, width: int, batch: Batch) -> float:
    """Return the rms change of the logits by one step over the rate, or infinity."""
    params = _draw(name, batch.x.shape[1], width, depth)
    change = float(_after_a_step(params, batch)) / RATE
    return change if math.isfinite(change) else math.inf


@jax.jit
def _after_a_step(params: Params, batch: Batch) -> jax.Array:
    def loss(params: Params) -> tuple[jax.Array, jax.Array]:
        logits = _logits(params, batch.x)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.y)
        return losses.mean(), logits

    gradient, before = jax.grad(loss, has_aux=True)(params)
    params = optax.apply_updates(params, optax.tree.scale(-RATE, gradient))
    return jnp.sqrt(jnp.mean((_logits(params, batch.x) - before) ** 2))


def _draw(name: str, inputs: int, width: int, depth: int) -> Params:
    """Draw by a scheme; the readout is not 0, so that all blocks learn in step 1."""
    scale: Any = jinit.residual_scale("fixup", depth) if name == "fixup" else 1.0
    down = jinit.he() if name == "he" else jinit.zeros
    keys = jax.random.split(jax.random.key(0), 4)
    square = (depth, width, width)
    return Params(
        first=jinit.lecun()(keys[0], (inputs, width)),
        up=jinit.stacked(scale * jinit.he())(keys[1], square),
        down=jinit.stacked(down)(keys[2], square),
        last=jinit.lecun()(keys[3], (width, _train.CLASSES)),
    )


def _logits(params: Params, x: jax.Array) -> jax.Array:
    def block(h: jax.Array, kernels: Any) -> tuple[jax.Array, None]:
        up, down = kernels
        return h + jax.nn.relu(h @ up) @ down, None

    h, _ = jax.lax.scan(block, x @ params.first, (params.up, params.down))
    return h @ params.last


def _figure(depths: tuple[int, ...], changes: dict[str, list[float]]) -> Figure:
    figure, (axes,) = panels(
        ["change of the logits by one step, over the rate"], ["blocks"], ["rms"],
        log=True,
    )  # fmt: skip
    for name, values in changes.items():
        shown = [value if value < 1e30 else math.nan for value in values]
        axes.plot(depths, shown, "o-", label=name)
    axes.set_xscale("log")
    axes.legend()
    return figure
