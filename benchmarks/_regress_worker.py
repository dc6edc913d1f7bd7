"""Time cases in a process of its own, with the jinit of one commit.

`benchmarks.regress` starts this file by its path, with the commit's files first on
Python's path, so that both commits are timed by the same code. A line of the input
names a case; the answer is a line with the seconds of jinit and of JAX.
"""

import functools
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

import jinit

Init = Callable[..., jax.Array]
Calls = tuple[Callable[[], Any], Callable[[], Any]]

KEY = jax.random.key(0)
LARGE, SMALL, MATRIX = (1024, 1024), (8, 8), (512, 512)
# Names are looked up in jinit only when a case needs them: an old commit may lack some.
LAWS: dict[str, tuple[Callable[[], Init], Init]] = {
    "normal": (lambda: jinit.normal(0.02), jax.nn.initializers.normal(0.02)),
    "he_normal": (lambda: jinit.he_normal(), jax.nn.initializers.he_normal()),
    "he_uniform": (lambda: jinit.he_uniform(), jax.nn.initializers.he_uniform()),
    "orthogonal": (lambda: jinit.orthogonal(), jax.nn.initializers.orthogonal()),
}


def _direct(law: str, shape: tuple[int, ...], dtype: str = "float32") -> Calls:
    ours, theirs = LAWS[law][0](), jax.jit(_draw(LAWS[law][1], shape, dtype))
    return lambda: ours(KEY, shape, dtype), lambda: theirs(KEY)


def _in_jit(law: str, shape: tuple[int, ...], dtype: str = "float32") -> Calls:
    inits = LAWS[law][0](), LAWS[law][1]
    ours, theirs = (jax.jit(_draw(init, shape, dtype)) for init in inits)
    return lambda: ours(KEY), lambda: theirs(KEY)


def _draw(init: Init, shape: tuple[int, ...], dtype: str) -> Init:
    return lambda key: init(key, shape, dtype)


def _eager(law: str) -> Calls:
    def fifty(init: Init) -> jax.Array:
        return [init(KEY, SMALL) for _ in range(50)][-1]

    inits = LAWS[law][0](), LAWS[law][1]
    ours, theirs = (functools.partial(fifty, init) for init in inits)
    return ours, theirs


def _compiled(law: str) -> Calls:
    def compiled(init: Init) -> None:
        jax.clear_caches()
        jax.jit(_draw(init, LARGE, "float32")).lower(KEY).compile()

    inits = LAWS[law][0](), LAWS[law][1]
    ours, theirs = (functools.partial(compiled, init) for init in inits)
    return ours, theirs


# The last one empties JAX's caches, so that it must stay the last one.
CASES: dict[str, Callable[[], Calls]] = {
    "normal": lambda: _direct("normal", LARGE),
    "normal in jit": lambda: _in_jit("normal", LARGE),
    "he_normal in jit": lambda: _in_jit("he_normal", LARGE),
    "he_uniform in jit": lambda: _in_jit("he_uniform", LARGE),
    "normal in jit, bfloat16": lambda: _in_jit("normal", LARGE, "bfloat16"),
    "orthogonal 512 x 512": lambda: _direct("orthogonal", MATRIX),
    "fifty eager calls": lambda: _eager("normal"),
    "compile": lambda: _compiled("normal"),
}


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def answers(lines: Iterator[str]) -> Iterator[str]:
    """Yield the seconds of each case that a line names, as JSON."""
    calls: dict[str, Calls] = {}
    for line in lines:
        name = line.strip()
        if name not in calls:
            calls[name] = CASES[name]()
            for call in calls[name]:
                jax.block_until_ready(call())
        yield json.dumps([_seconds(call) for call in calls[name]])


if __name__ == "__main__":
    gc.disable()
    for answer in answers(iter(sys.stdin.readline, "")):
        print(answer, flush=True)
