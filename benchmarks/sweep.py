"""Compare the seeds per second of `jinit.sweep`, a plain vmap, a Python loop and torch.

python -m benchmarks.sweep --help

One seed draws a perceptron 64-64-10 with He's law, trains it on handwritten digits by
SGD on batches of 64, and gives its last loss. With `--steps 10` a seed is so small that
the cost of a call of `sweep` would show.
"""

import argparse
import pathlib
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import jinit
from benchmarks import _cases, _page, _timing
from examples import _data

torch = _cases.torch
_RATE, _BATCH, _HIDDEN = 0.1, 64, 64


class Digits(NamedTuple):
    """The images are rows with labels; `rows` numbers the images of each batch."""

    x: np.ndarray
    y: np.ndarray
    rows: np.ndarray


def main(argv: list[str] | None = None) -> int:
    """Time the sweep and the loops in turns; print seeds per second."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep", description=__doc__
    )
    parser.add_argument("--quick", action="store_true", help="run a small size, for CI")
    parser.add_argument("--seeds", type=int, help="number of seeds: 64, or 4 if quick")
    parser.add_argument("--steps", type=int, help="steps of SGD: 100, or 5 if quick")
    _page.add_option(parser)
    arguments = parser.parse_args(argv)
    docs = _page.folder(parser, arguments)
    steps = arguments.steps or (5 if arguments.quick else 100)
    seeds = arguments.seeds or (4 if arguments.quick else 64)
    calls = _calls(_digits(steps), seeds)
    timings = _timing.interleaved(calls, 1 if arguments.quick else 7)
    table = Table("how", "seeds per second", "sweep is faster by")
    ours = timings["jinit.sweep"].median
    for name, timing in timings.items():
        ratio = timing.median / ours
        table.add_row(name, f"{seeds / timing.median:.1f}", f"{ratio:.1f}")
    console = Console()
    devices = f"{jax.device_count()} {jax.default_backend()} device"
    console.print(f"{seeds} seeds of {steps} steps, {devices}")
    console.print(table)
    if docs:
        _write(docs, table, seeds, steps)
    return 0


_ABOUT = """\
One seed draws a perceptron 64-64-10 by He's law, trains it on scikit-learn's digits by
SGD in batches of 64, and gives its last loss. `jinit.sweep` is timed in turns with a
plain `jax.vmap` under `jax.jit`, with a Python loop over the jitted function of one
seed, and with a loop in torch. A product of many small matrices is not faster on a CPU
than single products: a sweep gains the second core, and saves dispatches. The number of
devices is that of JAX: `XLA_FLAGS=--xla_force_host_platform_device_count=2` makes a
device of each of two cores."""


def _write(docs: pathlib.Path, table: Table, seeds: int, steps: int) -> None:
    """Write the row of this number of seeds, steps and devices."""
    setting = f"{seeds} seeds of {steps} steps, devices: {jax.device_count()}"
    head = ("setting", "how", "seeds per second", "sweep: times faster")
    rows = [
        (setting, how, seconds, _page.ratio(float(times)))
        for how, seconds, times in _page.rows_of(table)
    ]
    text = _page.merged(docs, "speed", "sweep", head, rows, keys=2, left=2).text
    part = _page.Part(
        "speed", "sweep", "Many seeds: training in a sweep",
        "python -m benchmarks.sweep", _ABOUT, [text],
    )  # fmt: skip
    _page.write(docs, part)


def _digits(steps: int) -> Digits:
    images = _data.digits()
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(images.train_x), (steps, _BATCH))
    return Digits(images.train_x.astype(np.float32), images.train_y, rows)


def _calls(digits: Digits, seeds: int) -> dict[str, Any]:
    key = jax.random.key(0)
    one = jax.jit(lambda key: trained(key, digits))
    keys = list(jax.random.split(key, seeds))

    def swept(key: jax.Array) -> jax.Array:
        return trained(key, digits)

    @jax.jit
    @jax.vmap
    def mapped(key: jax.Array) -> jax.Array:
        return trained(key, digits)

    calls = {
        "jinit.sweep": lambda: jinit.sweep(swept, key, seeds, progress=False),
        "jax.jit(jax.vmap)": lambda: mapped(jax.random.split(key, seeds)),
        "Python loop over a jitted function": lambda: [one(key) for key in keys],
    }
    if torch is not None:
        calls["torch, Python loop"] = lambda: [_torch(digits) for _ in keys]
    return calls


def trained(key: jax.Array, digits: Digits) -> jax.Array:
    """Train one seed and return its last loss."""
    init, sizes = jinit.he(), (digits.x.shape[1], _HIDDEN, 10)
    first, last = jax.random.split(key)
    params = (
        (init(first, sizes[:2]), jnp.zeros(sizes[1])),
        (init(last, sizes[1:]), jnp.zeros(sizes[2])),
    )
    x, y = jnp.asarray(digits.x), jnp.asarray(digits.y)

    def loss(params: Any, rows: jax.Array) -> jax.Array:
        (w, b), (v, c) = params
        logits = jax.nn.relu(x[rows] @ w + b[None]) @ v + c[None]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y[rows])
        return losses.mean()

    def step(params: Any, rows: jax.Array) -> tuple[Any, jax.Array]:
        value, slopes = jax.value_and_grad(loss)(params, rows)
        updates = optax.tree.scale(-_RATE, slopes)
        return optax.apply_updates(params, updates), value

    return jax.lax.scan(step, params, jnp.asarray(digits.rows))[1][-1]


def _torch(digits: Digits) -> float:
    """Train one seed in torch, as its tutorials do, and return its last loss."""
    nn = torch.nn
    model = nn.Sequential(
        nn.Linear(digits.x.shape[1], _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 10)
    )
    for layer in (model[0], model[2]):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=_RATE)
    x, y = torch.from_numpy(digits.x), torch.from_numpy(digits.y.astype(np.int64))
    for rows in torch.from_numpy(digits.rows):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
    return float(loss.detach())


if __name__ == "__main__":
    sys.exit(main())
