"""Mishkin and Matas 2016: layer by layer, LSUV brings every output's std to 1.

The network has fifty silu layers. With the forward gain a mean square of 1 is a fixed
point, but an unstable one: chance moves the signal away from it, and the signal drifts
elsewhere with each seed. LSUV measures every layer on a batch, and passes no error on.
"""

from typing import Any

import flax.linen as nn
import jax
import numpy as np
from matplotlib.figure import Figure

import jinit
from benchmarks.papers import _train
from benchmarks.papers._result import Result, panels
from examples._data import Images


class Deep(nn.Module):
    """The network has dense layers with silu between them."""

    width: int
    depth: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(self.width, kernel_init=jinit.lecun())(
            x
        )  # its inputs are data: gain 1
        for _ in range(self.depth - 1):
            x = nn.Dense(self.width, kernel_init=jinit.kaiming("silu"))(nn.silu(x))
        return x


def run(quick: bool, images: Images) -> Result:
    """Measure the std of every layer's output, by the gain alone and after LSUV."""
    width, depth, seeds = (32, 50, 2) if quick else (256, 50, 4)
    x = _train.training(images, 128).x
    model = Deep(width, depth)
    gains, scaled = [], []
    for key in jax.random.split(jax.random.key(0), seeds):
        variables = jinit.materialize(model.init)(key, x)
        gains.append(_stds(model, variables, x))
        variables, _ = jinit.lsuv(model, variables, x)
        scaled.append(_stds(model, variables, x))
    gain, ours = np.array(gains), np.array(scaled)
    drift = float(np.ptp(np.log10(gain[:, -1])))
    farthest = float(abs(np.log10(gain)).max())
    off = float(abs(ours - 1).max())
    return Result(
        "Mishkin and Matas 2016",
        f"LSUV keeps the std of {depth} silu layers at 1, where the forward gain alone "
        "drifts over orders of magnitude",
        f"gain alone: std of the last of {depth} layers "
        f"{', '.join(f'{v:.1e}' for v in gain[:, -1])} in {seeds} seeds; LSUV: at most "
        f"{off:.3f} off 1 in any layer",
        {"gain": gain, "lsuv": ours, "drift in decades": drift},
        {
            "LSUV: within 0.1 of 1 in all layers": off < 0.1,
            "the gain alone drifts by a factor 100 or more": farthest > 2,
        },
        _figure(gain, ours),
    )


def _stds(model: Deep, variables: Any, x: jax.Array) -> np.ndarray:
    """Return the std of each layer's output over the batch and the units, in order."""

    def dense(module: nn.Module, method: str) -> bool:
        del method
        return isinstance(module, nn.Dense)

    _, state = model.apply(variables, x, capture_intermediates=dense)
    intermediates: Any = state["intermediates"]
    outputs = [intermediates[f"Dense_{i}"]["__call__"][0] for i in range(model.depth)]
    # A signal that has drifted far has squares outside the range of float32.
    return np.array([np.asarray(output, np.float64).std() for output in outputs])


def _figure(gain: np.ndarray, ours: np.ndarray) -> Figure:
    figure, (axes,) = panels(
        ["std of each layer's output, by seed"], ["layer"], ["std"], log=True
    )
    for values, color, label in (
        (gain, "tab:orange", "forward gain"),
        (ours, "tab:blue", "LSUV"),
    ):
        lines = axes.plot(np.arange(1, values.shape[1] + 1), values.T, color=color)
        lines[0].set_label(label)
    axes.legend()
    return figure
