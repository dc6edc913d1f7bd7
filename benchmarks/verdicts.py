"""How far the verdicts of `jinit.probe` can be trusted, measured.

python -m benchmarks.verdicts --help

Each architecture is probed healthy, where any finding is a false alarm, and spoiled in
eight ways. A spoiled network is caught if there is a finding, and the layer is right if
the first finding names a layer that was spoiled. The limits were chosen on the
first half of the architectures; no limit has seen the second half.

A fault may not change what a network computes: a norm removes the factor of the layer
before it. So if a spoiled network has no finding, its output is compared with that of
the healthy one.
"""

import argparse
import math
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich import box
from rich.console import Console
from rich.table import Table

import jinit
from benchmarks import _page
from benchmarks._verdict_clean import CLEAN
from benchmarks._verdict_zoo import CHOSEN, CLASSES, Architecture, inputs
from jinit._core import trees

Network = Any
_ALL = "spoiled in all"


class Spoiled(NamedTuple):
    """A network with a fault, and the paths of the parameters that have it."""

    net: Network
    paths: frozenset[str]


class Outcome(NamedTuple):
    """The findings of a probe, and whether the first one names the fault.

    `is_as_before` says that the output is that of the healthy network, up to a factor.
    """

    findings: list[Any]
    is_right: bool
    is_as_before: bool


