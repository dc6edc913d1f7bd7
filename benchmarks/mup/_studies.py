"""Each study has a model that grows, data to learn, and two parametrizations."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import jinit
from examples import _data, transformer
from examples.mup_transfer import Perceptron, Problem, images, shapes

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
    problem: Problem
    # model(size, parametrization) returns the model; None is the standard one.
    model: Callable[[int, Any], nn.Module]
    # infer(size) returns the parametrization of a size, relative to the smallest.
    infer: Callable[[int], Any]

    def standard(self, size: int) -> Any:
        """Return the parametrization that changes nothing: its base is its target."""
        same = shapes(self.model(size, None), self.problem)
        return jinit.mup.infer(same, same)


class Residual(nn.Module):
    """The model has blocks of two layers, each with a LayerNorm and a shortcut."""

    width: int
    depth: int
    scale: float = 1.0

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
    problem = images(data, 64, 40 if quick else 150)
    study = Study(
        title="perceptron on images",
        grows="width",
        rule="muP",
        paper="Yang, Hu et al. 2021",
        sizes=(32, 256) if quick else (64, 128, 256, 512, 1024),
        exponents=range(-11, -2) if quick else range(-13, -2),
        seeds=1 if quick else 2,
        problem=problem,
        model=lambda width, p: Perceptron(width),
        infer=lambda width: jinit.mup.infer(
            shapes_at(study.sizes[0]), shapes_at(width)
        ),
    )

    @functools.cache
    def shapes_at(width: int) -> Any:
        return shapes(Perceptron(width), problem)

    return study


def characters(quick: bool, data: _data.Images) -> Study:
    """Return the study of a transformer on the characters of Python's help pages."""
    problem, vocabulary = _windows(*(4, 40) if quick else (8, 120))
    layers = 1 if quick else 2

    def model(width: int, p: Any = None) -> nn.Module:
        return transformer.Transformer(vocabulary, layers, width, width // HEAD)

    study = Study(
        title="transformer on characters",
        grows="width",
        rule="muP",
        paper="Yang, Hu et al. 2021",
        sizes=(32, 128) if quick else (32, 64, 128, 256),
        exponents=range(-10, -3) if quick else range(-12, -4),
        seeds=1 if quick else 2,
        problem=problem,
        model=model,
        infer=lambda width: jinit.mup.infer(
            shapes_at(study.sizes[0]), shapes_at(width)
        ),
    )

    @functools.cache
    def shapes_at(width: int) -> Any:
        return shapes(model(width), problem)

    return study


def depth(quick: bool, data: _data.Images) -> Study:
    """Return the study of a residual perceptron that deepens by CompleteP's rule."""
    problem = images(data, 64, 40 if quick else 150)

    def shapes_at(width: int, blocks: int) -> Any:
        return shapes(Residual(width, blocks), problem)

    def infer(blocks: int) -> Any:
        here = shapes_at(RESIDUAL_WIDTH, blocks)
        # All depths have one width, so that a third tree has to show which axes grow.
        return jinit.mup.infer(
            here, here, delta_shapes=shapes_at(2 * RESIDUAL_WIDTH, blocks),
            depth=(study.sizes[0], blocks), depth_rule="completep",
        )  # fmt: skip

    study = Study(
        title="residual perceptron on images",
        grows="depth",
        rule="CompleteP",
        paper="Dey et al. 2025",
        sizes=(1, 8) if quick else (2, 4, 8, 16, 32),
        exponents=range(-11, -2) if quick else range(-13, -2),
        seeds=1 if quick else 2,
        problem=problem,
        model=lambda blocks, p: Residual(
            RESIDUAL_WIDTH, blocks, p.residual_scale if p else 1.0
        ),
        infer=infer,
    )
    return study


def _windows(batch_size: int, steps: int) -> tuple[Problem, int]:
    """Return windows of text with their next characters, and the alphabet's size."""
    tokens, alphabet = transformer.text()
    windows = tokens[: len(tokens) // (LENGTH + 1) * (LENGTH + 1)].reshape(
        -1, LENGTH + 1
    )
    train, test = windows[64:], windows[:64]
    parts = (jnp.asarray(half) for w in (train, test) for half in (w[:, :-1], w[:, 1:]))
    x, y, test_x, test_y = parts
    problem = Problem(x, y, test_x, test_y, batch_size, steps)
    return problem, len(alphabet)


STUDIES: dict[str, Callable[[bool, _data.Images], Study]] = {
    "perceptron": perceptron,
    "transformer": characters,
    "depth": depth,
}


def rates(study: Study) -> np.ndarray:
    """Return the grid of learning rates, which are powers of two."""
    return 2.0 ** np.array(study.exponents)
