"""A model of the zoo, and a table of what is true of each of its parameters.

Each table was derived by hand from the model's equations. A row is

    path   layout   fan_in   fan_out   roles...   # the equation that shows it

`{0,1}` in a path stands for several rows. A layout has a letter per axis, as in
`jinit.fans`; `none` says that the parameter is in no product, and `.` (as in the place
of a number) that nothing is claimed. A role that ends in `?` may be there or not, and
of `bias|other` at least one must be there: the equations allow these readings.
"""

import functools
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jinit._network.adapters.adapted import paths_of

# The roles that the tables list in full. "matrix" and "hidden" follow from the others.
TELLING = frozenset(
    """embedding input readout query key value attention_output residual_output gate up
    router expert recurrent bias scale other convolution""".split()  # noqa: SIM905
)


class Fact(NamedTuple):
    """What is true of one parameter; None where nothing is claimed."""

    layout: str | None
    fan_in: int | None
    fan_out: int | None
    roles: frozenset[str]
    # Of each of these sets at least one.
    either: tuple[frozenset[str], ...]
    perhaps: frozenset[str]

    def allows(self, roles: frozenset[str]) -> bool:
        """Tell whether a parameter may have exactly these telling roles."""
        allowed = self.roles.union(self.perhaps, *self.either)
        return self.roles <= roles <= allowed and all(
            one & roles for one in self.either
        )


class Model(NamedTuple):
    """A model with the arguments of its call, and what is true of it."""

    model: Any
    arguments: tuple[Any, ...]
    facts: dict[str, Fact]
    # The number of residual additions; None where it is a matter of definition.
    depth: int | None
    options: dict[str, Any]
    rngs: Any = None


def known(
    model: Any,
    *arguments: Any,
    table: str,
    depth: int | None,
    rngs: Any = None,
    **options: Any,
) -> Model:
    """Make an entry of the zoo."""
    return Model(model, arguments, facts(table), depth, options, rngs)


def facts(table: str) -> dict[str, Fact]:
    """Read a table."""
    rows: dict[str, Fact] = {}
    for line in table.splitlines():
        cells = line.partition("#")[0].split()
        if not cells:
            continue
        path, layout, fan_in, fan_out, *roles = cells
        fact = Fact(
            None if layout == "." else layout,
            _number(fan_in),
            _number(fan_out),
            frozenset(role for role in roles if role.isidentifier()),
            tuple(frozenset(role.split("|")) for role in roles if "|" in role),
            frozenset(role[:-1] for role in roles if role.endswith("?")),
        )
        assert fact.roles.union(fact.perhaps, *fact.either) <= TELLING, line
        for one in _expanded(path):
            assert one not in rows, one
            rows[one] = fact
    return rows


def differences(net: Any, table: Mapping[str, Fact]) -> list[str]:
    """List where a network and a table disagree about the table's parameters."""
    parameters = net.parameters
    lines = [f"{path}: not in the network" for path in table if path not in parameters]
    for path in table.keys() & parameters.keys():
        texts = _of_one(parameters[path], table[path])
        lines += [f"{path}: {text}" for text in texts]
    return sorted(lines)


def _of_one(parameter: Any, fact: Fact) -> Iterator[str]:
    roles = parameter.roles & TELLING
    if not fact.allows(roles):
        expected = [*sorted(fact.roles), *map(sorted, fact.either)]
        yield f"roles {sorted(roles)}, not {expected} ({parameter.reason})"
    if "other" in roles and not parameter.reason:
        yield "no reason"
    layout = parameter.layout or "none"
    if fact.layout not in (None, layout):
        yield f"layout {layout}, not {fact.layout}"
        return
    for name in ("fan_in", "fan_out"):
        expected, fans = getattr(fact, name), parameter.fans
        if expected is not None and expected != getattr(fans, name, None):
            yield f"{name} {getattr(fans, name, None)}, not {expected}"
    if fact.layout not in (None, "none"):
        yield from _of_products(parameter, fact)


def _of_products(parameter: Any, fact: Fact) -> Iterator[str]:
    pairs = zip(fact.layout or "", parameter.shape, strict=True)
    members = math.prod(size for letter, size in pairs if letter == "b")
    if parameter.members != members:
        yield f"{parameter.members} members, not {members}"
    is_matrix = not fact.roles & {"convolution", "embedding"}
    if is_matrix and "matrix" not in parameter.roles:
        yield "no matrix"


def _number(text: str) -> int | None:
    return None if text == "." else int(text)


def _expanded(path: str) -> list[str]:
    parts = re.split(r"\{([^}]*)\}", path)
    choices = [
        part.split(",") if number % 2 else [part] for number, part in enumerate(parts)
    ]
    return ["".join(one) for one in itertools.product(*choices)]


def shapes(init: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Return the shapes of what an initialization returns."""
    init = functools.partial(init, **options)
    return jax.eval_shape(init, jax.random.key(0), *arguments)


def floats(*shape: int) -> jax.ShapeDtypeStruct:
    """Return an input of real numbers."""
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def tokens(*shape: int) -> jax.ShapeDtypeStruct:
    """Return an input of whole numbers."""
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def dense(*shape: int) -> jax.ShapeDtypeStruct:
    """Return the shape of a parameter."""
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def scrambled(apply: Callable[..., Any], params: Any) -> tuple[Any, Any, dict]:
    """Return a function of parameters with names that mean nothing, in another order.

    Returns:
      The function, its parameters {"a0": ...}, and the old path of each new one.
    """
    leaves, structure = jax.tree.flatten(params)
    # JAX sorts a dictionary by its keys, so the last leaf becomes the first.
    names = [f"a{number:03}" for number in reversed(range(len(leaves)))]
    renamed = {name: leaves[i] for i, name in enumerate(names)}
    paths = dict(zip(names, paths_of(params), strict=True))

    def function(renamed: Any, *inputs: Any) -> Any:
        return apply(structure.unflatten(renamed[name] for name in names), *inputs)

    return function, renamed, paths
