"""Sitzmann et al. 2020: a network of sines fits an image that a relu network blurs.

Both networks map coordinates in [-1, 1]^2 to gray values. Their kernels have the same
shapes, and Adam trains each network at the best of a few rates.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from sklearn import datasets

import jinit
from benchmarks.papers import _train
from benchmarks.papers._result import Result, panels
from examples._data import Images

W0 = 30.0
RATES = (3e-4, 1e-3, 3e-3)


class Params(NamedTuple):
    """The hidden kernels are stacked; the last layer is linear."""

    first: jax.Array  # (2, width)
    hidden: jax.Array  # (layers, width, width)
    last: jax.Array  # (width, 1)
    biases: jax.Array  # (layers + 1, width)


def run(quick: bool, images: Images) -> Result:
    """Fit the image by both networks, and compare peak signal-to-noise ratios."""
    del images
    size, width, steps = (24, 48, 150) if quick else (64, 128, 400)
    picture = photograph(size)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    data = jnp.asarray(grid), jnp.asarray(picture.reshape(-1, 1))
    results = {
        "siren": _best(_sines(width), _sine, data, steps, quick),
        "relu": _best(_relus(width), jax.nn.relu, data, steps, quick),
    }
    psnr = {name: values["psnr"] for name, values in results.items()}
    gap = psnr["siren"] - psnr["relu"]
    return Result(
        "Sitzmann, Martel, Bergman, Lindell and Wetzstein 2020",
        "a network of sines with its own initialization fits an image far better "
        "than a relu network of the same size",
        f"PSNR after {steps} steps, {size} x {size} pixels: SIREN {psnr['siren']:.1f} "
        f"dB, relu {psnr['relu']:.1f} dB",
        {
            name: {k: v for k, v in r.items() if k != "image"}
            for name, r in results.items()
        },
        {"SIREN is ahead by 5 dB": gap > 5, "SIREN reaches 25 dB": psnr["siren"] > 25},
        _figure(picture, results),
    )


def photograph(size: int) -> np.ndarray:
    """Return a square of scikit-learn's photograph of a temple, reduced, in [-1, 1]."""
    gray = datasets.load_sample_image("china.jpg").mean(axis=2)[:, 100:500]
    side = min(gray.shape) // size
    square = gray[: side * size, : side * size].reshape(size, side, size, side)
    gray = square.mean(axis=(1, 3))
    gray = 2 * (gray - gray.min()) / (gray.max() - gray.min()) - 1
    return gray.astype(np.float32)


def _sine(x: jax.Array) -> jax.Array:
    return jnp.sin(W0 * x)


def _sines(width: int) -> Params:
    """Draw SIREN's kernels, and PyTorch's default biases, which its authors kept."""
    return _draw(jinit.siren(W0, first=True), jinit.siren(W0), width)


def _relus(width: int) -> Params:
    return _draw(jinit.lecun(), jinit.he(), width)


def _draw(first: Any, hidden: Any, width: int, layers: int = 3) -> Params:
    keys = jax.random.split(jax.random.key(0), 4)
    biases = jinit.scaled_uniform(fan_in=width)
    return Params(
        first=first(keys[0], (2, width)),
        hidden=jinit.stacked(hidden)(keys[1], (layers, width, width)),
        last=hidden(keys[2], (width, 1)),
        biases=biases(keys[3], (layers + 1, width)),
    )


def _outputs(params: Params, x: jax.Array, activation: Any) -> jax.Array:
    def layer(h: jax.Array, parts: Any) -> tuple[jax.Array, None]:
        kernel, bias = parts
        return activation(h @ kernel + bias[None]), None

    h = activation(x @ params.first + params.biases[:1])
    h, _ = jax.lax.scan(layer, h, (params.hidden, params.biases[1:]))
    return h @ params.last


@functools.lru_cache
def _loss(activation: Any) -> _train.Loss:
    """Return the mean square error, the same object each time."""

    def loss(params: Params, batch: Any) -> jax.Array:
        x, y = batch
        return jnp.mean((_outputs(params, x, activation) - y) ** 2)

    return loss


@functools.lru_cache
def _adam(rate: float) -> optax.GradientTransformation:
    return optax.adam(rate)


def _best(
    params: Params, activation: Any, data: Any, steps: int, quick: bool
) -> dict[str, Any]:
    """Return the fit at the rate that comes closest: PSNR by step, and the image."""
    fits = [
        (rate, *_train.fit(
            _loss(activation), jax.tree.map(lambda a: a[None], params), data,
            jax.random.key(0), optimizer=_adam(rate), steps=steps,
        ))
        for rate in (RATES[1:2] if quick else RATES)
    ]  # fmt: skip
    rate, fitted, losses = min(fits, key=lambda fit: float(_train.last(fit[2], 1)[0]))
    image = _outputs(jax.tree.map(lambda a: a[0], fitted), data[0], activation)
    curve = 10 * np.log10(4 / np.asarray(losses[0], np.float64))  # pixels span 2
    error = float(jnp.mean((image - data[1]) ** 2))
    psnr = 10 * np.log10(4 / error)
    return {"psnr": float(psnr), "rate": rate, "curve": curve, "image": image}


def _figure(picture: np.ndarray, results: dict[str, dict[str, Any]]) -> Figure:
    titles = ["PSNR", "the image", *results]
    figure, axes = panels(titles, ["step", *[""] * 3], ["dB", *[""] * 3])
    for name, values in results.items():
        axes[0].plot(values["curve"], label=name)
    axes[0].legend()
    fitted = [np.asarray(values["image"]) for values in results.values()]
    for ax, image in zip(axes[1:], [picture, *fitted], strict=True):
        ax.imshow(image.reshape(picture.shape), cmap="gray", vmin=-1, vmax=1)
        ax.set_axis_off()
    return figure
