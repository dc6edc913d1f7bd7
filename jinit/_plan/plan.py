"""Rules + shapes -> plan -> params; new values for a part of a tree."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.tree_util import PyTreeDef

from .._core import checks, trees
from .._core.patterns import Pattern
from .._core.results import Result, Table
from .._core.trees import Leaf, listed
from .._initializer.foreign import BoundInitializer, Samplers
from .._network.shardings import by_path as _by_path
from .._network.shardings import placement
from .leaf import Planned, from_config, leaf_of, nested, row, spell, to_config
from .rules import choose, keep, resolve, rules_of, within
from .table import table


@dataclasses.dataclass(frozen=True, repr=False)
class Plan(Result):
    """What every leaf of a tree is drawn from: a value to look at, save and draw.

    `jinit.plan` makes it. `print(plan)` shows a table, `plan.rows` the same as plain
    data. Equal plans draw equal values from equal keys.

    The key of a leaf is the root key folded with 64 bits of a hash of its path. So
    values do not depend on other leaves, on their order, on jit or on the mesh, and no
    two leaves share them.

    Example:
      >>> import jax, jinit
      >>> shapes = {"w": jax.ShapeDtypeStruct((4, 3), "float32")}
      >>> plan = jinit.plan(shapes, [("w", jinit.he())])
      >>> plan.init(jax.random.key(0))["w"].shape
      (4, 3)
      >>> plan.rows[0]["fan_in"], plan.rows[0]["std"] == (2 / 4) ** 0.5
      (4, True)
    """

    leaves: tuple[Planned, ...]
    _structure: PyTreeDef
    # The values of the kept leaves; a plan of structs or of a configuration has none.
    _kept: dict[tuple[str, ...], Any] = dataclasses.field(compare=False)
    _samplers: Samplers = dataclasses.field(compare=False)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Return one dict of plain data for each leaf, in the order of the tree.

        Keys: path, shape, dtype, layout, fan_in, fan_out, initializer, std (as the law
        predicts it), parameters (how many numbers). A value is None if the leaf has no
        such property: a kept function or string has no shape.
        """
        return [row(leaf) for leaf in self.leaves]

    @property
    def shapes(self) -> Any:
        """Return the tree with a `jax.ShapeDtypeStruct` for each array."""
        structs = [leaf.value for leaf in self.leaves]
        return jax.tree.unflatten(self._structure, structs)

    def __reduce__(self) -> Any:
        # Compiled programs and JAX's structures are not pickled; trees are.
        values = [self._kept.get(leaf.parts, leaf.value) for leaf in self.leaves]
        tree = jax.tree.unflatten(self._structure, values)
        return _build, (tree, [leaf.init for leaf in self.leaves])

    def __repr__(self) -> str:
        return str(self)

    def _table(self) -> Table:
        return table(self.rows)

    def init(self, key: jax.Array, shardings: Any = None) -> Any:
        """Draw every leaf; those that the plan keeps are what it was made from.

        Args:
          key: a PRNG key.
          shardings: how leaves are laid out over devices: a tree of shardings,
            PartitionSpecs or `ShapeDtypeStruct`s that have a sharding, or a prefix of
            one (a single sharding serves all); a function `(path, ShapeDtypeStruct) ->
            sharding`; or "metadata", for what `nn.with_partitioning` says. None, also
            inside a tree, for the sharding of the `ShapeDtypeStruct` that the plan was
            made from, or else JAX's choice. No device holds more than its part, and the
            values are the same. A kept number with a sharding becomes an array.

        Returns:
          A tree as that of the plan.

        Raises:
          TypeError: if `key` is no key, or `shardings` no shardings.
          ValueError: for kept leaves whose value the plan does not know, and for
            shardings that do not fit; before anything is drawn.

        Example:
          >>> import jax, jinit
          >>> shapes = {"w": jax.ShapeDtypeStruct((2, 3), "bfloat16")}
          >>> plan = jinit.plan(shapes, [("w", jinit.normal())])
          >>> plan.init(jax.random.key(0))["w"].dtype.name
          'bfloat16'
        """
        checks.key(key)
        places = self._places(shardings)
        self._check_holds([x for x in self.leaves if x.init is keep])
        drawn = [self._value(key, leaf, places[leaf.parts]) for leaf in self.leaves]
        return jax.tree.unflatten(self._structure, drawn)

    def reinit(
        self, key: jax.Array, params: Any, only: Any = None, donate: bool = False
    ) -> Any:
        """Draw some leaves of `params` again; all others are the same arrays.

        A leaf has the value that `plan.init(key)` gives it, and is laid out over
        devices as the one that it replaces.

        Args:
          key: a PRNG key; another than the one that drew `params`.
          params: a tree with the plan's paths, shapes and dtypes.
          only: a pattern as in a rule: the leaves to draw. By default all that the plan
            does not keep.
          donate: whether to delete the arrays that are replaced, each before its
            successor is drawn, so that memory does not grow.

        Returns:
          A tree as that of `params`.

        Raises:
          TypeError: if `key` is no key, or `only` no pattern.
          ValueError: for paths, shapes or dtypes that are not the plan's, a pattern
            that matches nothing, or only what the plan keeps; before anything is drawn.

        Example:
          >>> import jax, jax.numpy as jnp, jinit
          >>> params = {"body": jnp.ones((4, 4)), "head": jnp.ones((4, 2))}
          >>> plan = jinit.plan(params, [("**", jinit.lecun())])
          >>> new = plan.reinit(jax.random.key(0), params, only="head")
          >>> new["body"] is params["body"], bool((new["head"] == 1).any())
          (True, False)
        """
        checks.key(key)
        found = self._align("params", params)
        chosen = self._chosen(found, only)
        values = [leaf.value for leaf in found]
        held = {id(v) for v, new in zip(values, chosen, strict=True) if not new}
        for i, leaf in enumerate(self._like(found)):
            if not chosen[i]:
                continue
            sharding = placement(values[i])
            # An array that lies in a second place too is not given away.
            if donate and id(values[i]) not in held:
                _delete(values[i])
            values[i] = self._value(key, leaf, sharding)
        return jax.tree.unflatten(jax.tree.structure(params), values)

    def to_config(self) -> dict[str, Any]:
        """The plan as plain data for JSON or YAML: {"leaves": [...]}.

        Each leaf is a dict: path (a list of parts), shape, dtype, and initializer (as
        `jinit.to_config` gives it, or "keep"). Patterns and functions of the rules are
        resolved; kinds of containers are not recorded.

        Raises:
          TypeError: for an initializer that is not jinit's, naming the path.
          ValueError: for a setting that has no name, such as a lambda.

        Example:
          >>> import jax, jinit
          >>> shapes = {"b": jax.ShapeDtypeStruct((3,), "float32")}
          >>> jinit.plan(shapes, [("b", jinit.zeros)]).to_config()["leaves"][0]
          {'path': ['b'], 'shape': [3], 'dtype': 'float32', 'initializer': {'name': 'zeros'}}
        """  # noqa: E501
        return {"leaves": [to_config(leaf) for leaf in self.leaves]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], shapes: Any = None) -> "Plan":
        """The plan that `to_config` described.

        Args:
          config: what `to_config` returned, also after JSON or YAML.
          shapes: a tree with the paths, shapes and dtypes of the configuration, for its
            containers, and the arrays to keep; by default nested dicts.

        Raises:
          TypeError: for something that is no such configuration.
          ValueError: for `shapes` that differ from it.

        Example:
          >>> import jax, json, jinit
          >>> shapes = {"a": {"b": jax.ShapeDtypeStruct((3,), "float32")}}
          >>> plan = jinit.plan(shapes, [("**", jinit.normal())])
          >>> jinit.Plan.from_config(json.loads(json.dumps(plan.to_config()))) == plan
          True
        """
        leaves, inits = from_config(config)
        tree = nested(leaves) if shapes is None else shapes
        wanted = {leaf.parts: leaf for leaf in leaves}
        found = trees.align("shapes", tree, wanted, "the configuration")
        by_path = dict(zip(wanted, inits, strict=True))
        return _build(tree, [by_path[leaf.parts] for leaf in found])

    def _places(self, shardings: Any) -> dict[tuple[str, ...], Any]:
        """Return the sharding of each leaf, by its path."""
        leaves = [leaf.leaf for leaf in self.leaves]
        return _by_path(shardings, leaves, self.shapes)

    def _align(self, name: str, tree: Any) -> list[Leaf]:
        """The leaves of a tree that has the plan's paths, shapes and dtypes."""
        return trees.align(
            name, tree, {x.parts: x.leaf for x in self.leaves}, "the plan"
        )

    def _like(self, leaves: Sequence[Leaf]) -> list[Planned]:
        """What the plan says of leaves that may be in another order."""
        by_path = {leaf.parts: leaf for leaf in self.leaves}
        return [by_path[leaf.parts] for leaf in leaves]

    def _chosen(self, found: list[Leaf], only: Any) -> list[bool]:
        drawn = [leaf.init is not keep for leaf in self._like(found)]
        if only is None:
            return drawn
        pattern = Pattern.of("`only`", only)
        pattern.check_used(found)
        hits = [pattern.matches(leaf) for leaf in found]
        chosen = [a and b for a, b in zip(hits, drawn, strict=True)]
        if not any(chosen):
            raise ValueError(
                f"`only` is {pattern}, and the plan keeps all that "
                "it matches; give those leaves an initializer in the plan's rules."
            )
        return chosen

    def _check_holds(self, leaves: Sequence[Planned]) -> None:
        """Raise unless the plan knows the values of these leaves, which it keeps."""
        absent = [leaf.leaf for leaf in leaves if leaf.parts not in self._kept]
        if absent:
            raise ValueError(
                f"the plan keeps {len(absent)} leaves whose values it does not know:"
                f"{listed(absent)}\nMake the plan from the values, use "
                "plan.reinit(key, params), or give them an initializer."
            )

    def _value(self, key: jax.Array, leaf: Planned, sharding: Any) -> Any:
        if leaf.init is not keep:
            return self._sampler(leaf)(trees.key_of(key, leaf.parts), sharding)
        value = self._kept[leaf.parts]
        return value if sharding is None else jax.device_put(value, sharding)

    def _sampler(self, leaf: Planned, dtype: Any = None) -> BoundInitializer:
        return self._samplers.of(leaf.init, leaf.value.shape, dtype or leaf.value.dtype)


