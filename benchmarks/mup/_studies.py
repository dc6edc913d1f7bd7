"""Each study has a model that grows, data to learn, and two parametrizations."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import jinit
from examples import _data, transformer
from examples.mup_transfer import Perceptron

# The width of a head. A wider model has more heads, so attention stays the same.
HEAD = 16
LENGTH = 32
RESIDUAL_WIDTH = 64


class Study(NamedTuple):
    """A study has a model that grows in one way, and the settings of its sweeps."""

    title: str
    grows: str  # "width" or "depth"
    rule: str  # the name of the parametrization
    paper: str
    sizes: tuple[int, ...]
    exponents: range  # rates are powers of two
    seeds: int
    batches: list[tuple[jax.Array, jax.Array]]
    # Both take a size; that of the rule applies the scales of its parametrization.
    model: Callable[[int], Any]
    standard: Callable[[int], Any]
    parametrize: Callable[[Any, Any], Any] | None = None

    @property
    def rates(self) -> list[float]:
        """Return the grid of learning rates."""
        return [2.0**exponent for exponent in self.exponents]


class Residual(nn.Module):
    """The model has blocks of two layers, each with a LayerNorm and a shortcut."""

    depth: int
    scale: float = 1.0
    width: int = RESIDUAL_WIDTH

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(self.width, name="embedding")(x)
        for number in range(self.depth):
            x = x + self.scale * Block(name=f"block_{number}")(x)
        return nn.Dense(10, name="readout")(nn.LayerNorm(name="last")(x))


class Block(nn.Module):
    """A block computes the branch that is added to its shortcut."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.Dense(x.shape[-1], kernel_init=jinit.he())(nn.LayerNorm()(x))
        return nn.Dense(x.shape[-1])(nn.relu(y))


def perceptron(quick: bool, data: _data.Images) -> Study:
    """Return the study of a perceptron on images."""
    sizes = (32, 256) if quick else (64, 128, 256, 512, 1024)
    return Study(
        title="perceptron on images",
        grows="width",
        rule="muP",
        paper="Yang, Hu et al. 2021",
        sizes=sizes,
        exponents=range(-11, -2) if quick else range(-13, -2),
        seeds=2,
        batches=_images(data, quick),
        model=_with_scaled_logits(Perceptron, sizes[0]),
        standard=Perceptron,
    )


def characters(quick: bool, data: _data.Images) -> Study:
    """Return the study of a transformer on the characters of Python's help pages."""
    tokens, alphabet = transformer.text()
    size, steps = (4, 40) if quick else (8, 120)
    starts = np.random.default_rng(0).integers(len(tokens) - LENGTH, size=(steps, size))
    windows = jnp.asarray(tokens[starts[..., None] + np.arange(LENGTH + 1)])
    sizes = (32, 128) if quick else (32, 64, 128, 256)

    def standard(width: int) -> nn.Module:
        layers = 1 if quick else 2
        return transformer.Transformer(len(alphabet), layers, width, width // HEAD)

    return Study(
        title="transformer on characters",
        grows="width",
        rule="muP",
        paper="Yang, Hu et al. 2021",
        sizes=sizes,
        exponents=range(-10, -3) if quick else range(-12, -4),
        seeds=2,
        batches=[(window[:, :-1], window[:, 1:]) for window in windows],
        model=_with_scaled_logits(standard, sizes[0]),
        standard=standard,
    )


def depth(quick: bool, data: _data.Images) -> Study:
    """Return the study of a residual perceptron that deepens by CompleteP's rule."""
    sizes = (1, 8) if quick else (2, 4, 8, 16, 32)

    def parametrize(base: Any, target: Any) -> Any:
        first, last = (sum("block" in name for name in tree) for tree in (base, target))
        # All depths have one width, so that a third tree has to show which axes grow.
        wide = Residual(last, width=2 * RESIDUAL_WIDTH)
        delta = jax.eval_shape(wide.init, jax.random.key(0), data.train_x[:1])["params"]
        return jinit.mup.infer(
            target, target, delta_shapes=delta, depth=(first, last),
            depth_rule="completep",
        )  # fmt: skip

    return Study(
        title="residual perceptron on images",
        grows="depth",
        rule="CompleteP",
        paper="Dey et al. 2025",
        sizes=sizes,
        exponents=range(-11, -2) if quick else range(-13, -2),
        seeds=2,
        batches=_images(data, quick),
        model=lambda blocks: Residual(blocks, sizes[0] / blocks),
        standard=Residual,
        parametrize=parametrize,
    )


def _images(data: _data.Images, quick: bool) -> list[tuple[jax.Array, jax.Array]]:
    """Return batches of 64 images with their labels."""
    steps = 40 if quick else 150
    rows = np.random.default_rng(0).integers(len(data.train_x), size=(steps, 64))
    return [(jnp.asarray(data.train_x[i]), jnp.asarray(data.train_y[i])) for i in rows]


def _with_scaled_logits(
    model: Callable[[int], nn.Module], base: int
) -> Callable[[int], Any]:
    """Multiply the logits by p.readout_scale, the ratio of the widths."""

    def pair(width: int) -> Any:
        module = model(width)

        def apply(variables: Any, x: jax.Array) -> jax.Array:
            logits: Any = module.apply(variables, x)
            return base / width * logits

        return module.init, apply

    return pair


STUDIES: dict[str, Callable[[bool, _data.Images], Study]] = {
    "perceptron": perceptron,
    "transformer": characters,
    "depth": depth,
}
