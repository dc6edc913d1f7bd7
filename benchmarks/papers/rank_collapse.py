"""Dong et al. 2021: attention without shortcuts loses rank doubly exponentially.

With r(X) the distance of the tokens from their mean over the norm of X, one layer of
pure attention gives r(SA(X)) <= C r(X)^3. Softmax ignores what all logits of a row have
in common. The part that differs between rows is R W R^T, quadratic in the distances R,
and multiplies values that differ by R. So the logarithm of r triples in each layer, and
r falls as C^((3^L - 1) / 2) r^(3^L). Shortcuts keep the rank.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

import jinit
from benchmarks.papers._result import Result, panels
from examples._data import Images

HEADS = 4
TOKENS = 32
# The law of a single layer is measured at these distances from rank one.
DISTANCES = (1e-1, 10**-1.5, 1e-2, 10**-2.5, 1e-3)
# float64 cannot hold a smaller distance beside a mean of 1.
FLOOR = 1e-13


class Kernels(NamedTuple):
    """The kernels of one layer are square; a head takes a part of their columns."""

    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    out: np.ndarray


def run(quick: bool, images: Images) -> Result:
    """Follow the distance from rank one by depth, and through single layers."""
    del images
    width, seeds = (64, 3) if quick else (256, 8)
    draws = [_drawn(seed, width) for seed in range(seeds)]
    curves = {
        name: np.array([_curve(*draw, shortcut) for draw in draws])
        for name, shortcut in (("attention alone", False), ("with shortcuts", True))
    }
    powers = np.array([_power(x, layers[0]) for x, layers in draws])
    alone, kept = (np.median(values, axis=0) for values in curves.values())
    power = float(np.median(powers))
    ratios = _ratios(alone)
    return Result(
        "Dong, Cordonnier and Loukas 2021",
        "without shortcuts attention nears rank one doubly exponentially, by the "
        "third power in each layer; with shortcuts it does not",
        f"distance from rank one after 0, 1, ... layers: {_listed(alone)}; with "
        f"shortcuts {kept[-1]:.2f} after {len(kept) - 1}; a layer raises a small "
        f"distance to the power {power:.3f}",
        {"power": powers, "ratio of logarithms": ratios, "distance": curves},
        {
            "one layer: the power is 3 within 0.05": bool(
                (abs(powers - 3) < 0.05).all()
            ),
            "by depth: each drop is the largest so far": bool(
                (np.diff(ratios) > 0).all()
            ),
            "at most six layers to rank one in float64": bool(alone[6] < FLOOR),
            "with shortcuts a tenth of the distance stays": bool(
                kept[-1] > 0.1 * kept[0]
            ),
        },
        _figure(curves),
    )


def _ratios(distances: np.ndarray) -> np.ndarray:
    """Return each layer's factor; a plain exponential decay would have equal ones."""
    held = distances[distances > FLOOR]
    return -np.diff(np.log10(held))


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{v:.1e}" if v > FLOOR else "0" for v in values[:7])


def _drawn(seed: int, width: int) -> tuple[np.ndarray, list[Kernels]]:
    """Draw tokens of unit variance, and twelve layers of Xavier's kernels."""
    input_key, key = jax.random.split(jax.random.key(seed))
    kernels = jinit.stacked(jinit.xavier())(key, (12, 4, width, width))
    layers = np.asarray(kernels, np.float64)
    x = np.asarray(jax.random.normal(input_key, (TOKENS, width)), np.float64)
    return x, [Kernels(*layer) for layer in layers]


def _attention(x: np.ndarray, kernels: Kernels) -> np.ndarray:
    """Return self-attention of several heads, joined by the output's kernel."""

    def heads(kernel: np.ndarray) -> np.ndarray:
        return (x @ kernel).reshape(TOKENS, HEADS, -1).swapaxes(0, 1)

    queries, keys, values = map(heads, kernels[:3])
    logits = queries @ keys.swapaxes(1, 2) / np.sqrt(queries.shape[-1])
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return (weights @ values).swapaxes(0, 1).reshape(x.shape) @ kernels.out


def _distance(x: np.ndarray) -> float:
    """Return the distance of the tokens from their mean, over their norm."""
    return float(np.linalg.norm(x - x.mean(axis=0)) / np.linalg.norm(x))


def _curve(x: np.ndarray, layers: list[Kernels], shortcut: bool) -> list[float]:
    distances = [_distance(x)]
    for kernels in layers:
        after = _attention(x, kernels)
        x = x + after if shortcut else after
        # The theorem does not fix the scale of X, so every layer reads tokens of rms 1.
        x = x / np.sqrt(np.mean(x**2))
        distances.append(_distance(x))
    return distances


def _power(x: np.ndarray, kernels: Kernels) -> float:
    """Return the slope of log r(SA(X)) over log r(X) at small distances."""
    common = np.broadcast_to(x[:1], x.shape)
    apart = x[::-1] - x.mean(axis=0)
    inputs = [common + r * apart for r in DISTANCES]
    before = np.log([_distance(one) for one in inputs])
    after = np.log([_distance(_attention(one, kernels)) for one in inputs])
    return float(np.polyfit(before[1:], after[1:], 1)[0])


def _figure(curves: dict[str, Any]) -> Figure:
    figure, (axes,) = panels(
        ["distance of the tokens from rank one"], ["layer"], ["relative distance"],
        log=True,
    )  # fmt: skip
    for name, values in curves.items():
        axes.plot(np.maximum(np.median(values, axis=0), 1e-16), "o-", label=name)
    axes.legend()
    return figure
