"""Each case of the benchmark times the same draw in jinit and in its peers."""

import functools
import importlib
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jinit

# Idle OpenMP threads of torch would spin during the next measurement. OpenMP reads
# these variables when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KMP_BLOCKTIME", "0")
torch: Any
try:
    torch = importlib.import_module("torch")
except ImportError:
    torch = None

Calls = dict[str, Callable[[], Any]]
Init = Callable[..., jax.Array]


class Scheme(NamedTuple):
    """A scheme holds one law in each library; `torch` and `numpy` fill an array."""

    jinit: Init
    jax: Init
    torch: Callable[[Any], Any]
    numpy: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


class Case(NamedTuple):
    """A case is a row of the table: calls that do the same work, to be compared."""

    what: str
    scheme: str
    shape: tuple[int, ...]
    dtype: str
    calls: Calls
    repeat: int = 1


def _std(shape: tuple[int, ...]) -> np.float32:
    return np.float32((2 / shape[0]) ** 0.5)


SCHEMES = {
    "normal": Scheme(
        jinit.normal(0.02),
        jax.nn.initializers.normal(0.02),
        lambda t: torch.nn.init.normal_(t, std=0.02),
        lambda g, s: g.standard_normal(s, np.float32) * np.float32(0.02),
    ),
    "he_normal": Scheme(
        jinit.he_normal(),
        jax.nn.initializers.he_normal(),
        lambda t: torch.nn.init.trunc_normal_(t, std=0.02, a=-0.04, b=0.04),
        lambda g, s: g.standard_normal(s, np.float32) * _std(s),
    ),
    "he_uniform": Scheme(
        jinit.he_uniform(),
        jax.nn.initializers.he_uniform(),
        lambda t: torch.nn.init.kaiming_uniform_(t, nonlinearity="relu"),
        lambda g, s: (g.random(s, np.float32) * 2 - 1) * (_std(s) * np.float32(1.732)),
    ),
    "he": Scheme(
        jinit.he(),
        jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
        lambda t: torch.nn.init.kaiming_normal_(t, nonlinearity="relu"),
        lambda g, s: g.standard_normal(s, np.float32) * _std(s),
    ),
    "orthogonal": Scheme(
        jinit.orthogonal(),
        jax.nn.initializers.orthogonal(),
        lambda t: torch.nn.init.orthogonal_(t),
        lambda g, s: np.linalg.qr(g.standard_normal(s, np.float32))[0],
    ),
}


def draws(
    shapes: Sequence[tuple[int, ...]], dtypes: list[str], schemes: list[str]
) -> Iterator[Case]:
    """Yield draws of one array: by jinit, directly and in a jit, and by its peers.

    XLA's programs have a case without torch and numpy. During a long call of another
    library XLA's threads fall asleep, and they start late for the next XLA program.
    """
    for shape in shapes:
        for dtype in dtypes:
            for name in schemes:
                scheme = SCHEMES[name]
                calls = _xla_calls(scheme, shape, dtype)
                yield Case("draw", name, shape, dtype, calls)
                calls = _other_calls(scheme, shape, dtype)
                if len(calls) > 1:
                    yield Case("draw, others", name, shape, dtype, calls)


def _xla_calls(scheme: Scheme, shape: tuple[int, ...], dtype: str) -> Calls:
    key = jax.random.key(0)
    ours = jax.jit(lambda k: scheme.jinit(k, shape, dtype))
    theirs = jax.jit(lambda k: scheme.jax(k, shape, dtype))
    fill = jax.jit(lambda x: jnp.full(shape, x, dtype))
    return {
        "jinit": lambda: scheme.jinit(key, shape, dtype),
        "jinit in jit": lambda: ours(key),
        "jax": lambda: theirs(key),
        "fill": lambda: fill(0.5),
    }


def _other_calls(scheme: Scheme, shape: tuple[int, ...], dtype: str) -> Calls:
    key = jax.random.key(0)
    calls: Calls = {"jinit": lambda: scheme.jinit(key, shape, dtype)}
    if torch is not None:
        torch_dtype = getattr(torch, dtype)
        calls["torch"] = lambda: scheme.torch(torch.empty(shape, dtype=torch_dtype))
    if dtype == "float32":
        generator = np.random.default_rng(0)
        calls["numpy"] = lambda: scheme.numpy(generator, shape)
    return calls


def memory(shapes: Sequence[tuple[int, ...]]) -> list[dict[str, Any]]:
    """Return the bytes of each draw's result, and of what it needs beside it."""
    rows = []
    for name in ("normal", "he_normal", "he_uniform"):
        for shape, dtype in itertools.product(shapes, ("float32", "bfloat16")):
            draw = functools.partial(SCHEMES[name].jinit, shape=shape, dtype=dtype)
            run = jax.jit(draw).lower(jax.random.key(0)).compile()
            sizes = run.memory_analysis()
            if sizes is None:
                # Not every backend tells.
                continue
            rows.append(
                {
                    "scheme": name,
                    "shape": list(shape),
                    "dtype": dtype,
                    "result": sizes.output_size_in_bytes,
                    "beside": sizes.temp_size_in_bytes,
                }
            )
    return rows


def sweeps(
    shape: tuple[int, ...], counts: list[int], schemes: list[str]
) -> Iterator[Case]:
    """Yield draws of many seeds of one array: vmapped over keys inside a jit."""
    for count in counts:
        for name in schemes:
            calls = _sweep_calls(SCHEMES[name], shape, count)
            yield Case(f"sweep of {count}", name, shape, "float32", calls)


def _sweep_calls(scheme: Scheme, shape: tuple[int, ...], count: int) -> Calls:
    keys = jax.random.split(jax.random.key(0), count)
    ours = jax.jit(jax.vmap(lambda k: scheme.jinit(k, shape)))
    theirs = jax.jit(jax.vmap(lambda k: scheme.jax(k, shape)))
    return {"jinit in jit": lambda: ours(keys), "jax": lambda: theirs(keys)}


def overhead(schemes: list[str]) -> Iterator[Case]:
    """Yield eager calls of a small shape, which measure Python and the dispatch."""
    for name in schemes:
        calls = _eager_calls(SCHEMES[name], (8, 8))
        yield Case("eager call", name, (8, 8), "float32", calls, repeat=50)
        yield Case("eager, waited for", name, (8, 8), "float32", calls)


def _eager_calls(scheme: Scheme, shape: tuple[int, ...]) -> Calls:
    key = jax.random.key(0)
    calls: Calls = {
        "jinit": lambda: scheme.jinit(key, shape),
        "jax": lambda: scheme.jax(key, shape),
    }
    if torch is not None:
        calls["torch"] = lambda: scheme.torch(torch.empty(shape))
    return calls


def compilations(shapes: list[tuple[int, ...]], schemes: list[str]) -> Iterator[Case]:
    """Yield the compilation of a sampler that is new to the process."""
    for shape in shapes:
        for name in schemes:
            calls: Calls = {
                "jinit": functools.partial(_compile, SCHEMES[name].jinit, shape),
                "jax": functools.partial(_compile, SCHEMES[name].jax, shape),
            }
            yield Case("compile", name, shape, "float32", calls)


def _compile(init: Init, shape: tuple[int, ...]) -> None:
    key = jax.random.key(0)
    jax.clear_caches()
    jax.jit(lambda k: init(k, shape)).lower(key).compile()


def imports() -> Case:
    """Return the case of a fresh process that imports JAX, with jinit and without."""

    def run(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    calls: Calls = {
        "jinit": lambda: run("import jax, jinit"),
        "jax": lambda: run("import jax"),
    }
    return Case("import", "-", (), "-", calls)
