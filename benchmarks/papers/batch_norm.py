"""Yang et al. 2019: batch normalization makes gradients explode, whatever the kernels.

Relu layers compute h <- relu(BN(h W)), and each one multiplies the squared gradient by
pi / (pi - 1) on its way back. With z ~ N(0, 1) behind a batch norm, and s^2 = n Var(W):
relu'(z)^2 has mean 1/2; the kernel multiplies by s^2; the batch norm divides by the
variance over the batch, s^2 Var(relu(z)) = s^2 (1/2 - 1 / (2 pi)). The scale s cancels,
and (1/2) / (1/2 - 1 / (2 pi)) = pi / (pi - 1) is left.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import jinit
from benchmarks.papers._result import Result, panels
from examples._data import Images

LAW = math.pi / (math.pi - 1)
# The gains of kernels behind batch norms: He's law, and a std three times as large.
GAINS = {"batch norm": 1.0, "batch norm, kernels x 3": 3.0}
PLAIN = "no norm"
# Near both ends the layers differ: the input is not the output of a relu, and the
# gradient of the last layer has not passed a batch norm.
ENDS = 5


def run(quick: bool, images: Images) -> Result:
    """Measure the gradient to the pre-activations of every layer."""
    del images
    width, batch, depth = (256, 128, 20) if quick else (1024, 512, 30)
    squares = {
        name: _squares(gain, width, batch, depth) for name, gain in GAINS.items()
    }
    squares[PLAIN] = _squares(1.0, width, batch, depth, norm=False)
    factors = {name: _factor(values) for name, values in squares.items()}
    ours, tripled = (factors[name] for name in GAINS)
    bound = _bound(width, batch, depth)
    return Result(
        "Yang, Pennington, Rao, Sohl-Dickstein and Schoenholz 2019",
        "batch normalization multiplies the squared gradient by pi / (pi - 1) = "
        f"{LAW:.3f} in each relu layer, whatever the std of the kernels is",
        f"x {ours:.3f} a layer with He's kernels, x {tripled:.3f} with kernels three "
        f"times as large, x {factors[PLAIN]:.3f} without norms (width {width}, batch "
        f"{batch}); over {depth} layers x {ours**depth:.2g}",
        {"law": LAW, "factor": factors, "bound": bound, "squares": squares},
        {
            f"batch norm: within {bound:.3f} of the law": abs(ours - LAW) < bound,
            "the std of the kernels does not matter": abs(tripled / ours - 1) < 1e-3,
            "without norms He's kernels keep it": abs(factors[PLAIN] - 1) < bound,
        },
        _figure(squares),
    )


def _bound(width: int, batch: int, depth: int) -> float:
    """Return four standard errors of a layer's factor, and its bias.

    All rows of a batch share a layer's kernel. If all were alike, the squared gradient
    would have a relative error of sqrt(2 / width), the most that it can have; of the
    layers between, only the errors of the first and the last one remain. A batch of B
    examples loses two of its B directions to the mean and the scale.
    """
    error = math.sqrt(2 * 2 / width) / (depth - 2 * ENDS)
    return LAW * (4 * error + 2 / batch)


def _factor(squares: np.ndarray) -> float:
    inner = squares[ENDS:-ENDS]
    return float((inner[0] / inner[-1]) ** (1 / (len(inner) - 1)))


@functools.partial(jax.jit, static_argnums=(1, 2, 3), static_argnames="norm")
def _gradients(
    gain: float, width: int, batch: int, depth: int, norm: bool
) -> jax.Array:
    kernel_key, input_key, output_key = jax.random.split(jax.random.key(0), 3)
    kernels = gain * jinit.stacked(jinit.he())(kernel_key, (depth, width, width))
    x = jax.random.normal(input_key, (batch, width))
    direction = jax.random.normal(output_key, (batch, width))

    def output(taps: jax.Array) -> jax.Array:
        def layer(h: jax.Array, parts: Any) -> tuple[jax.Array, None]:
            kernel, tap = parts
            z = h @ kernel
            return jax.nn.relu((_normalized(z) if norm else z) + tap), None

        h, _ = jax.lax.scan(layer, x, (kernels, taps))
        return jnp.sum(h * direction)

    return jax.grad(output)(jnp.zeros((depth, batch, width)))


def _squares(
    gain: float, width: int, batch: int, depth: int, norm: bool = True
) -> np.ndarray:
    """Return the mean squared gradient to the pre-activations, by layer."""
    gradients = _gradients(gain, width, batch, depth, norm=norm)
    return np.asarray(jnp.mean(gradients**2, axis=(1, 2)), np.float64)


def _normalized(z: jax.Array) -> jax.Array:
    """Return each unit's values with mean 0 and variance 1 over the batch."""
    z = z - z.mean(axis=0, keepdims=True)
    return z * jax.lax.rsqrt(jnp.mean(z**2, axis=0, keepdims=True))


def _figure(squares: dict[str, np.ndarray]) -> Figure:
    figure, (axes,) = panels(
        ["squared gradient, over that of the last layer"], ["layer"], ["ratio"],
        log=True,
    )  # fmt: skip
    for name, values in squares.items():
        layers = np.arange(1, len(values) + 1)
        axes.plot(layers, values / values[-1], "o-", ms=3, label=name)
    axes.plot(layers, LAW ** (len(layers) - layers), color="gray", lw=0.8, label="law")
    axes.legend()
    return figure
