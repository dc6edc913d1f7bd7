"""Start a transformer by a recipe, look at the plan, and train it on text.

The text is the help pages of Python, which every installation has; the task is to name
the next character. A user takes the same steps: get shapes without arrays, take rules
from a recipe, make a plan that says how each tensor will be drawn, and draw by it.
`jinit.materialize` starts the same model with the initializers of its modules.

    python -m examples.transformer --help
"""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

if __package__ in (None, ""):  # run by its path
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from rich.console import Console
from rich.progress import track

import jinit
from examples import _cli
from examples._cli import option, parse

# Each recipe takes the number of layers and returns rules.
RECIPES: dict[str, Callable[[int], Any]] = {
    "gpt2": jinit.recipes.gpt2,
    "small_init": jinit.recipes.small_init,
    "t_fixup": jinit.recipes.t_fixup,
    "torch_defaults": jinit.recipes.torch_defaults,
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Start a transformer by a recipe and train it on text."""

    recipe: str = option("gpt2", "recipe of the rules", choices=RECIPES)
    layers: int = option(4, "layers of the model")
    width: int = option(96, "width of the residual stream")
    heads: int = option(4, "heads of attention")
    length: int = option(64, "characters of a window")
    batch_size: int = option(32, "windows of a step")
    steps: int = option(300, "steps of Adam")
    rate: float = option(3e-3, "learning rate of Adam")
    seed: int = option(0, "seed of all keys", least=0)
    out: str = option("results/transformer", "the folder of the results")


class Block(nn.Module):
    """A block adds attention and a perceptron, each behind a LayerNorm."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        mask = nn.make_causal_mask(x[..., 0])
        x = x + nn.MultiHeadDotProductAttention(self.heads)(
            nn.LayerNorm()(x), mask=mask
        )
        y = nn.gelu(nn.Dense(4 * x.shape[-1])(nn.LayerNorm()(x)))
        return x + nn.Dense(x.shape[-1])(y)


class Transformer(nn.Module):
    """The model maps characters to the logits of the next ones."""

    vocabulary: int
    layers: int
    width: int
    heads: int

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = nn.Embed(self.vocabulary, self.width, name="characters")(tokens)
        places = jnp.arange(tokens.shape[-1])[None]
        x = x + nn.Embed(tokens.shape[-1], self.width, name="positions")(places)
        for _ in range(self.layers):
            x = Block(self.heads)(x)
        return nn.Dense(self.vocabulary, name="readout")(nn.LayerNorm()(x))


def main(argv: list[str] | None = None) -> int:
    """Plan, print, draw and train; write the losses and a figure."""
    options = parse(Options, argv)
    console = _cli.console(140)
    tokens, alphabet = text()
    model = Transformer(len(alphabet), options.layers, options.width, options.heads)
    key = jax.random.key(options.seed)
    window = jax.ShapeDtypeStruct((1, options.length), jnp.int32)
    _time_materialize(model, key, window, console)
    shapes = jax.eval_shape(model.init, key, window)
    plan = jinit.plan(shapes, RECIPES[options.recipe](options.layers))
    console.print(plan)
    losses = _train(model, plan.init(key), tokens, options, console)
    _write(losses, options, console)
    return 0


def _time_materialize(
    model: nn.Module, key: jax.Array, window: Any, console: Console
) -> None:
    """Time the start by the initializers of the modules, without a forward pass."""
    begun = time.perf_counter()
    jax.block_until_ready(jinit.materialize(model.init)(key, window))
    seconds = time.perf_counter() - begun
    console.print(f"jinit.materialize(model.init) took {seconds:.2f} s")


def text() -> tuple[np.ndarray, list[str]]:
    """Return Python's help pages as numbers of characters, and the characters."""
    from pydoc_data import topics

    pages = "".join(topics.topics.values())
    alphabet = sorted(set(pages))
    number = {character: i for i, character in enumerate(alphabet)}
    return np.array([number[c] for c in pages], np.int32), alphabet


def _train(
    model: nn.Module,
    params: Any,
    tokens: np.ndarray,
    options: Options,
    console: Console,
) -> list[float]:
    """Train by Adam; return the loss of each step."""
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(options.rate))

    def loss(params: Any, batch: jax.Array) -> jax.Array:
        logits = model.apply(params, batch[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(
            logits, batch[:, 1:]
        ).mean()

    @jax.jit
    def step(params: Any, state: Any, batch: jax.Array) -> tuple[Any, Any, jax.Array]:
        value, gradient = jax.value_and_grad(loss)(params, batch)
        updates, state = tx.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    state, losses = tx.init(params), []
    generator = np.random.default_rng(options.seed)
    for _ in track(
        range(options.steps), "training", console=console, transient=True,
        disable=not console.is_terminal,
    ):  # fmt: skip
        size = (options.batch_size, 1)
        starts = generator.integers(len(tokens) - options.length - 1, size=size)
        batch = tokens[starts + np.arange(options.length + 1)]
        params, state, value = step(params, state, batch)
        losses.append(value)
    return [float(value) for value in losses]


def _write(losses: list[float], options: Options, console: Console) -> None:
    record = {"recipe": options.recipe, "losses": losses}
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    axes.plot(losses, linewidth=1)
    axes.set(xlabel="step", ylabel="loss, nats per character", title=options.recipe)
    last = float(np.mean(losses[-10:]))
    console.print(f"loss {losses[0]:.3f} -> {last:.3f} in {len(losses)} steps")
    _cli.write(options.out, record, figure, console)


if __name__ == "__main__":
    sys.exit(main())
