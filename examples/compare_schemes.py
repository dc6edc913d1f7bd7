"""Compare initialization schemes on real images, at two depths.

The perceptron, the data and the steps are the same for all schemes. Every layer uses
the formula of its scheme, also the first layer. The optimizer is SGD with momentum 0.9
and a gradient clipped to norm 1. Unlike Adam, it does not adapt its steps to the layer.

    python -m examples.compare_schemes --help
"""

import dataclasses
import functools
import json
import math
import pathlib
import sys
from collections.abc import Callable
from typing import Any

if __package__ in (None, ""):  # run by its path
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import jinit
from examples import _cli, _data, _mlp, _show
from examples._cli import option, parse

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
}

# Each scheme takes the activation and returns an initializer.
SCHEMES: dict[str, Callable[[str], _mlp.Init]] = {
    "xavier": lambda activation: jinit.xavier(),
    "he": lambda activation: jinit.he(),
    "kaiming": lambda activation: jinit.kaiming(activation),
    "kaiming-article": lambda activation: jinit.kaiming(
        activation, rule="slope_at_zero"
    ),
    "lecun": lambda activation: jinit.lecun(),
    "normal-0.01": lambda activation: jinit.normal(0.01),
    "uniform-0.01": lambda activation: jinit.uniform(0.01),
    "zeros": lambda activation: jinit.zeros,
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare initialization schemes on real images."""

    data: str = option("digits", "the images to train on", choices=("digits", "mnist"))
    data_dir: str | None = option(
        None, "the folder of the four MNIST files; by default they are downloaded"
    )
    depth: tuple[int, ...] = option((5, 30), "hidden layers")
    width: int = option(128, "units of a hidden layer")
    activation: str = option("relu", "activation of the layers", choices=ACTIVATIONS)
    steps: int = option(400, "steps of the optimizer")
    every: int = option(20, "steps between two measurements")
    learning_rate: float = option(0.02, "learning rate of SGD")
    batch_size: int = option(64, "images of one step")
    seeds: int = option(3, "networks of each scheme")
    seed: int = option(0, "seed of all keys", least=0)
    schemes: tuple[str, ...] = option(
        tuple(SCHEMES), f"some of {', '.join(SCHEMES)}", choices=SCHEMES
    )
    out: str = option("results/compare_schemes", "the folder of the results")


_CLASSES = 10


def main(argv: list[str] | None = None) -> int:
    """Run the comparison; return 0, or 2 if the data cannot be used."""
    options = parse(Options, argv)
    # A pipe has no width, and a table of 80 columns would cut its numbers.
    console = _cli.console(120)
    try:
        images = _data.load(options.data, options.data_dir)
    except _data.DataError as error:
        console.print(f"error: {error}", style="red", markup=False, highlight=False)
        return 2
    records = compare(options, images, console)
    out = pathlib.Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(records, indent=1) + "\n")
    _show.figure(records, options.data, out / "figure.png")
    console.print(_show.table(records, options.data))
    for sentence in _show.findings(records):
        console.print(sentence, soft_wrap=True)
    console.print(f"{out}/results.json, {out}/figure.png", soft_wrap=True)
    return 0


def compare(
    options: Options, images: _data.Images, console: Console
) -> list[dict[str, Any]]:
    """Train every scheme at every depth; return a record of each."""
    names = [s for s in options.schemes for _ in options.depth]
    with Progress(
        TextColumn("{task.description:>28}"), BarColumn(), TimeElapsedColumn(),
        console=console, disable=not console.is_terminal, transient=True,
    ) as progress:  # fmt: skip
        rounds = math.ceil(options.steps / options.every)
        task = progress.add_task("", total=len(names) * rounds)
        return [
            _run(
                scheme, depth, options, images,
                lambda label: progress.update(task, description=label, advance=1),
            )
            for depth in options.depth
            for scheme in options.schemes
        ]  # fmt: skip


def _run(
    scheme: str,
    depth: int,
    options: Options,
    images: _data.Images,
    advance: Callable[[str], None],
) -> dict[str, Any]:
    """Train all seeds of one scheme together, vmapped in one compiled program."""
    train = _mlp.Batch(jnp.asarray(images.train_x), jnp.asarray(images.train_y))
    test = _mlp.Batch(jnp.asarray(images.test_x), jnp.asarray(images.test_y))
    settings = _settings(options.activation, options.learning_rate, options.batch_size)
    draw = functools.partial(
        _mlp.init,
        SCHEMES[scheme](options.activation),
        inputs=train.x.shape[1],
        width=options.width,
        depth=depth,
        classes=_CLASSES,
    )
    init_key, train_key = jax.random.split(jax.random.key(options.seed))
    params = jax.jit(jax.vmap(draw))(jax.random.split(init_key, options.seeds))
    signal = _signals(params, _mlp.Batch(train.x[:512], train.y[:512]), settings)
    state = params, jax.vmap(settings.optimizer.init)(params)
    steps, curves = [], []
    for done in range(0, options.steps, options.every):
        size = min(options.every, options.steps - done)
        keys = jax.random.split(jax.random.fold_in(train_key, done), options.seeds)
        state, curve = _round(state, keys, train, test, size, settings)
        steps.append(done + size)
        curves.append(jax.tree.map(np.asarray, curve))
        advance(f"{scheme}, depth {depth}")
    return _record(scheme, depth, options, signal, steps, curves)


@functools.lru_cache
def _settings(activation: str, learning_rate: float, batch_size: int) -> _mlp.Settings:
    # One object per run, so that all schemes share one compiled program.
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.sgd(learning_rate, momentum=0.9)
    )
    return _mlp.Settings(ACTIVATIONS[activation], optimizer, batch_size)


@functools.partial(jax.jit, static_argnames=("size", "settings"))
def _round(
    state: Any,
    keys: jax.Array,
    train: _mlp.Batch,
    test: _mlp.Batch,
    size: int,
    settings: _mlp.Settings,
) -> tuple[Any, _mlp.Curves]:
    def one(state: Any, key: jax.Array) -> tuple[Any, _mlp.Curves]:
        state, loss = _mlp.train_round(state, key, train, size, settings)
        accuracy = _mlp.accuracy(state[0], test, settings.activation)
        return state, _mlp.Curves(loss, accuracy)

    return jax.vmap(one)(state, keys)


@functools.partial(jax.jit, static_argnames="settings")
def _signals(
    params: _mlp.Params, batch: _mlp.Batch, settings: _mlp.Settings
) -> _mlp.Signal:
    return jax.vmap(lambda p: _mlp.signal(p, batch, settings.activation))(params)


def _record(
    scheme: str,
    depth: int,
    options: Options,
    signal: _mlp.Signal,
    steps: list[int],
    curves: list[_mlp.Curves],
) -> dict[str, Any]:
    """Return plain data, one entry per seed, with None for values not finite."""
    accuracy = np.stack([c.test_accuracy for c in curves], axis=1)
    losses = np.stack([c.loss for c in curves], axis=1)
    return {
        "scheme": scheme,
        "depth": depth,
        "activation": options.activation,
        "data": options.data,
        "width": options.width,
        "steps": options.steps,
        "learning_rate": options.learning_rate,
        "batch_size": options.batch_size,
        "test_accuracy": accuracy[:, -1].tolist(),
        "final_loss": _finite(losses[:, -1]),
        "steps_to_90": [_first(row >= 0.9, steps) for row in accuracy],
        "first_gradient_norm": _finite(signal.first_gradient_norm),
        "last_activation_std": _finite(signal.last_activation_std),
        # The axes are the layers and the seeds.
        "activation_rms": np.asarray(signal.activation_rms).T.tolist(),
        "gradient_rms": np.asarray(signal.gradient_rms).T.tolist(),
        "curve_steps": steps,
        "test_accuracy_curve": accuracy.tolist(),
        "loss_curve": [_finite(row) for row in losses],
    }


def _finite(values: Any) -> list[float | None]:
    return [float(v) if math.isfinite(v) else None for v in np.asarray(values)]


def _first(reached: np.ndarray, steps: list[int]) -> int | None:
    return steps[int(np.argmax(reached))] if reached.any() else None


if __name__ == "__main__":
    sys.exit(main())
