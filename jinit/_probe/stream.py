"""The stream is what each layer reads, and what each branch adds to it.

A verdict on single rows cries wolf: a branch that starts at 0 gives 0 on purpose, and a
policy's head is meant to be small. What counts is what the next layer reads. So the
operand of each product is measured beside the rows of a report, and the two operands of
each residual sum.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._network.reader.records import Layer, Parameter, Reading
from .._network.taps import names_of
from .places import Places
from .statistics import MEASURES, ROUTER_STATISTICS

Numbers = Mapping[str, float]


class Stage(NamedTuple):
    """One execution of a layer: what it reads, and what it gives.

    The steps of a scan that share the weights of the layer are one stage.
    """

    path: str
    # The number of its product in the reading, and its first step in the scans.
    product: int
    first: tuple[int, ...]
    layer: Layer
    shape: tuple[int, ...]
    reads: Numbers | None
    gives: Numbers
    size: int
    router: Numbers | None
    # Whether it reads nothing but norms, by their scales.
    is_normed: bool

    @property
    def gain(self) -> float:
        """The rms behind the layer over the rms before it.

        It is that of what differs between inputs, in which no bias is, where this gives
        a smaller number. A few inputs differ in few directions, whose gain varies.
        """
        if self.reads is None:
            return math.nan
        before, after = _moving(self.reads), _moving(self.gives)
        whole = _over(self.gives["rms"], self.reads["rms"])
        differing = _over(after, before)
        return whole if math.isnan(differing) else min(whole, differing)

    @property
    def noise(self) -> float:
        """A factor by which the gain of so small a layer may vary by chance."""
        fans = self.layer.fans
        count = min(fans) if fans is not None else min(self.shape or (1,))
        return 1 + 1 / math.sqrt(max(1, count))

    def has(self, *roles: str) -> bool:
        """Tell whether the layer has one of some roles."""
        return not self.layer.roles.isdisjoint(roles)


class Joint(NamedTuple):
    """One residual sum: the sizes of the shortcut and of the branch."""

    path: str
    ends: tuple[str, ...]
    shortcut: float
    branch: float
    key: tuple[Any, ...]

    @property
    def share(self) -> float:
        """The rms of the branch over that of the shortcut."""
        return self.branch / self.shortcut if self.shortcut > 0 else math.nan


class Softmax(NamedTuple):
    """The logits of one attention: `heads` has the numbers of each head.

    They are the std along the keys, and the entropy of the softmax over the largest
    possible one, which is 1 where each query has one key alone.
    """

    path: str
    keys: int
    heads: tuple[Numbers, ...]

    @property
    def std(self) -> float:
        """The std of the logits of all heads."""
        return math.sqrt(np.mean([head["std"] ** 2 for head in self.heads]))

    @property
    def least_entropy(self) -> float:
        """The entropy of the head where it is least."""
        return min(head["entropy"] for head in self.heads)


class Activation(NamedTuple):
    """An activation, and the last layer before it."""

    path: str
    name: str
    numbers: Numbers
    behind: str
    units: int


class Loss(NamedTuple):
    """The first loss, if the user has given a loss, and that of guessing, if known."""

    value: float | None = None
    guess: float | None = None
    # The std of the output, where it is not that of the last layer.
    logits: float | None = None
    # The loss of an output of zeros, which are equal logits.
    flat: float | None = None


class Stream(NamedTuple):
    """Everything that a verdict looks at beside the rows of a report."""

    stages: tuple[Stage, ...]
    joints: tuple[Joint, ...]
    softmaxes: tuple[Softmax, ...]
    activations: tuple[Activation, ...]
    # The paths of the weights on residual branches.
    inside: frozenset[str]


def attention_rows(stream: Stream) -> Iterator[dict[str, Any]]:
    """Yield a row for each head of each attention."""
    for one in stream.softmaxes:
        for number, head in enumerate(one.heads):
            yield {"path": one.path, "head": number, "keys": one.keys, **head}


def _over(after: float, before: float) -> float:
    return after / before if before > 0 else math.nan


def _moving(numbers: Numbers) -> float:
    return numbers["varied"] * numbers["rms"]


def stream_of(
    reading: Reading,
    places: Places,
    outputs: Sequence[np.ndarray],
    logits: Mapping[int, np.ndarray],
    routers: Mapping[int, np.ndarray],
) -> Stream:
    """Return the stream of a run, from the statistics of its taps.

    Args:
      reading: the network's.
      places: its taps.
      outputs: the numbers of `MEASURES` for each tap, behind the axes of scans.
      logits: the numbers of `logit_statistics` by the tap.
      routers: those of `ROUTER_STATISTICS` by the tap.
    """
    rows = places.taps[: places.rows]
    order = {
        (number, step): (place, path)
        for place, (number, step, path) in enumerate(names_of(rows))
    }
    stages = [
        (order[output, first][0], stage)
        for number, output, read in places.products
        for first, stage in _stages(
            reading, places, number, output, read, outputs, routers, order
        )
    ]
    stages.sort(key=lambda pair: pair[0])
    softmaxes = [
        Softmax(
            path,
            math.prod(
                rows[number].shape[rows[number].scans + d] for d in rows[number].keys
            ),
            tuple(map(_head, logits[number][step].tolist())),
        )
        for (number, step), (_, path) in order.items()
        if number in logits
    ]
    activations, behind = [], "the input"
    for (number, step), (_, path) in order.items():
        if rows[number].kind == "layer":
            behind = path
        elif rows[number].kind == "activation":
            name = rows[number].name.rpartition("/")[2]
            numbers = _named(outputs[number][step])
            units = rows[number].shape[-1]
            activations.append(Activation(path, name, numbers, behind, units))
    joints = _joints(reading, places, outputs)
    return Stream(
        tuple(stage for _, stage in stages),
        tuple(joints),
        tuple(softmaxes),
        tuple(activations),
        frozenset(path for one in reading.sums for path in one.layers),
    )


def _head(line: Sequence[float]) -> dict[str, float]:
    variance, entropy, possible = line
    share = entropy / possible if possible > 0 else 1.0
    return {"std": math.sqrt(variance), "entropy": share}


def _named(values: np.ndarray) -> dict[str, float]:
    return dict(zip(MEASURES, values.tolist(), strict=True))


def _stages(
    reading: Reading,
    places: Places,
    number: int,
    output: int,
    read: int | None,
    outputs: Sequence[np.ndarray],
    routers: Mapping[int, np.ndarray],
    order: Mapping[Any, Any],
) -> Iterator[tuple[tuple[int, ...], Stage]]:
    """Yield the stages of a layer, each with its first step in the scans around it."""
    product = reading.products[number]
    layer = reading.layers[product.layer]
    parameter: Parameter = reading.parameters[layer.path]
    tap = places.taps[output]
    shared = product.shared
    axes = tuple(axis for axis, same in enumerate(shared) if same)
    lengths = tuple(n for n, same in zip(tap.shape, shared, strict=False) if not same)
    values = [outputs[output], None if read is None else outputs[read]]
    gives, reads = (_joined(array, axes) for array in values)
    chosen = _joined_routers(routers.get(output), axes)
    size = math.prod(tap.shape) // math.prod(lengths)
    makers = [reading.parameters.get(path) for path in layer.inputs]
    is_normed = bool(makers) and all(p and "scale" in p.roles for p in makers)
    for step in np.ndindex(*lengths):
        left = iter(step)
        first = tuple(0 if same else next(left) for same in shared)
        yield (
            first,
            Stage(
                order[output, first][1],
                number,
                first,
                layer,
                parameter.shape,
                None if reads is None else _named(reads[step]),
                _named(gives[step]),  # type: ignore[index]
                size,
                None
                if chosen is None
                else dict(zip(ROUTER_STATISTICS, chosen[step].tolist(), strict=True)),
                is_normed,
            ),
        )


_LARGEST = {"varied", "spread", "bottom", "middle", "top"}
_LEAST = {"dead", "saturation"}


def _joined(values: np.ndarray | None, axes: tuple[int, ...]) -> np.ndarray | None:
    """Join the steps that share the weights of a layer.

    The first step of a recurrent cell reads zeros; so the state is lost only if it is
    lost at every step.
    """
    if values is None or not axes:
        return values
    values = values.astype(np.float64)
    columns = []
    with np.errstate(all="ignore"):
        for index, name in enumerate(MEASURES):
            column = values[..., index]
            if name in _LARGEST:
                columns.append(np.fmax.reduce(column, axes))
            elif name in _LEAST:
                columns.append(column.min(axes))
            elif name in ("rms", "std", "grad_rms"):
                columns.append(np.sqrt((column**2).mean(axes)))
            else:
                columns.append(column.mean(axes))
    return np.stack(columns, -1)


def _joined_routers(
    values: np.ndarray | None, axes: tuple[int, ...]
) -> np.ndarray | None:
    return values if values is None or not axes else values.mean(axes)


def _joints(
    reading: Reading, places: Places, outputs: Sequence[np.ndarray]
) -> Iterator[Joint]:
    """Yield the residual sums in the order of execution."""
    rms = MEASURES.index("rms")
    found: list[tuple[Any, ...]] = []
    for place, (number, shortcut, branch) in enumerate(places.sums):
        one = reading.sums[number]
        tap = places.taps[shortcut]
        shapes = tuple(reading.parameters[path].shape for path in one.layers)
        for step in np.ndindex(*tap.shape[: tap.scans]):
            suffix = "".join(f"[{i}]" for i in step)
            end = (one.ends or one.layers or ("",))[-1]
            found.append(
                (
                    (place, step),
                    Joint(
                        end + suffix,
                        one.ends,
                        float(outputs[shortcut][step][rms]),
                        float(outputs[branch][step][rms]),
                        (shapes, tap.shape[tap.scans :]),
                    ),
                )
            )
    yield from (joint for _, joint in sorted(found, key=lambda pair: pair[0][1]))
