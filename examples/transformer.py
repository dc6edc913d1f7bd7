"""Start a transformer by a recipe, look at the plan, and train it on text.

The text is the help pages of Python, which every installation has; the task is to name
the next character. A user takes the same steps: get shapes without arrays, take rules
from a recipe, make a plan that says how each tensor will be drawn, and draw by it.
`jinit.materialize` starts the same model with the initializers of its modules.

    python -m examples.transformer --help
"""

import argparse
import json
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

# Each recipe takes the number of layers and returns rules.
RECIPES: dict[str, Callable[[int], Any]] = {
    "gpt2": jinit.recipes.gpt2,
    "small_init": jinit.recipes.small_init,
    "t_fixup": jinit.recipes.t_fixup,
    "torch_defaults": jinit.recipes.torch_defaults,
}


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
    arguments = _parser().parse_args(argv)
    console = Console() if sys.stdout.isatty() else Console(width=140)
    tokens, alphabet = text()
    model = Transformer(
        len(alphabet), arguments.layers, arguments.width, arguments.heads
    )
    key = jax.random.key(arguments.seed)
    window = jax.ShapeDtypeStruct((1, arguments.length), jnp.int32)
    _time_materialize(model, key, window, console)
    shapes = jax.eval_shape(model.init, key, window)
    plan = jinit.plan(shapes, RECIPES[arguments.recipe](arguments.layers))
    console.print(plan)
    losses = _train(model, plan.init(key), tokens, arguments, console)
    _write(losses, arguments, console)
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
    arguments: argparse.Namespace,
    console: Console,
) -> list[float]:
    """Train by Adam; return the loss of each step."""
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(arguments.rate))

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
    generator = np.random.default_rng(arguments.seed)
    for _ in track(
        range(arguments.steps), "training", console=console, transient=True,
        disable=not console.is_terminal,
    ):  # fmt: skip
        size = (arguments.batch_size, 1)
        starts = generator.integers(len(tokens) - arguments.length - 1, size=size)
        batch = tokens[starts + np.arange(arguments.length + 1)]
        params, state, value = step(params, state, batch)
        losses.append(value)
    return [float(value) for value in losses]


def _write(
    losses: list[float], arguments: argparse.Namespace, console: Console
) -> None:
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    record = {"recipe": arguments.recipe, "losses": losses}
    (out / "results.json").write_text(json.dumps(record) + "\n")
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    axes.plot(losses, linewidth=1)
    axes.set(xlabel="step", ylabel="loss, nats per character", title=arguments.recipe)
    figure.savefig(out / "figure.png", dpi=120)
    plt.close(figure)
    last = float(np.mean(losses[-10:]))
    console.print(f"loss {losses[0]:.3f} -> {last:.3f} in {len(losses)} steps")
    console.print(f"{out}/results.json, {out}/figure.png", soft_wrap=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.transformer",
        description="Start a transformer by a recipe and train it on text.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--recipe", choices=tuple(RECIPES), default="gpt2", help="recipe of the rules")
    add("--layers", type=int, default=4, help="layers of the model")
    add("--width", type=int, default=96, help="width of the residual stream")
    add("--heads", type=int, default=4, help="heads of attention")
    add("--length", type=int, default=64, help="characters of a window")
    add("--batch-size", type=int, default=32, help="windows of a step")
    add("--steps", type=int, default=300, help="steps of Adam")
    add("--rate", type=float, default=3e-3, help="learning rate of Adam")
    add("--seed", type=int, default=0, help="seed of all keys")
    add("--out", default="results/transformer", help="the folder of the results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
