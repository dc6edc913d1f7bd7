"""Glorot and Bengio 2010: normalized kernels keep the gradient through tanh layers.

The standard kernels of their time, U(+-1 / sqrt(n)), have variance 1 / (3 n). The
variance of the back-propagated gradient falls by a factor of 3 in each layer, while the
variance of the gradient to the kernels is the same in all layers. The normalized
kernels keep both variances.
"""

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

SCHEMES = {
    "standard": jinit.scaled_uniform(),
    "normalized": jinit.xavier(distribution="uniform"),
}
DEPTH = 5


def run(quick: bool, images: Images) -> Result:
    """Measure gradients, and the Jacobians of single layers, at the start."""
    width = 400 if quick else 1000
    batch = _train.training(images, 300)
    # Pixels from 0 to 1: larger inputs saturate tanh, which the paper's law leaves out.
    low, high = batch.x.min(), batch.x.max()
    batch = batch._replace(x=(batch.x - low) / (high - low))
    measured = {name: _measured(init, batch, width) for name, init in SCHEMES.items()}
    standard, normalized = measured["standard"], measured["normalized"]
    return Result(
        "Glorot and Bengio 2010",
        "standard kernels lose a factor 3 of the gradient's variance a layer, "
        "normalized ones keep it; mean singular values of a layer's Jacobian 0.5, 0.8",
        f"variance of the gradient a layer: x 1/{1 / standard['factor']:.2f} and "
        f"x {normalized['factor']:.2f}; singular values "
        f"{standard['singular']:.3f} and {normalized['singular']:.3f}; gradient of the "
        f"last over that of the first hidden kernel, in rms: {standard['level']:.2f} "
        f"and {normalized['level']:.2f}",
        measured,
        {
            "standard kernels lose 3 a layer": abs(1 / standard["factor"] - 3) < 0.5,
            "normalized kernels keep it": 0.75 < normalized["factor"] < 1.1,
            "standard: singular values 0.5": abs(standard["singular"] - 0.5) < 0.05,
            "normalized: singular values 0.8": abs(normalized["singular"] - 0.8) < 0.05,
            "standard kernels' gradients are level": 0.5 < standard["level"] < 2,
        },
        _figure(measured),
    )


def _measured(init: _mlp.Init, batch: _mlp.Batch, width: int) -> dict[str, Any]:
    """Measure one network's gradients and Jacobians, by layer from the first."""
    params = _train.draw(init, 1, batch.x.shape[1], width, DEPTH)
    back = np.asarray(_train.signals(params, batch, jnp.tanh).gradient_rms[0]) ** 2
    (kernels,) = np.asarray(_kernel_gradients(params, batch))
    values = np.asarray(_singular_values(jax.tree.map(lambda a: a[0], params), batch.x))
    return {
        "back": back,
        "kernels": kernels,
        "singular": float(values.mean()),
        # The layers in between are equal, and so are their factors.
        "factor": float((back[0] / back[-1]) ** (1 / (DEPTH - 1))),
        "level": float(kernels[-1] / kernels[0]),
    }


@jax.jit
def _kernel_gradients(params: _mlp.Params, batch: _mlp.Batch) -> jax.Array:
    """Return the rms of the gradient to each hidden kernel: (networks, layers)."""
    gradient = jax.vmap(jax.grad(_train.mlp_loss(jnp.tanh)), (0, None))(params, batch)
    return jnp.sqrt(jnp.mean(gradient.hidden**2, axis=(2, 3)))


@jax.jit
def _singular_values(params: _mlp.Params, x: jax.Array) -> jax.Array:
    """Return the mean singular value of d z_l / d z_(l-1) at one input: (layers,)."""
    _, activations = _mlp.forward(params, x[:1], jnp.tanh)
    slopes = 1 - activations[:-1, 0] ** 2  # the derivative of tanh
    jacobians = slopes[:, :, None] * params.hidden
    # The singular values of a square matrix sum to its nuclear norm.
    return jnp.linalg.norm(jacobians, ord="nuc", axis=(1, 2)) / slopes.shape[1]


def _figure(measured: dict[str, dict[str, Any]]) -> Figure:
    figure, axes = panels(
        ["back-propagated gradient", "gradient to the kernels"],
        ["layer", "layer"], ["variance", "rms"], log=True,
    )  # fmt: skip
    for name, values in measured.items():
        axes[0].plot(np.arange(1, DEPTH + 1), values["back"], "o-", label=name)
        axes[1].plot(np.arange(2, DEPTH + 1), values["kernels"], "o-", label=name)
    axes[0].legend()
    return figure