def plan(shapes: Any, rules: Any, *, allow_unused: bool = False) -> Plan:
    """Choose an initializer for every leaf of a tree, by its path.

    Args:
      shapes: any pytree of arrays or `jax.ShapeDtypeStruct`s, such as what
        `jax.eval_shape(model.init, key, x)` returns, an `nnx.State`, or an Equinox
        module. The dtypes are those of the leaves. Other leaves, such as a number, a
        function or a string, must be kept: they need a rule with `jinit.keep`.
      rules: a sequence of `(pattern, initializer)`, or of `jinit.Rule`s, whose
        docstring says what both may be; the first match wins. `jinit.keep` in the place
        of an initializer leaves what is there.
      allow_unused: whether a rule may match nothing, or nothing that rules before it
        left.

    Returns:
      A `Plan`: print it, then `plan.init(key)`.

    Raises:
      TypeError: if `rules` are no rules, or a rule has an initializer for a leaf that
        is no array.
      ValueError: for leaves that no rule matches, rules that match no leaf (with the
        nearest paths) or are shadowed, and an initializer that does not fit its leaf,
        naming the path.

    Example:
      >>> import jax, jinit
      >>> import flax.linen as nn
      >>> model = nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(10)])
      >>> shapes = jax.eval_shape(model.init, jax.random.key(0), jax.numpy.ones((1, 8)))
      >>> plan = jinit.plan(shapes, [("**/kernel", jinit.he()), ("**", jinit.zeros)])
      >>> params = plan.init(jax.random.key(0))
      >>> params["params"]["layers_2"]["kernel"].shape
      (64, 10)
    """
    checked = rules_of(rules)
    leaves = trees.leaves(shapes)
    chosen = choose(within(checked, leaves), leaves, allow_unused)
    for rule, leaf in zip(chosen, leaves, strict=True):
        if rule.init is not keep:
            # A function in a rule may look at the shape, so its absence is told first.
            trees.stand_in(leaf)
    return _build(shapes, list(map(resolve, chosen, leaves)))


