"""Watch a training that goes wrong, hear why before it breaks, and mend it.

A perceptron on digits is trained by Adam, and its rate rises from step to step: the
warm-up has no end. `jinit.watch` names the tensor, the number and the cure some steps
before the loss is twice the first one. In the second run the rate is bounded, and the
watch finds nothing. A live table shows the tensors while they train. `jinit.probe`
looks at the signal every few steps; its first call compiles the model, and later calls
do not. A figure shows both runs.

    python -m examples.watch --help
"""

import dataclasses
import pathlib
import sys
import textwrap
from typing import Any

if __package__ in (None, ""):  # run by its path
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

import jinit
from examples import _cli, _data
from examples._cli import option, parse

# A run that goes wrong trains on for the figure, up to this many steps.
_AFTER = 40


@dataclasses.dataclass(frozen=True)
class Options:
    """Watch a training that goes wrong, and mend it."""

    depth: int = option(4, "layers before the last")
    width: int = option(128, "units of each layer")
    steps: int = option(300, "steps of Adam")
    rate: float = option(0.1, "learning rate after all steps")
    most: float = option(3e-3, "bound of the rate in the second run")
    batch_size: int = option(64, "images of a step")
    probe_every: int = option(50, "steps from probe to probe")
    show_every: int = option(10, "steps from table to table")
    seed: int = option(0, "seed of all keys", least=0)
    out: str = option("results/watch", "the folder of the results")


class Perceptron(nn.Module):
    """The network has equal layers with relu between them, and ten classes."""

    depth: int
    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for number in range(self.depth):
            layer = nn.Dense(
                self.width, kernel_init=jinit.he(), name=f"hidden_{number}"
            )
            x = nn.relu(layer(x))
        return nn.Dense(10, kernel_init=jinit.lecun(), name="classes")(x)


@dataclasses.dataclass
class Run:
    """A run has the losses, the first finding with its step, and the probes."""

    losses: list[float] = dataclasses.field(default_factory=list)
    finding: str | None = None
    step: int | None = None
    probes: dict[int, float] = dataclasses.field(default_factory=dict)
    report: Any = None

    @property
    def doubled(self) -> int | None:
        """Return the first step whose loss is not below twice the first loss."""
        # A loss of NaN is not below anything.
        is_high = ~(np.asarray(self.losses) < 2 * self.losses[0])
        return int(np.argmax(is_high)) + 1 if is_high.any() else None


def main(argv: list[str] | None = None) -> int:
    """Train at a rising rate, read the finding, and bound the rate."""
    options = parse(Options, argv)
    console = _cli.console()
    images = _data.digits()
    runs = {}
    rising = optax.linear_schedule(0.0, options.rate, options.steps)
    for title, rate in (
        ("rising", rising),
        ("bounded", lambda step: jnp.minimum(rising(step), options.most)),
    ):
        console.rule(f"the rate is {title}")
        runs[title] = run = _train(rate, images, options, console)
        console.print(run.report)
        if run.step is not None:
            console.print(f"step {run.step}: {run.finding}", markup=False)
            when = f"from step {run.doubled} on" if run.doubled else "never"
            console.print(f"the loss is at least twice the first loss: {when}")
    _write(runs, options, console)
    return 0


def _train(rate: Any, images: _data.Images, options: Options, console: Console) -> Run:
    """Train with a watch and a live table, and probe once in so many steps."""
    x, y = jnp.asarray(images.train_x), jnp.asarray(images.train_y)
    model = Perceptron(options.depth, options.width)
    params = model.init(jax.random.key(options.seed), x[:1])["params"]
    tx = jinit.watch(optax.adam(rate))

    def loss(logits: Any, labels: jax.Array) -> jax.Array:
        costs = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return costs.mean()

    # The probe is cached by its functions, so they are made once.
    def of_first(logits: Any) -> jax.Array:
        return loss(logits, y[:256])

    @jax.jit
    def step(params: Any, state: Any, key: jax.Array) -> tuple[Any, Any, jax.Array]:
        chosen = jax.random.randint(key, (options.batch_size,), 0, len(x))
        value, gradient = jax.value_and_grad(
            lambda params: loss(model.apply({"params": params}, x[chosen]), y[chosen])
        )(params)
        updates, state = tx.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    keys = jax.random.split(jax.random.key(options.seed + 1), options.steps)
    state, run = tx.init(params), Run()
    progress = Progress(
        TextColumn("step"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        console=console,
    )  # fmt: skip
    task = progress.add_task("train", total=options.steps, loss="")
    with Live(progress, console=console, transient=True) as live:
        for number, key in enumerate(keys, 1):
            if number % options.probe_every == 1:
                variables = {"params": params}
                report = jinit.probe(model, variables, x[:256], loss=of_first)
                run.probes[number] = float(report.rows[-1]["rms"])
            params, state, value = step(params, state, key)
            run.losses.append(float(value))
            run.report = jinit.watched(state)
            progress.update(task, advance=1, loss=f"loss {run.losses[-1]:.3f}")
            if number % options.show_every == 0:
                live.update(Group(progress, run.report))
            if run.step is None and run.report.findings:
                run.step, run.finding = number, str(run.report.findings[0])
            if run.step is not None and number >= run.step + _AFTER:
                break
    return run


def _write(runs: dict[str, Run], options: Options, console: Console) -> None:
    figure, axis = plt.subplots(figsize=(10, 4), layout="constrained")
    for (title, run), color in zip(runs.items(), ("#D55E00", "#0072B2"), strict=True):
        steps = range(1, len(run.losses) + 1)
        label = f"the rate is {title}"
        axis.plot(steps, run.losses, color=color, label=label)
        if run.step is not None and run.finding is not None:
            label = f"step {run.step}: the watch has a finding"
            axis.axvline(run.step, color=color, linestyle="--", label=label)
            axis.set_title(textwrap.fill(run.finding.split(". ")[0], 100), fontsize=9)
        if run.doubled is not None:
            axis.axvline(
                run.doubled, color="black", linestyle=":",
                label=f"step {run.doubled}: the loss has doubled",
            )  # fmt: skip
    axis.set(yscale="log", xlabel="step", ylabel="training loss (log)")
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axis.grid(alpha=0.25)
    record = {
        title: {
            "losses": run.losses,
            "finding": run.finding,
            "step": run.step,
            "doubled": run.doubled,
            "probes": run.probes,
        }
        for title, run in runs.items()
    }
    _cli.write(options.out, record, figure, console)


if __name__ == "__main__":
    sys.exit(main())
