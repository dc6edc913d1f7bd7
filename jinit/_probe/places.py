"""The places of a network that a probe looks at: its rows, and the stream's."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from .._network.reader.records import Reading, Tap


class Places(NamedTuple):
    """The taps of a probe: first those of its rows, then those of the stream.

    `units` are the dimensions of the units of each tap. `inputs` has the number of the
    tap of each product's input, or None, and `sums` pairs: shortcut and branch.
    """

    taps: tuple[Tap, ...]
    rows: int
    units: tuple[tuple[int, ...], ...]
    # The numbers of the products whose output is measured, and of their inputs.
    products: tuple[tuple[int, int, int | None], ...]
    sums: tuple[tuple[int, int, int], ...]


def places_of(reading: Reading) -> Places:
    """Return the taps that a probe records."""
    taps: list[Tap] = []
    units: list[tuple[int, ...]] = []
    known: dict[Any, int] = {}

    def add(tap: Tap | None, dims: Sequence[int] = ()) -> int | None:
        if tap is None or not is_measured(tap):
            return None
        rank = len(tap.shape) - tap.scans
        here = tuple(dims) if dims and tuple(dims) != (rank - 1,) else (-1,)
        key = (*map(id, tap.place[:-1]), id(_variable(tap)), here)
        if key not in known:
            known[key] = len(taps)
            taps.append(tap)
            units.append(here)
        return known[key]

    numbers: dict[int, int] = {}
    for number, tap in enumerate(reading.taps):
        if is_measured(tap):
            numbers[number] = len(taps)
            known.setdefault(
                (*map(id, tap.place[:-1]), id(_variable(tap)), (-1,)), len(taps)
            )
            taps.append(tap)
            units.append((-1,))
    rows = len(taps)
    products = tuple(
        (number, numbers[product.output], add(product.input, product.units))
        for number, product in enumerate(reading.products)
        if product.output in numbers
    )
    sums = []
    for number, one in enumerate(reading.sums):
        shortcut, branch = add(one.shortcut), add(one.branch)
        if shortcut is not None and branch is not None:
            sums.append((number, shortcut, branch))
    return Places(tuple(taps), rows, tuple(units), products, tuple(sums))


def is_measured(tap: Tap) -> bool:
    """Tell whether a value has statistics; a single number, as a loss, has none."""
    is_real = bool(jnp.issubdtype(tap.dtype, jnp.floating))
    return is_real and len(tap.shape) > tap.scans


def _variable(tap: Tap) -> Any:
    eqn = tap.place[-1]
    atoms: Any = eqn.invars if tap.is_operand else eqn.outvars
    return atoms[tap.number]


def routers_of(reading: Reading, places: Places) -> list[int]:
    """Return the numbers of the taps that are the logits of routers."""
    return [
        output
        for number, output, _ in places.products
        if "router" in reading.layers[reading.products[number].layer].roles
        and places.taps[output].shape[-1] > 1
    ]