def _build(tree: Any, inits: Sequence[Any]) -> Plan:
    """The plan of a tree, given an initializer for each leaf: checked, not drawn."""
    leaves = trees.leaves(tree)
    planned = tuple(map(leaf_of, leaves, inits))
    values = {
        leaf.parts: leaf.value
        for leaf, init in zip(leaves, inits, strict=True)
        if init is keep and not trees.is_placeholder(leaf.value)
    }
    made = Plan(planned, jax.tree.structure(tree), values, Samplers())
    for leaf in planned:
        if leaf.init is not keep:
            _check(made, leaf)
    return made


def _check(made: Plan, leaf: Planned) -> None:
    """Raise what a draw of the leaf would raise, naming the path."""
    try:
        made._sampler(leaf)
    except Exception as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        advice = ""
        if kind is ValueError and len(leaf.value.shape) < 2:
            advice = (
                " A leaf like this needs a rule of its own, before, such as "
                f"({leaf.path!r}, jinit.zeros); or say how its fans count: "
                "jinit.he(layout='o'), one letter per axis, or jinit.he(fan_in=...)."
            )
        raise kind(
            f"{spell(leaf.init)} does not fit the leaf {leaf.leaf} of dtype "
            f"{leaf.value.dtype}: {error}{advice}"
        ) from error


def _delete(value: Any) -> None:
    # Under jit there is nothing to delete: the outer program decides.
    if isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer):
        value.delete()
