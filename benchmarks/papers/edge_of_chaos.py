"""Schoenholz et al. 2017: networks train to a depth of about 6 xi_c.

xi_c is the depth over which the correlation of two inputs comes nearer to its fixed
point by a factor e; on the edge of chaos it is infinite. As in the paper's map, the
networks use tanh and sigma_b2 = 0.05, and are trained by 200 steps of plain SGD.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from scipy import stats

import jinit
from benchmarks.papers import _train
from benchmarks.papers._result import Result, panels
from examples import _mlp
from examples._data import Images
from jinit import theory

SIGMA_B2 = 0.05
DEPTHS = (10, 15, 20, 30, 40, 60, 80, 160)
TRAINED = 0.5  # the share of images classified right; guessing gives a tenth


def run(quick: bool, images: Images) -> Result:
    """Map the training accuracy over sigma_w2 and depth, and compare with 6 xi_c."""
    depths = (15, 40) if quick else DEPTHS
    sigma_w2 = np.array([1, 1.3, 1.76, 4]) if quick else np.linspace(1, 4, 13)
    accuracy = np.array([_at(depth, sigma_w2, quick, images) for depth in depths])
    scales = [theory.depth_scales("tanh", float(s), SIGMA_B2).xi_c for s in sigma_w2]
    predicted = 6 * np.array(scales)
    deepest = np.array([_deepest(column, depths) for column in accuracy.T])
    correlation = float(stats.spearmanr(deepest, predicted).statistic)
    best = sigma_w2[deepest == deepest.max()]
    edge = theory.critical("tanh", sigma_b2=SIGMA_B2).sigma_w2
    inside = accuracy[np.array(depths)[:, None] > 1.5 * predicted[None]]
    return Result(
        "Schoenholz, Gilmer, Ganguli and Sohl-Dickstein 2017",
        "tanh networks train to a depth of about 6 xi_c, deepest on the edge of chaos",
        f"rank correlation of the deepest trainable depth with 6 xi_c: "
        f"{correlation:.2f}; deepest, {deepest.max()} layers, at sigma_w2 = "
        f"{best.min():.3g} to {best.max():.3g} (edge: {edge:.3g}); beyond 9 xi_c "
        f"{int((inside > TRAINED).sum())} of {inside.size} train",
        {
            "sigma_w2": sigma_w2, "depths": depths, "accuracy": accuracy,
            "6 xi_c": predicted, "deepest": deepest, "correlation": correlation,
        },
        {
            "ranks agree": correlation > 0.7,
            "deepest at the edge": float(abs(best - edge).min()) <= 0.25,
            "nothing trains beyond 9 xi_c": bool((inside <= TRAINED).all()),
        },
        _figure(sigma_w2, depths, accuracy, predicted),
    )  # fmt: skip


def _at(depth: int, sigma_w2: np.ndarray, quick: bool, images: Images) -> np.ndarray:
    """Train with every sigma_w2 at once; return the training accuracy of each."""
    train, width = _train.training(images, 2000), 80 if quick else 128
    draw = functools.partial(_draw, inputs=train.x.shape[1], width=width, depth=depth)
    params = jax.jit(jax.vmap(draw, (None, 0)))(
        jax.random.key(0), jnp.asarray(sigma_w2, jnp.float32)
    )
    params, _ = _train.fit(
        _train.mlp_loss(jnp.tanh), params, train, jax.random.key(1),
        optimizer=_sgd(0.01), steps=100 if quick else 200, size=32,
    )  # fmt: skip
    batch = _train.training(images, 500)
    return np.asarray(_train.accuracies(params, batch, jnp.tanh))


@functools.lru_cache
def _sgd(rate: float) -> optax.GradientTransformation:
    return optax.sgd(rate)


def _draw(
    key: jax.Array, sigma_w2: jax.Array, inputs: int, width: int, depth: int
) -> _mlp.Params:
    """Draw kernels from N(0, sigma_w2 / fan_in) and biases from N(0, sigma_b2)."""
    kernel_key, bias_key = jax.random.split(key)
    params = _mlp.init(jinit.lecun(), kernel_key, inputs, width, depth, _train.CLASSES)
    scale = jnp.sqrt(sigma_w2)  # an initializer takes no traced setting
    return params._replace(
        first=scale * params.first,
        hidden=scale * params.hidden,
        biases=jinit.normal(SIGMA_B2**0.5)(bias_key, (depth, width)),
    )


def _deepest(column: np.ndarray, depths: tuple[int, ...]) -> int:
    """Return the largest depth that trains, or 0 if none does."""
    return max(
        (d for d, a in zip(depths, column, strict=True) if a > TRAINED), default=0
    )


def _figure(
    sigma_w2: np.ndarray, depths: tuple[int, ...], accuracy: Any, predicted: np.ndarray
) -> Figure:
    figure, (axes,) = panels(["training accuracy, and 6 xi_c"], ["sigma_w2"], ["depth"])
    mesh = axes.pcolormesh(
        sigma_w2, depths, accuracy, shading="nearest", vmin=0, vmax=1
    )
    figure.colorbar(mesh, ax=axes)
    axes.plot(sigma_w2, predicted, "w--", label="6 xi_c")
    axes.set(yscale="log", ylim=(depths[0], depths[-1]))
    axes.legend()
    return figure
