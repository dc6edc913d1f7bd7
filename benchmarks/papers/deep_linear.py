"""Saxe et al. 2013: deep linear networks learn from orthogonal kernels at any depth.

The product of L kernels is trained towards a linear map, at the best rate of a grid for
each depth, as in the paper. The best rate falls about as 1 / L. From orthogonal kernels
the number of steps has a limit as the depth grows. Gaussian kernels of the same norm
need more and more steps, since the singular values of their product spread
exponentially.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import jinit
from benchmarks.papers import _train
from benchmarks.papers._result import Result, panels
from examples._data import Images

INITS = {"orthogonal": jinit.orthogonal(), "gaussian": jinit.lecun()}
# The rates are these numbers over the depth.
RATES = np.geomspace(0.02, 1.5, 10)
# A network has learned when a thousandth of its first loss is left.
LEARNED = 1e-3


def run(quick: bool, images: Images) -> Result:
    """Count the steps to a low loss at the best rate, at several depths."""
    depths, steps = ((8, 32), 100) if quick else ((8, 16, 32, 64), 400)
    target = _target(images)
    times = {
        name: np.array([_time(init, target, depth, steps) for depth in depths])
        for name, init in INITS.items()
    }
    orthogonal, gaussian = (times[name] for name in INITS)
    spread = float(orthogonal.max() / orthogonal.min())
    growth = float(gaussian[-1] / gaussian[0])
    return Result(
        "Saxe, McClelland and Ganguli 2013",
        "deep linear networks learn in a time that does not depend on their depth from "
        "orthogonal kernels, and in one that grows with it from Gaussian kernels",
        f"steps at the best rate, at {', '.join(map(str, depths))} layers: orthogonal "
        f"{_listed(orthogonal)}; Gaussian {_listed(gaussian)} ({steps} steps at most)",
        {"depths": depths, "steps": times, "spread": spread, "growth": growth},
        {
            "orthogonal: largest over smallest below 1.5": spread < 1.5,
            "Gaussian: last over first above 2": growth > 2,
            "Gaussian is the slower one at the largest depth": bool(
                gaussian[-1] > 2 * orthogonal[-1]
            ),
        },
        _figure(depths, times),
    )


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{v:.0f}" if np.isfinite(v) else "never" for v in values)


def _target(images: Images) -> jax.Array:
    """Return the least-squares map from whitened pixels to the classes, of norm 1.

    With whitened inputs, as in the paper, the squared loss is the distance of the
    network's map from this one, up to a constant.
    """
    batch = _train.training(images)
    x = np.asarray(batch.x, np.float64)
    x = x - x.mean(axis=0)
    left, singular, _ = np.linalg.svd(x, full_matrices=False)
    left = left[:, singular > 1e-6 * singular[0]]
    labels = np.eye(_train.CLASSES)[np.asarray(batch.y)]
    target = np.zeros((x.shape[1], _train.CLASSES))
    target[: left.shape[1]] = left.T @ (labels - labels.mean(axis=0))
    return jnp.asarray(target / np.linalg.norm(target, ord=2), jnp.float32)


def _time(init: jinit.Initializer, target: jax.Array, depth: int, steps: int) -> float:
    """Return the steps until the loss is low, at the best rate; infinity for never."""
    width = target.shape[0]
    kernels = jinit.stacked(init)(jax.random.key(depth), (depth, width, width))
    rates = jnp.asarray(RATES / depth, jnp.float32)
    losses = np.asarray(_losses(kernels, target, rates, steps))
    is_low = losses < LEARNED * losses[:, :1]
    first = np.where(is_low.any(axis=1), is_low.argmax(axis=1), np.inf)
    return float(first.min())


@functools.partial(jax.jit, static_argnames="steps")
def _losses(
    kernels: jax.Array, target: jax.Array, rates: jax.Array, steps: int
) -> jax.Array:
    """Return the losses by step of gradient descent at each rate: (rates, steps)."""

    def loss(kernels: jax.Array) -> jax.Array:
        # The first columns of the product are the classes; the others have no loss.
        output = jnp.eye(target.shape[0], target.shape[1])
        output, _ = jax.lax.scan(lambda h, w: (w @ h, None), output, kernels[::-1])
        return jnp.sum((output - target) ** 2) / 2

    def one(rate: jax.Array) -> jax.Array:
        def step(kernels: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
            value, gradient = jax.value_and_grad(loss)(kernels)
            return kernels - rate * gradient, value

        return jax.lax.scan(step, kernels, None, length=steps)[1]

    return jax.vmap(one)(rates)


def _figure(depths: tuple[int, ...], times: dict[str, np.ndarray]) -> Figure:
    figure, (axes,) = panels(
        ["steps until a thousandth of the loss is left"],
        ["layers"],
        ["steps"],
        log=True,
    )
    for name, values in times.items():
        axes.plot(depths, values, "o-", label=name)
    axes.set_xscale("log")
    axes.legend()
    return figure
