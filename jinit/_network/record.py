"""A network is one record: what its parameters do, and their function."""

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from .._core import checks, trees
from .._core.results import Result, Row, Table, plain
from .._core.trees import listed
from .adapters import Adapted, adapt, trace, without_streams
from .kept import Kept, Traced, context, has_small_constants, traced_of, types_of
from .network_table import network_table
from .reader.read import read
from .reader.records import UNUSED, Branch, Layer, Parameter, Reading


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Network(Result):
    """A model, read from its equations.

    `parameters` maps paths to records with `roles`, `layout`, `fans`, `inputs`,
    `activation`, `uses` and `members`, in the order of first use. `layers` are the
    products with a parameter in the order of execution, `branches` the residual
    branches, `depth` is the number of residual additions. `apply(params, *inputs)` is
    the model as a pure function. `print(net)` shows a table.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> model = lambda p, x: jax.nn.relu(x @ p["up"].T) @ p["down"].T
      >>> params = {"up": jnp.ones((8, 4)), "down": jnp.ones((3, 8))}
      >>> net = jinit.network(model, params, jnp.ones((2, 4)))
      >>> net.parameters["down"].layout, net.parameters["down"].activation
      ('oi', 'relu')
      >>> net.parameters["up"].fans
      Fans(fan_in=4, fan_out=8)
    """

    parameters: Mapping[str, Parameter]
    layers: tuple[Layer, ...]
    branches: tuple[Branch, ...]
    depth: int
    apply: Callable[..., Any]
    params: Any
    inputs: tuple[Any, ...]
    _adapted: Adapted
    _read: "Read"

    @property
    def paths(self) -> tuple[str, ...]:
        """The path of each leaf of `params`, in JAX's order."""
        return self._adapted.paths

    def replace(self, params: Any) -> "Network":
        """Return the same network with other parameters.

        Args:
          params: a tree like `params`: the same paths, shapes and dtypes.

        Raises:
          TypeError: if a leaf is no array.
          ValueError: if the tree has other leaves.
        """
        here = {leaf.parts: leaf for leaf in trees.leaves(self.params)}
        trees.align("params", params, here, "the network")
        structure: Any = jax.tree.structure(self.params)
        params = structure.unflatten(jax.tree.leaves(params))
        return dataclasses.replace(self, params=params)

    def model(self) -> Any:
        """Return the parameters as the model's library has them.

        These are Linen's or Haiku's variables, or a model of NNX, Equinox, Keras or
        penzai that holds its arrays.

        Raises:
          ValueError: if the parameters have numbers, and other arrays of the model,
            such as batch statistics, were read as shapes and have none.
        """
        model = self._adapted.rebuild(self.params)
        if not any(map(_is_shape, jax.tree.leaves(self.params))):
            _require_numbers(model)
        return model

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON."""
        return {
            "parameters": self.rows,
            "layers": [_plain(layer) for layer in self.layers],
            "branches": [_plain(branch) for branch in self.branches],
            "depth": self.depth,
        }

    @property
    def rows(self) -> list[Row]:
        """A row of plain data for each parameter, in the order of first use."""
        return [_plain(parameter) for parameter in self.parameters.values()]

    def _table(self) -> Table:
        return network_table(self)

    def __repr__(self) -> str:
        return (
            f"<Network of {len(self.parameters)} parameters, {len(self.layers)} "
            f"layers, depth {self.depth}>"
        )


def _is_shape(x: Any) -> bool:
    return isinstance(x, jax.ShapeDtypeStruct)


def _require_numbers(model: Any) -> None:
    """Raise if a model has shapes in the place of arrays, all of which are named."""
    # A model without random streams can be read, and called where it draws nothing.
    leaves = trees.leaves(without_streams(model))
    shapes = [str(leaf) for leaf in leaves if _is_shape(leaf.value)]
    if shapes:
        raise ValueError(
            "the parameters have numbers, and the network was read from shapes, so "
            f"these arrays beside the parameters have none:{listed(shapes[:8])}\nRead "
            "the network from a model that has numbers, such as the variables of "
            "jinit.materialize(model.init)(key, x), and replace its parameters; or put "
            "`net.params` into such variables."
        )


def network(model: Any, *arguments: Any, rngs: Any = None, **options: Any) -> Network:
    """Read a model from its equations: what each parameter does in it.

    Nothing is computed: the model is traced, and its equations are read. The names of
    parameters and modules are never asked. A parameter whose use is not understood has
    the role "other" and a reason.

    Args:
      model: a Linen module, a function transformed by Haiku, any function of
        (variables, ...), or a model that holds its arrays (NNX, Equinox, Keras 3 on
        JAX, penzai).
      *arguments: exactly those with which one would call the model; for Linen, Haiku
        and functions the variables come first. `jax.ShapeDtypeStruct`s will do.
      rngs: a key, or Linen's dictionary of keys, where the call draws numbers.
      **options: keyword arguments of the call. `allow_unused=True` is no argument of
        the call: it allows parameters that the call does not use.

    Returns:
      A `Network`. A `Network` in the place of a model is returned as it is.

    Raises:
      TypeError: if `model` is not a model, its arguments do not fit, or it has effects.
      ValueError: if the model has no parameters, or does not use one, or raises an
        error of its own.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, jinit
      >>> model, ids = nn.Embed(100, 8), jnp.ones((2, 5), int)
      >>> net = jinit.network(model, model.init(jax.random.key(0), ids), ids)
      >>> sorted(net.parameters["embedding"].roles)
      ['embedding']
    """
    if isinstance(model, Network):
        if arguments or options or rngs is not None:
            raise TypeError(
                "`model` is a Network, which has its arguments already, and there are "
                "further arguments. Pass the Network alone, or the model itself."
            )
        return model
    allows_unused = checks.boolean("allow_unused", options.pop("allow_unused", False))
    adapted = adapt(model, arguments, rngs, options)
    read_before = _read(adapted)
    reading = read_before.reading
    if not allows_unused:
        _require_used(reading)
    return Network(
        MappingProxyType(dict(reading.parameters)),
        reading.layers,
        reading.branches,
        reading.depth,
        adapted.apply,
        adapted.params,
        adapted.inputs,
        adapted,
        read_before,
    )


def _require_used(reading: Reading) -> None:
    """Raise if the call does not use a parameter.

    Raises:
      ValueError: if so; all such parameters are named.
    """
    unused = [
        f"{one.path} {one.shape}"
        for one in reading.parameters.values()
        if one.reason == UNUSED
    ]
    if unused:
        raise ValueError(
            f"{len(unused)} parameters of the model are never used in this call:"
            f"{listed(unused[:8])}\nCall the model in the way that uses them, or take "
            "them out. allow_unused=True reads the model without them; their role is "
            'then "other".'
        )


class Read(NamedTuple):
    """A Read is a model that was read: its equations, and their reading.

    It holds neither parameters nor inputs.
    """

    trace: Traced
    reading: Reading


_READ: Kept[Read] = Kept(32)


def _read(adapted: Adapted) -> Read:
    """Read a model, or take what an equal call has read before."""
    paths, num_arguments = adapted.paths, adapted.num_arguments
    types = types_of((adapted.params, adapted.inputs)), context()

    def key() -> Hashable | None:
        model = adapted.key()
        return None if model is None else (model, paths, num_arguments, types)

    def make() -> Read:
        closed, shapes = trace(adapted)
        reading = read(closed, paths, len(paths), num_arguments)
        return Read(traced_of(closed, shapes), reading)

    return _READ.made(key, make, lambda read: has_small_constants(read.trace))


def _plain(record: Parameter | Layer | Branch) -> Row:
    """Return the fields of a record as text, numbers and lists."""
    row: Row = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if field.name == "fans":
            # The rows of a plan have these two keys as well.
            row |= {
                "fan_in": value and value.fan_in,
                "fan_out": value and value.fan_out,
            }
        else:
            row[field.name] = plain(_sorted(value))
    return row


def _sorted(value: Any) -> Any:
    # A set of roles has no order, and equal networks shall give equal data.
    return sorted(value) if isinstance(value, frozenset) else value
