"""Find out why a deep network does not train, and mend it.

The loss of a perceptron of thirty relu layers on digits, with Flax's default
initializers, stays at log 10, that of guessing. Before any training `jinit.probe` says
where the signal is lost and what to try. One argument is changed, and the same network
trains. A figure shows the signal by layer and the loss by step of both networks.

    python -m examples.diagnose --help
"""

import dataclasses
import pathlib
import sys
from typing import Any

if __package__ in (None, ""):  # run by its path
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

import jinit
from examples import _cli, _data, _figures
from examples._cli import option, parse


@dataclasses.dataclass(frozen=True)
class Options:
    """Find out why a deep network does not train, and mend it."""

    depth: int = option(30, "layers before the last")
    width: int = option(128, "units of each layer")
    steps: int = option(400, "steps of SGD with momentum")
    rate: float = option(0.01, "learning rate of SGD")
    batch_size: int = option(64, "images of a step")
    seed: int = option(0, "seed of all keys", least=0)
    out: str = option("results/diagnose", "the folder of the results")


class Perceptron(nn.Module):
    """The network has equal layers with relu between them, and ten classes."""

    depth: int
    width: int
    kernel_init: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(self.width, kernel_init=jinit.lecun(), name="input")(x)
        for number in range(1, self.depth):
            layer = nn.Dense(
                self.width, kernel_init=self.kernel_init, name=f"hidden_{number}"
            )
            x = layer(nn.relu(x))
        return nn.Dense(10, kernel_init=jinit.xavier(), name="classes")(nn.relu(x))


def main(argv: list[str] | None = None) -> int:
    """Probe, train, change one argument, probe and train again."""
    options = parse(Options, argv)
    console = _cli.console()
    images = _data.digits()
    runs = {}
    for title, init in (
        ("Flax's default", nn.initializers.lecun_normal()),
        ("jinit.he()", jinit.he()),
    ):
        model = Perceptron(options.depth, options.width, init)
        runs[title] = _look_and_train(title, model, images, options, console)
    _write(runs, options, console)
    return 0


def _look_and_train(
    title: str,
    model: nn.Module,
    images: _data.Images,
    options: Options,
    console: Console,
) -> dict[str, Any]:
    """Probe the fresh network and train it; return the report and the losses."""
    x, y = jnp.asarray(images.train_x, np.float32), jnp.asarray(images.train_y)
    params = model.init(jax.random.key(options.seed), x[:1])

    def loss(logits: Any, labels: jax.Array) -> jax.Array:
        costs = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return costs.mean()

    report = jinit.probe(model, params, x[:256], loss=lambda z: loss(z, y[:256]))
    console.rule(title)
    for words in list(map(str, report.verdict)) or ["the probe reports no problem"]:
        console.print(f"- {words}", markup=False)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(options.rate, 0.9))

    def step(carry: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        params, state = carry
        chosen = jax.random.randint(key, (options.batch_size,), 0, len(x))
        value, gradient = jax.value_and_grad(
            lambda params: loss(model.apply(params, x[chosen]), y[chosen])
        )(params)
        updates, state = tx.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    keys = jax.random.split(jax.random.key(options.seed + 1), options.steps)
    (params, _), losses = jax.jit(lambda carry: jax.lax.scan(step, carry, keys))(
        (params, tx.init(params))
    )
    logits: Any = model.apply(params, jnp.asarray(images.test_x, np.float32))
    accuracy = float(jnp.mean(logits.argmax(-1) == jnp.asarray(images.test_y)))
    console.print(f"after {options.steps} steps: test accuracy {accuracy:.1%}")
    return {"report": report, "losses": np.asarray(losses), "accuracy": accuracy}


def _write(runs: dict[str, Any], options: Options, console: Console) -> None:
    record = {
        title: {
            "verdict": [str(finding) for finding in run["report"].verdict],
            "loss": float(run["losses"][-20:].mean()),
            "accuracy": run["accuracy"],
        }
        for title, run in runs.items()
    }
    _cli.write(options.out, record, _figures.diagnosis(runs), console)


if __name__ == "__main__":
    sys.exit(main())
