"""Start one model in a fresh process; print its times and its memory as JSON.

python -m benchmarks._model_worker '{"how": "materialize", "layers": 24, ...}'
"""

import contextlib
import functools
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import _model_zoo as zoo

_STATUS = pathlib.Path("/proc/self/status")


def main(setting: dict[str, Any]) -> dict[str, Any]:
    """Time two starts; return the seconds and the peak memory beyond the parameters."""
    how = setting.pop("how")
    start, size_of = _torch(setting) if how == "torch" else _jax(how, setting)
    before = _resident("VmRSS")
    _forget_peak()
    first, parameters = _timed(start, 0)
    peak = _resident("VmHWM")
    sizes = size_of(parameters)
    del parameters
    second, _ = _timed(start, 1)
    total = sum(sizes)
    extra = None if peak is None or before is None else peak - before - total
    return {
        "seconds": first,
        "again": second,
        "bytes": total,
        "largest": max(sizes),
        "peak_above_parameters": extra,
    }


def _timed(start: Callable[[int], Any], seed: int) -> tuple[float, Any]:
    begun = time.perf_counter()
    parameters = start(seed)
    return time.perf_counter() - begun, parameters


def _jax(how: str, setting: dict[str, Any]) -> tuple[Callable, Callable]:
    import jax
    import jax.numpy as jnp

    import jinit

    jax.config.update("jax_enable_compilation_cache", False)
    optimizer = setting.pop("optimizer", None)
    model = zoo.Transformer(zoo.Size(**setting))
    tokens = jax.ShapeDtypeStruct((1, zoo.LENGTH), jnp.int32)
    zeros = jnp.zeros(tokens.shape, tokens.dtype)
    keys = [jax.block_until_ready(jax.random.key(seed)) for seed in range(2)]
    init = model.init if optimizer is None else _whole_state(model, optimizer)
    materialized, jitted = jinit.materialize(init), jax.jit(init)

    @functools.cache
    def plan() -> jinit.Plan:
        shapes = jax.eval_shape(model.init, keys[0], tokens)
        return jinit.plan(shapes, jinit.recipes.gpt2(setting["layers"]))

    @functools.cache
    def one_draw() -> Callable[[jax.Array], Any]:
        leaves = jax.tree.leaves(jax.eval_shape(init, keys[0], tokens))
        shape, dtype = (sum(x.size for x in leaves),), leaves[0].dtype
        # Most kernels of Flax have a law that is cut at two standard deviations.
        return lambda key: jinit.truncated_normal(0.02)(key, shape, dtype)

    if how == "draw":
        # The shapes are no part of the draw. In the other ways a trace before the first
        # start would fill JAX's caches.
        one_draw()
    ways: dict[str, Callable[[jax.Array], Any]] = {
        "materialize": lambda key: materialized(key, tokens),
        "jit": lambda key: jitted(key, zeros),
        "eager": lambda key: init(key, zeros),
        "plan": lambda key: plan().init(key),
        "draw": lambda key: one_draw()(key),
    }

    def start(seed: int) -> Any:
        return jax.block_until_ready(ways[how](keys[seed]))

    def sizes(tree: Any) -> list[int]:
        # The step count of a state is a Python number, and behind a jit an int32.
        return [getattr(leaf, "nbytes", 4) for leaf in jax.tree.leaves(tree)]

    return start, sizes


def _whole_state(model: Any, optimizer: str) -> Callable[..., Any]:
    """Return a function that makes the parameters and the state of an optimizer."""
    import optax
    from flax.training.train_state import TrainState

    tx = getattr(optax, optimizer)(1e-3)

    def make(key: Any, tokens: Any) -> Any:
        params = model.init(key, tokens)["params"]
        return TrainState.create(apply_fn=model.apply, params=params, tx=tx)

    return make


def _torch(setting: dict[str, Any]) -> tuple[Callable, Callable]:
    import torch

    def start(seed: int) -> Any:
        torch.manual_seed(seed)
        return zoo.torch_transformer(zoo.Size(**setting))

    return start, lambda m: [p.numel() * p.element_size() for p in m.parameters()]


def _resident(field: str) -> int | None:
    """Return a field of /proc/self/status in bytes, or None outside Linux."""
    if not _STATUS.is_file():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return None


def _forget_peak() -> None:
    """Reset the peak that Linux records, where the system allows it."""
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    print(json.dumps(main(json.loads(sys.argv[1]))))
