"""The models that grow, what they learn, and how they are parametrized."""

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

# Of attention: width grows by the number of heads, so that attention stays as it is.
HEAD = 16
LENGTH = 32
RESIDUAL_WIDTH = 64


class Study(NamedTuple):
    """A model that grows in one way, and the sweeps over it."""

    title: str
    grows: str  # "width" or "depth"
    rule: str  # the name of the parametrization
    paper: str
    sizes: tuple[int, ...]
    exponents: range  # rates are powers of two
    seeds: int
    problem: Problem
    # A size -> the model of that size, under the parametrization or standard.
    model: Callable[[int, Any], nn.Module]
    # A size -> its parametrization, relative to the smallest.
    infer: Callable[[int], Any]

    def standard(self, size: int) -> Any:
        """Base and target equal: the parametrization that changes nothing."""
        found = shapes(self.model(size, None), self.problem)
        return jinit.mup.infer(found, found)


class Residual(nn.Module):
    """Blocks of two layers, each behind a LayerNorm and beside a shortcut."""

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
    """What a residual block adds to its shortcut."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.Dense(x.shape[-1], kernel_init=jinit.he())(nn.LayerNorm()(x))
        return nn.Dense(x.shape[-1])(nn.relu(y))


def perceptron(quick: bool, data: _data.Images) -> Study:
    """A perceptron on images."""
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
        infer=lambda width: jinit.mup.infer(of(study.sizes[0]), of(width)),
    )

    @functools.cache
    def of(width: int) -> Any:
        return shapes(Perceptron(width), problem)

    return study


def characters(quick: bool, data: _data.Images) -> Study:
    """A transformer on the characters of Python's help pages."""
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
        infer=lambda width: jinit.mup.infer(of(study.sizes[0]), of(width)),
    )

    @functools.cache
    def of(width: int) -> Any:
        return shapes(model(width), problem)

    return study


def depth(quick: bool, data: _data.Images) -> Study:
    """A residual perceptron on images, by the rule of CompleteP."""
    problem = images(data, 64, 40 if quick else 150)

    def of(width: int, blocks: int) -> Any:
        return shapes(Residual(width, blocks), problem)

    def infer(blocks: int) -> Any:
        here = of(RESIDUAL_WIDTH, blocks)
        # The width stays, so that a third tree says what would grow with it.
        return jinit.mup.infer(
            here, here, delta_shapes=of(2 * RESIDUAL_WIDTH, blocks),
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
    """Windows of the text and what comes next in them; and the size of the alphabet."""
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
    """The grid: powers of two."""
    return 2.0 ** np.array(study.exponents)
