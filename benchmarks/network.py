"""Reading a network costs this much more than tracing it.

python -m benchmarks.network --help

`jinit.network` of a transformer is timed beside `jax.make_jaxpr` of the same function,
in turns; a row quotes medians and their ratio. In "first call" nothing is kept: JAX's
caches and jinit's are emptied before each call of either. In "second call" the model
and the shapes are those of the call before, so that both may take what they have kept.
All arrays are abstract.
"""

import argparse
import functools
import gc
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from rich import box
from rich.console import Console
from rich.table import Table

import jinit
from benchmarks import _page, _timing
from jinit._network import kept


class Size(NamedTuple):
    """The layers of the models, and how often each call is timed."""

    layers: int
    rounds: int


FULL, QUICK = Size(96, 7), Size(2, 1)
WIDTH, HEADS, LENGTH, VOCABULARY = 64, 4, 16, 256
_ABOUT = """\
`jinit.network` of a transformer of {layers} layers is timed beside `jax.make_jaxpr` of
the same function, in turns, with abstract arrays. In the first call nothing is kept:
the caches of JAX and of jinit are emptied before each call of either. In the second
call the model and the shapes are those of the call before. The trace is a part of the
first call of `jinit.network`, and reading the equations costs the rest, so that a first
call is slower than a trace; the ratio says by how many times. A second call finds the
reading of an equal model."""


class Block(nn.Module):
    """Attention and a perceptron, each behind a norm and beside a shortcut."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(HEADS)(y)
        y = nn.Dense(4 * WIDTH)(nn.LayerNorm()(x))
        return x + nn.Dense(WIDTH)(nn.gelu(y))


class Transformer(nn.Module):
    """Tokens -> logits."""

    layers: int
    block: Any = Block

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        embed = nn.Embed(VOCABULARY, WIDTH)
        x = embed(tokens)
        for _ in range(self.layers):
            x = self.block()(x)
        return embed.attend(nn.LayerNorm()(x))


def plain(params: Any, tokens: jax.Array) -> jax.Array:
    """Run a Llama-like decoder in plain JAX, whose trace has no modules to make."""
    x = params["embed"][tokens]
    for p in params["layers"]:
        q, k, v = (jnp.einsum("btd,dhk->bthk", _norm(x), p[name]) for name in "qkv")
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        x = x + jnp.einsum("bthk,hkd->btd", y, p["o"])
        h = _norm(x)
        x = x + (jax.nn.silu(h @ p["gate"]) * (h @ p["up"])) @ p["down"]
    return _norm(x) @ params["embed"].T


def _norm(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def main(argv: list[str] | None = None) -> int:
    """Time both calls of each model; print the ratios."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.network", description=__doc__
    )
    parser.add_argument("--quick", action="store_true", help="small, for CI")
    _page.add_option(parser)
    arguments = parser.parse_args(argv)
    docs = _page.folder(parser, arguments)
    size = QUICK if arguments.quick else FULL
    table = Table("model", "call", "parameters", "make_jaxpr", "network", "ratio",
                  box=box.SIMPLE)  # fmt: skip
    for name, (model, variables, tokens) in _models(size.layers).items():
        apply = getattr(model, "apply", model)
        calls = {
            "make_jaxpr": functools.partial(_traced, apply, variables, tokens),
            "network": functools.partial(jinit.network, model, variables, tokens),
        }
        count = str(len(calls["network"]().parameters))
        for call, times in (
            ("first", _first(calls, size.rounds)),
            ("second", _later(calls, size.rounds)),
        ):
            one, other = times["make_jaxpr"], times["network"]
            table.add_row(name, call, count, f"{1e3 * one:.0f} ms",
                          f"{1e3 * other:.0f} ms", f"{other / one:.2f}")  # fmt: skip
    Console(width=110).print(table)
    if docs:
        _write(docs, table, size)
    return 0


def _write(docs: pathlib.Path, table: Table, size: Size) -> None:
    head = ("model", "call", "parameters", "`jax.make_jaxpr`", "`jinit.network`",
            "ratio")  # fmt: skip
    text = _page.table(head, _page.rows_of(table), left=2)
    measured = _page.measured(f"Medians of {size.rounds} rounds.")
    part = _page.Part(
        "speed", "network", "Reading a network", "python -m benchmarks.network",
        _ABOUT.format(layers=size.layers), [text, measured],
    )  # fmt: skip
    _page.write(docs, part)


def _models(layers: int) -> dict[str, tuple[Any, Any, Any]]:
    """Return each model with the shapes of its variables and of its tokens."""
    tokens = jax.ShapeDtypeStruct((2, LENGTH), jnp.int32)
    key = jax.random.key(0)
    linen = Transformer(layers)
    remat = Transformer(layers, nn.remat(Block))

    def shape(*axes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(axes, jnp.float32)

    heads = shape(WIDTH, HEADS, WIDTH // HEADS)
    block = {
        "q": heads, "k": heads, "v": heads, "o": shape(HEADS, WIDTH // HEADS, WIDTH),
        "gate": shape(WIDTH, 4 * WIDTH), "up": shape(WIDTH, 4 * WIDTH),
        "down": shape(4 * WIDTH, WIDTH),
    }  # fmt: skip
    params = {"embed": shape(VOCABULARY, WIDTH), "layers": [block] * layers}
    return {
        "Linen": (linen, jax.eval_shape(linen.init, key, tokens), tokens),
        "Linen, remat": (remat, jax.eval_shape(remat.init, key, tokens), tokens),
        "plain JAX": (plain, params, tokens),
    }


def _traced(apply: Callable[..., Any], variables: Any, tokens: Any) -> Any:
    """Trace as a user does: a function that is made anew is traced at every call."""
    return jax.make_jaxpr(lambda v, t: apply(v, t))(variables, tokens)


def _first(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the median seconds of calls for which nothing is kept."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            jax.clear_caches()
            kept.forget()
            gc.collect()
            start = time.perf_counter()
            call()
            samples[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in samples.items()}


def _later(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the median seconds of calls after a first one."""
    # `interleaved` waits for arrays, and a network has none to wait for.
    quiet = {name: functools.partial(_dropped, call) for name, call in calls.items()}
    return {
        name: timing.median
        for name, timing in _timing.interleaved(quiet, rounds).items()
    }


def _dropped(call: Callable[[], Any]) -> None:
    call()


if __name__ == "__main__":
    sys.exit(main())
