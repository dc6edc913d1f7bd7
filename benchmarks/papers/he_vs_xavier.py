"""He et al. 2015: thirty relu layers train from He's kernels, and stall from Xavier's.

Xavier's variance counts each layer as linear. A relu halves the mean square of its
input, so that after thirty layers 2^-15 of the signal is left. At eight layers both
schemes train.
"""

import math
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

import jinit
from benchmarks.papers import _train
from benchmarks.papers._result import Result, panels
from examples._data import Images

SCHEMES = {"he": jinit.he(), "xavier": jinit.xavier()}
SHALLOW, DEEP = 8, 30
GUESS = math.log(_train.CLASSES)


def run(quick: bool, images: Images) -> Result:
    """Train both schemes at both depths, and measure how much of the signal is left."""
    depths = (DEEP,) if quick else (SHALLOW, DEEP)
    results = {depth: _at(depth, quick, images) for depth in depths}
    deep, shallow = results[DEEP], results.get(SHALLOW)
    bound = 1.0 if quick else 0.5
    checks = {
        "He trains the deep network": deep["he"]["loss"] < bound,
        "Xavier stalls at guessing": abs(deep["xavier"]["loss"] - GUESS) < 0.02,
        # Chance at a finite width moves the signal, by less than a factor of 4.
        "Xavier loses 2^-15 of the signal": abs(deep["xavier"]["left"] + 15) < 2
        and abs(deep["he"]["left"]) < 2,
    }
    beside = ""
    if shallow is not None:
        losses = [shallow[name]["loss"] for name in SCHEMES]
        checks["both train the shallow network"] = max(losses) < bound
        beside = f"; at {SHALLOW}: {losses[0]:.2f}, {losses[1]:.2f}"
    return Result(
        "He, Zhang, Ren and Sun 2015",
        f"{DEEP} relu layers converge from He's kernels and stall from Xavier's",
        f"loss at {DEEP} layers: He {deep['he']['loss']:.2f}, Xavier "
        f"{deep['xavier']['loss']:.3f} (ln 10 = {GUESS:.3f}){beside}; signal left: "
        f"2^{deep['he']['left']:.1f}, 2^{deep['xavier']['left']:.1f}",
        {f"{depth} layers": value for depth, value in results.items()},
        checks,
        _figure(results),
    )


def _at(depth: int, quick: bool, images: Images) -> dict[str, Any]:
    """Return losses and signals at one depth; one program trains all networks."""
    width, seeds, steps = (64, 1, 150) if quick else (128, 3, 600)
    train = _train.training(images)
    params = _train.stack([
        _train.draw(init, seeds, train.x.shape[1], width, depth)
        for init in SCHEMES.values()
    ])  # fmt: skip
    signals = _train.signals(params, _train.training(images, 256), jax.nn.relu)
    _, losses = _train.fit(
        _train.mlp_loss(jax.nn.relu), params, train, jax.random.key(1),
        optimizer=_train.momentum(0.02), steps=steps, size=64,
    )  # fmt: skip
    rms = np.asarray(signals.activation_rms)
    return {
        name: {
            "loss": float(np.median(_train.last(losses)[rows])),
            "left": float(np.median(np.log2(rms[rows, -1]))),
            "losses": np.median(np.asarray(losses)[rows], axis=0),
            "rms": np.median(rms[rows], axis=0),
        }
        for name, rows in _rows(seeds).items()
    }


def _rows(seeds: int) -> dict[str, slice]:
    """Return the places of each scheme's networks in the stack."""
    return {name: slice(i * seeds, (i + 1) * seeds) for i, name in enumerate(SCHEMES)}


def _figure(results: dict[int, dict[str, Any]]) -> Figure:
    figure, axes = panels(
        ["rms of the activations at the start", "loss"],
        ["layer", "step"], ["rms", "cross-entropy"],
    )  # fmt: skip
    axes[0].set_yscale("log", base=2)
    for depth, schemes in results.items():
        for name, values in schemes.items():
            style = {"ls": "-" if depth == DEEP else ":", "label": f"{name}, {depth}"}
            style["color"] = "tab:blue" if name == "he" else "tab:orange"
            axes[0].plot(np.arange(1, depth + 1), values["rms"], **style)
            axes[1].plot(values["losses"], **style)
    axes[1].axhline(GUESS, color="gray", lw=0.8, label="guessing")
    axes[1].legend()
    return figure
