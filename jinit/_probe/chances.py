"""The share of units that are dead by chance is measured on a layer's inputs.

A unit that is 0 for each of n inputs is a matter of chance if n is small or the inputs
are alike: of independent inputs the share is 2^-n, and of equal ones a half. A window
of one channel sees inputs that are more alike than all channels together. So no formula
gives the share, and it is measured with kernels that are drawn anew.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._network.fresh_products import can_be_drawn, never_positive
from .._network.kept import program
from .._network.record import Network
from .._network.taps import Tapped
from .statistics import may_be_infinite


class Suspect(NamedTuple):
    """A product by its number in the reading, and its step in the scans around it."""

    product: int
    step: tuple[int, ...]


def chances_of(net: Network, suspects: Sequence[Suspect]) -> Mapping[Suspect, float]:
    """Return the shares of units that would be dead by chance.

    Healthy networks have no suspects, and cost nothing. Products that cannot be
    computed again are left out.
    """
    trace, products = net._read.trace, net._read.reading.products
    pairs = [(one, products[one.product].input) for one in suspects]
    known = [(one, tap) for one, tap in pairs if tap and can_be_drawn(tap)]
    if not known:
        return {}
    taps = tuple({id(tap): tap for _, tap in known}.values())
    places_of_taps = {id(tap): number for number, tap in enumerate(taps)}
    steps = tuple((places_of_taps[id(tap)], one.step) for one, tap in known)
    tapped = Tapped(trace, taps)
    bare = tapped.bare
    run = program(
        ("chances", tapped.form, steps), lambda: functools.partial(_run, bare, steps)
    )
    with may_be_infinite():
        shares = jax.device_get(run(trace.consts, net.params, net.inputs))
    return {one: float(share) for (one, _), share in zip(known, shares, strict=True)}


def _run(
    tapped: Tapped,
    steps: Sequence[tuple[int, tuple[int, ...]]],
    consts: Sequence[Any],
    params: Any,
    inputs: tuple[Any, ...],
) -> list[jax.Array]:
    zeros = [jnp.zeros(tap.shape, tap.dtype) for tap in tapped.taps]
    _, values = tapped.run(consts, (params, inputs), zeros)
    return [
        never_positive(tapped.taps[number], values[number][step], key)
        for (number, step), key in zip(
            steps, jax.random.split(jax.random.key(0), len(steps)), strict=True
        )
    ]