def main(argv: list[str] | None = None) -> int:
    """Probe everything; print a table for each half."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.verdicts", description=__doc__
    )
    parser.add_argument("names", nargs="*", help="architectures; all by default")
    parser.add_argument("--quick", action="store_true", help="two of each half")
    _page.add_option(parser)
    arguments = parser.parse_args(argv)
    docs = _page.folder(parser, arguments)
    halves = {}
    for title, half in (("limits chosen on", CHOSEN), ("set aside", CLEAN)):
        names = [n for n in half if not arguments.names or n in arguments.names]
        names = names[:2] if arguments.quick else names
        outcomes = {name: outcomes_of(half[name]) for name in names}
        if outcomes:
            halves[title] = outcomes
            Console(width=130).print(_table(title, outcomes))
    if docs:
        _write(docs, halves, arguments.names)
    return 0


def outcomes_of(architecture: Architecture) -> dict[str, Outcome]:
    """Probe an architecture healthy and spoiled."""
    x = inputs(architecture.kind)
    net = _network(architecture, x, -1)
    cases: dict[str, Spoiled] = {"healthy": Spoiled(net, frozenset())}
    cases |= dict(_spoiled(architecture, net, x))
    before = net.apply(net.params, *net.inputs)
    return {name: _probed(case, before) for name, case in cases.items()}


def _network(architecture: Architecture, x: jax.Array, drop: int) -> Network:
    model = architecture.make(drop)
    variables = model.init(jax.random.key(5), x)

    def apply(variables: Any, x: jax.Array) -> Any:
        output = model.apply(variables, x, mutable=["batch_stats"])[0]
        return architecture.output(output)

    # A policy's critic is not used where the actor alone is looked at.
    return jinit.network(apply, variables, x, allow_unused=True)


def cross_entropy(logits: jax.Array) -> jax.Array:
    """Return the loss of logits whose labels have nothing to do with the inputs."""
    rows = logits.reshape(-1, CLASSES)
    return optax.softmax_cross_entropy_with_integer_labels(
        rows, jnp.arange(len(rows)) % CLASSES
    ).mean()


def _probed(case: Spoiled, before: jax.Array) -> Outcome:
    loss = cross_entropy if before.shape[-1] == CLASSES else None
    findings = jinit.probe(case.net, loss=loss).verdict
    is_right = bool(findings) and any(_names(findings[0], path) for path in case.paths)
    output = case.net.apply(case.net.params, *case.net.inputs)
    return Outcome(findings, is_right, _is_multiple(output, before))


def _is_multiple(output: jax.Array, before: jax.Array) -> bool:
    """Tell whether an output is a multiple of another one, up to 2 % of its rms."""
    x, y = (np.asarray(array, np.float64).ravel() for array in (output, before))
    if not np.any(x) or not np.any(y):
        # A head of zeros shows nothing.
        return False
    return bool(np.linalg.norm(x - (x @ y) / (y @ y) * y) < 0.02 * np.linalg.norm(x))


def _names(finding: Any, path: str) -> bool:
    """Tell whether a finding names the module of a parameter, or a softmax in it."""
    place = re.split(r"[#\[]", finding.path.removeprefix("params/"))[0]
    module = path.removeprefix("params/").rpartition("/")[0]
    above = place.removesuffix("/softmax")
    is_in_message = f" {module} " in re.sub(r"\[\d+\]", "", finding.message)
    return f"{module}/".startswith(f"{above}/") or place == path or is_in_message


def _spoiled(
    architecture: Architecture, net: Network, x: jax.Array
) -> Iterator[tuple[str, Spoiled]]:
    """Yield the network with each of the faults that it can have."""
    kernels = [
        path
        for path, parameter in net.parameters.items()
        if parameter.roles & {"matrix", "convolution"} and _size(net, path) > 0
    ]
    heads = [p for p in kernels if "readout" in net.parameters[p].roles]
    hidden = [p for p in kernels if p not in heads]
    ends = [end for branch in net.branches for end in branch.ends if end in hidden]
    middle = hidden[len(hidden) // 2]
    yield "init x 3", _scaled(net, dict.fromkeys(kernels, 3.0))
    yield "init x 0.3", _scaled(net, dict.fromkeys(kernels, 0.3))
    yield "a layer x 30", _scaled(net, {middle: 30.0})
    if ends:
        yield "a branch x 10", _scaled(net, {ends[len(ends) // 2]: 10.0})
    factors = {path: _wrong_fans(net.parameters[path]) for path in kernels}
    factors = {p: f for p, f in factors.items() if not 1 / 3 < f < 3}
    if factors:
        yield "wrong fans", _scaled(net, factors)
    dropped = _dropped(architecture, net, x)
    if dropped is not None:
        yield "a dropped norm", dropped
    # Ten times 1e-5 are no trouble.
    heads = [path for path in heads if _gain(net, path) > 0.1]
    if heads:
        yield "logits x 10", _scaled(net, {heads[0]: 10.0})
    half = _half_dead(net, hidden)
    if half is not None:
        yield "a dead half", half


def _size(net: Network, path: str) -> float:
    return float(jnp.max(jnp.abs(_leaf(net, path))))


def _gain(net: Network, path: str) -> float:
    fan_in = net.parameters[path].fans.fan_in
    return math.sqrt(fan_in) * float(jnp.std(_leaf(net, path)))


def _leaf(net: Network, path: str) -> Any:
    leaves = {leaf.path: leaf.value for leaf in trees.leaves(net.params)}
    return leaves[path]


def _changed(net: Network, change: Callable[[str, Any], Any]) -> Network:
    leaves = trees.leaves(net.params)
    new = [change(leaf.path, leaf.value) for leaf in leaves]
    return net.replace(jax.tree.unflatten(jax.tree.structure(net.params), new))


def _scaled(net: Network, factors: Mapping[str, float]) -> Spoiled:
    changed = _changed(net, lambda path, w: w * factors.get(path, 1.0))
    return Spoiled(changed, frozenset(factors))


def _wrong_fans(parameter: Any) -> float:
    """Return the factor of a kernel whose fans were taken from a wrong axis.

    Of a matrix it is the last axis. Of a window it is the first, and of experts, and of
    the heads that attention has made.
    """
    axis = -1 if len(parameter.shape) == 2 else 0
    return math.sqrt(parameter.fans.fan_in / parameter.shape[axis])


def _dropped(architecture: Architecture, net: Network, x: jax.Array) -> Spoiled | None:
    """Return the network without the norm of a block, with the same kernels."""
    other = _network(architecture, x, 2)
    before = {leaf.path: leaf.value for leaf in trees.leaves(net.params)}
    gone = set(before) - {leaf.path for leaf in trees.leaves(other.params)}
    if not gone:
        return None
    kept = _changed(other, lambda path, w: before[path])
    readers = {
        path
        for path, parameter in net.parameters.items()
        if gone.intersection(parameter.inputs)
    }
    return Spoiled(kept, frozenset(readers))


def _half_dead(net: Network, hidden: list[str]) -> Spoiled | None:
    """Return the network with half of the units of a layer below 0 for every input."""
    readers = [
        p
        for p in net.parameters.values()
        if p.activation in ("relu", "gelu", "silu") and len(p.inputs) == 1
    ]
    makers = [p.inputs[0] for p in readers]
    biases = [
        path.removesuffix("kernel").removesuffix("scale") + "bias" for path in makers
    ]
    biases = [path for path in biases if path in net.parameters]
    if not biases:
        return None
    sick = biases[len(biases) // 2]

    def change(path: str, w: Any) -> Any:
        if path != sick:
            return w
        return jnp.where(jnp.arange(w.shape[-1]) < w.shape[-1] / 2, -100.0, w)

    module = sick.removesuffix("bias")
    behind = [p for p in net.parameters.values() if p.path.startswith(module)]
    inputs = {path for p in behind for path in p.inputs if path != "data"}
    # A norm with such biases is named by the layer before it.
    return Spoiled(_changed(net, change), frozenset({sick, *inputs}))


def _table(title: str, outcomes: Mapping[str, Mapping[str, Outcome]]) -> Table:
    """Return a line for each way of spoiling, and the sums."""
    table = Table("networks " + title, "networks", "findings", "layer is right",
                  "silent for, or wrong layer", box=box.SIMPLE)  # fmt: skip
    for way, counts in _counts(outcomes).items():
        table.add_row(way, *map(str, counts), _open(way, _cases_of(way, outcomes)))
    return table


def _counts(outcomes: Mapping[str, Mapping[str, Outcome]]) -> dict[str, np.ndarray]:
    """Return networks, findings and right layers of each way, and their sum."""
    result = {}
    for way in dict.fromkeys(way for cases in outcomes.values() for way in cases):
        cases = _cases_of(way, outcomes).values()
        caught = sum(bool(case.findings) for case in cases)
        result[way] = np.array([len(cases), caught, sum(c.is_right for c in cases)])
    spoiled = [count for way, count in result.items() if way != "healthy"]
    return result | {_ALL: np.sum(spoiled, axis=0)}


def _cases_of(
    way: str, outcomes: Mapping[str, Mapping[str, Outcome]]
) -> dict[str, Outcome]:
    return {name: o[way] for name, o in outcomes.items() if way in o}


_ABOUT = """\
Small networks of {count} architectures are probed as they are, where any finding is a
false alarm, and again with each of eight planted faults. A spoiled network is caught if
there is a finding. The layer is right if the first finding names a layer that was
spoiled; where all layers are spoiled, any layer is right. "Wrong fans" counts kernels
whose inputs were counted on a wrong axis, if that is a factor of 3 or more; "logits x
10" leaves out heads that start near 0.

The limits and rules of `probe` were chosen on the architectures of the first columns.
Those of the last columns were written afterwards, and no limit was changed after they
were run."""
_REASONS = """\
Why a fault stays silent:

- **Nothing is wrong but the size of the weights.** GPT-2's 0.02 is small in narrow
  models on purpose, and 0.3 times as much is as harmless to the signal: norms hide it.
  The same holds for a stack whose kernels all have one fan-in, for DeepNorm's branches,
  for a generator with normal(0.02), for Fixup, whose branches and head give 0 at any
  size, and for a readout of a regression that is four times as large. Only the relative
  size of the first steps differs, and no limit on it distinguishes such models from
  healthy ones. Where a list has "function as before", the spoiled network computes the
  same, up to a factor.
- **Too few units.** Two of the four units of a squeezed gate are dead: chance does that
  in a healthy gate, too.
- **No similar layers to compare with.** One of four transposed convolutions lacks its
  norm; the rule asks for four others.
- **Two laws in one network.** The graph network and the highway network have kernels
  from He's law and from LeCun's. Where all layers are 0.3 times as large, `probe`
  misses it, since its rule looks for kernels that all follow one law of their fans."""


def _write(
    docs: pathlib.Path,
    halves: Mapping[str, Mapping[str, Mapping[str, Outcome]]],
    names: Sequence[str],
) -> None:
    """Write the counts of both halves, and the names of what stayed silent."""
    counts = {title: _counts(outcomes) for title, outcomes in halves.items()}
    ways = dict.fromkeys(way for one in counts.values() for way in one if way != _ALL)
    cells = ("networks", "caught", "right layer")
    head = ["networks", *(f"{title}: {cell}" for title in halves for cell in cells)]
    rows = [
        [way, *(text for one in counts.values() for text in _shares(way, one))]
        for way in (*ways, _ALL)
    ]
    rows[0][0] = "healthy (caught: false alarms)"
    misses = [
        f"- {way}, {title}: {text}"
        for title, outcomes in halves.items()
        for way in ways
        if (text := _open(way, _cases_of(way, outcomes)))
    ]
    misses = misses or ["- none"]
    silent = "Silent, or the wrong layer:\n\n" + "\n".join(map(_page.item, misses))
    command = " ".join(["python -m benchmarks.verdicts", *map(repr, names)])
    about = _ABOUT.format(count=sum(map(len, halves.values())))
    part = _page.Part(
        "diagnosis", "verdicts", "False alarms and misses of `probe`", command, about,
        [_page.table(head, rows), silent, _page.measured(), _REASONS],
    )  # fmt: skip
    _page.write(docs, part)


def _shares(way: str, counts: Mapping[str, np.ndarray]) -> list[str]:
    """Return the cells of a way to spoil: counts, or shares of the sum."""
    if way not in counts:
        return ["", "", ""]
    number, caught, right = counts[way]
    if way == "healthy":
        return [str(number), str(caught), ""]
    if way != _ALL:
        return [str(number), str(caught), str(right)]
    return [str(number), f"{caught / number:.0%}", f"{right / number:.0%}"]


def _open(way: str, cases: Mapping[str, Outcome]) -> str:
    """Name the false alarms, or the networks that are silent or name a wrong layer."""
    if way == "healthy":
        return "; ".join(
            f"{name}: {case.findings[0].category} {case.findings[0].path}"
            for name, case in cases.items()
            if case.findings
        )
    return "; ".join(
        f"{name}{_why(case)}" for name, case in cases.items() if not case.is_right
    )


def _why(case: Outcome) -> str:
    if case.findings:
        return f" ({case.findings[0].category} {case.findings[0].path})"
    return " (function as before)" if case.is_as_before else ""


if __name__ == "__main__":
    sys.exit(main())
