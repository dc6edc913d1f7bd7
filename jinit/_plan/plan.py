"""A plan says which initializer draws each leaf of a tree of parameters.

`plan` makes it from rules (rules.py) and from shapes. `Plan.init` draws the whole tree,
`Plan.reinit` draws some leaves again, and update.py has the functions that use a plan
on parameters that exist.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.tree_util import PyTreeDef

from .._core import checks, trees
from .._core.patterns import PatternLike
from .._core.results import Result, Table
from .._initializer.foreign import Samplers
from .._network.shardings import placement
from .drawing import align, check_known, chosen_by, delete, draw, placements, sampler
from .leaf import Planned, from_config, nested, planned, row, spell, to_config
from .model import Model
from .rules import bind, choose, keep, notes_of, resolve, rules_of
from .table import table

_ANOTHER_SIZE = (
    " A leaf of another size, such as a head with more classes, is drawn by "
    "jinit.fill_missing(params, shapes, plan, key): leave it out of `params` there."
)


@dataclasses.dataclass(frozen=True, repr=False)
class Plan(Result):
    """A plan says which initializer draws each leaf of a tree.

    `jinit.plan` makes it. It is a value to look at, to save and to draw from:
    `print(plan)` shows a table, and `plan.rows` has the same content as plain data.
    `plan.notes` has what a recipe found in the model.
    Equal plans draw equal values from equal keys.

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
    # They are not compared, since `==` of two arrays is an array.
    _kept: dict[tuple[str, ...], Any] = dataclasses.field(compare=False)
    _samplers: Samplers = dataclasses.field(compare=False)
    # What a recipe says it found, such as
    # "residual outputs: 8 of 8 (4 layers x 2)".
    notes: tuple[str, ...] = dataclasses.field(default=(), compare=False)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Return one dict of plain data for each leaf, in the order of the tree.

        Keys: path, shape, dtype, layout, fan_in, fan_out, initializer, std (as the law
        predicts it), parameters (how many numbers), and roles if the plan was made from
        a network. The roles are all that a pattern such as "@matrix" matches; the
        printed table shows the most telling ones. A value is None if the leaf has no
        such property: a kept function or string has no shape.
        """
        return [row(leaf) for leaf in self.leaves]

    @property
    def shapes(self) -> Any:
        """Return the tree with a `jax.ShapeDtypeStruct` for each array."""
        structs = [leaf.value for leaf in self.leaves]
        return jax.tree.unflatten(self._structure, structs)

    def __reduce__(self) -> Any:
        # Neither compiled programs nor JAX's tree structures can be pickled, but trees
        # can, so the plan is built anew from a tree.
        values = [self._kept.get(leaf.parts, leaf.value) for leaf in self.leaves]
        tree = jax.tree.unflatten(self._structure, values)
        inits = [leaf.init for leaf in self.leaves]
        return _build, (tree, inits, [leaf.facts for leaf in self.leaves], self.notes)

    def __repr__(self) -> str:
        return str(self)

    def _table(self) -> Table:
        return table(self.rows, self.notes)

    def init(self, key: jax.Array, shardings: Any = None) -> Any:
        """Draw every leaf that the plan does not keep, and return the whole tree.

        The leaves that it keeps have the values that the plan was made from.

        Args:
          key: a PRNG key.
          shardings: how leaves are laid out over devices: a tree of shardings,
            PartitionSpecs or `ShapeDtypeStruct`s that have a sharding, or a prefix of
            one (a single sharding serves all); a function `(path, ShapeDtypeStruct) ->
            sharding`; or "metadata", for the shardings of `nn.with_partitioning`. None,
            also inside a tree, stands for the sharding of the `ShapeDtypeStruct` that
            the plan was made from, or else for JAX's choice. No device holds more than
            its part, and the values are the same. A kept number with a sharding becomes
            an array.

        Returns:
          A tree with the structure, the shapes and the dtypes of the plan.

        Raises:
          TypeError: if `key` is not a PRNG key, or an entry of `shardings` is not a
            sharding.
          ValueError: if the plan keeps a leaf whose value it does not know, or if a
            sharding does not fit. Nothing is drawn then.

        Example:
          >>> import jax, jinit
          >>> shapes = {"w": jax.ShapeDtypeStruct((2, 3), "bfloat16")}
          >>> plan = jinit.plan(shapes, [("w", jinit.normal())])
          >>> plan.init(jax.random.key(0))["w"].dtype.name
          'bfloat16'
        """
        checks.key(key)
        where = placements(self, shardings)
        # All checks come first, so an error costs no draw.
        check_known(self, self.leaves)
        values = [draw(self, key, leaf, where[leaf.parts]) for leaf in self.leaves]
        return jax.tree.unflatten(self._structure, values)

    def reinit(
        self,
        key: jax.Array,
        params: Any,
        only: PatternLike | None = None,
        donate: bool = False,
    ) -> Any:
        """Draw some leaves of `params` again, and return the other arrays as they are.

        A new leaf has the value that `plan.init(key)` gives it, and is laid out over
        devices as the leaf that it replaces.

        Args:
          key: a PRNG key, not the one that drew `params`, which would draw the same.
          params: a tree with the plan's paths, shapes and dtypes.
          only: the pattern, as in a rule, of the leaves to draw. By default all leaves
            that the plan does not keep are drawn.
          donate: whether to delete the arrays that are replaced, each before its
            successor is drawn, so that memory does not grow.

        Returns:
          A tree with the structure of `params`.

        Raises:
          TypeError: if `key` is not a PRNG key, or `only` is not a pattern.
          ValueError: if the tree has other paths, shapes or dtypes than the plan, or if
            the pattern matches no leaf, or only leaves that the plan keeps. Nothing is
            drawn then.

        Example:
          >>> import jax, jax.numpy as jnp, jinit
          >>> params = {"body": jnp.ones((4, 4)), "head": jnp.ones((4, 2))}
          >>> plan = jinit.plan(params, [("**", jinit.lecun())])
          >>> new = plan.reinit(jax.random.key(0), params, only="head")
          >>> new["body"] is params["body"], bool((new["head"] == 1).any())
          (True, False)
        """
        checks.key(key)
        pairs = align(self, "params", params, _ANOTHER_SIZE)
        chosen = chosen_by(pairs, only)
        values = [leaf.value for _, leaf in pairs]
        # All errors of arguments are raised before this line: after the first deletion
        # the caller's parameters are no longer whole.
        kept = {id(v) for v, is_new in zip(values, chosen, strict=True) if not is_new}
        for i, (new, _) in enumerate(pairs):
            if not chosen[i]:
                continue
            sharding = placement(values[i])
            # An array that also lies at a kept place is still in use.
            if donate and id(values[i]) not in kept:
                delete(values[i])
            values[i] = draw(self, key, new, sharding)
        return jax.tree.unflatten(jax.tree.structure(params), values)

    def to_config(self) -> dict[str, Any]:
        """Return the plan as plain data for JSON or YAML: {"leaves": [...]}.

        Each leaf is a dict: path (a list of parts), shape, dtype, and initializer (as
        `jinit.to_config` gives it, or "keep"). Patterns and functions of the rules are
        resolved; the types of containers are not recorded.

        Raises:
          TypeError: if an initializer is not jinit's. The error names the path.
          ValueError: if a setting has no name, as a lambda has none.

        Example:
          >>> import jax, jinit
          >>> shapes = {"b": jax.ShapeDtypeStruct((3,), "float32")}
          >>> jinit.plan(shapes, [("b", jinit.zeros)]).to_config()["leaves"][0]
          {'path': ['b'], 'shape': [3], 'dtype': 'float32', 'initializer': {'name': 'zeros'}}
        """  # noqa: E501
        config: dict[str, Any] = {"leaves": [to_config(leaf) for leaf in self.leaves]}
        return config | {"notes": list(self.notes)} if self.notes else config

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON: rows, and notes if there are any."""
        data = super().to_dict()
        return data | {"notes": list(self.notes)} if self.notes else data

    @classmethod
    def from_config(cls, config: Mapping[str, Any], shapes: Any = None) -> "Plan":
        """Rebuild the plan that `to_config` described.

        Args:
          config: the dict that `to_config` returned, also after JSON or YAML.
          shapes: a tree with the paths, shapes and dtypes of the configuration. It
            gives the plan its containers, and the values to keep. By default the plan
            is for nested dicts.

        Raises:
          TypeError: if `config` is not the configuration of a plan.
          ValueError: if `shapes` differs from the configuration.

        Example:
          >>> import jax, json, jinit
          >>> shapes = {"a": {"b": jax.ShapeDtypeStruct((3,), "float32")}}
          >>> plan = jinit.plan(shapes, [("**", jinit.normal())])
          >>> jinit.Plan.from_config(json.loads(json.dumps(plan.to_config()))) == plan
          True
        """
        leaves = from_config(config)
        # The leaves of `shapes` may have another order, as the fields of a class have,
        # so leaves are matched by their paths.
        tree = nested([x.leaf for x in leaves]) if shapes is None else shapes
        by_path = {leaf.parts: leaf for leaf in leaves}
        expected = {parts: leaf.leaf for parts, leaf in by_path.items()}
        aligned = trees.align("shapes", tree, expected, "the configuration")
        ordered = [by_path[leaf.parts] for leaf in aligned]
        inits, facts = [x.init for x in ordered], [x.facts for x in ordered]
        return _build(tree, inits, facts, config.get("notes", ()))


def plan(shapes: Any, rules: Any, *, allow_unused: bool = False) -> Plan:
    """Choose an initializer for every parameter of a model, by its path or its role.

    From a `Network` the plan is for its parameters, `net.params`. Then a rule may name
    roles, such as "@query", the leaf of a predicate is the `Parameter`, and schemes
    that count fans get the layout and the groups that the equations show, unless their
    settings name axes or fans. So `jinit.he()` fits kernels (in, heads, size),
    (out, in), experts, scanned layers and grouped convolutions, in every library.

    Args:
      shapes: a `Network`, which `jinit.network` makes; or any pytree of arrays or
        `jax.ShapeDtypeStruct`s, such as the result of
        `jax.eval_shape(model.init, key, x)`, an `nnx.State`, or an Equinox module. The
        dtypes are those of the leaves. Other leaves, such as a number, a function or a
        string, must be kept: they need a rule with `jinit.keep`.
      rules: a sequence of pairs `(pattern, initializer)`, or of `jinit.Rule`s, whose
        docstring describes both sides. The first match wins. `jinit.keep` in the place
        of an initializer leaves the value as it is.
      allow_unused: whether a rule may match no leaf, or only leaves that go to rules
        before it.

    Returns:
      A `Plan`: print it, then call `plan.init(key)`. For a network the values have the
      structure of `net.params`, and `net.replace(plan.init(key)).model()` is the model
      with them.

    Raises:
      TypeError: if `rules` is not a sequence of rules, or a rule has an initializer for
        a leaf that is not an array.
      ValueError: if a leaf matches no rule, if a rule matches no leaf (the error lists
        the nearest paths) or is shadowed by others, if a rule names a role and
        `shapes` is not a network, or if an initializer does not fit its leaf, such as
        one that counts fans where the network shows no layout (the error names the
        path).

    Example:
      >>> import jax, jinit
      >>> import flax.linen as nn
      >>> model = nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(10)])
      >>> shapes = jax.eval_shape(model.init, jax.random.key(0), jax.numpy.ones((1, 8)))
      >>> plan = jinit.plan(shapes, [("**/kernel", jinit.he()), ("**", jinit.zeros)])
      >>> params = plan.init(jax.random.key(0))
      >>> params["params"]["layers_2"]["kernel"].shape
      (64, 10)

      A plan from the network reads layouts, here (out, in), and knows roles:

      >>> model = lambda p, x: nn.relu(x @ p["up"].T) @ p["down"].T
      >>> params = {"up": jax.numpy.ones((8, 4)), "down": jax.numpy.ones((3, 8))}
      >>> net = jinit.network(model, params, jax.numpy.ones((2, 4)))
      >>> plan = jinit.plan(net, [("@readout", jinit.zeros), ("**", jinit.he())])
      >>> {row["path"]: (row["layout"], row["fan_in"]) for row in plan.rows}
      {'down': (None, None), 'up': ('oi', 4)}
    """
    checked = rules_of(rules)
    model = Model.of(shapes)
    bound = bind(checked, model)
    chosen = choose(bound, model.leaves, allow_unused)
    for rule, leaf in zip(chosen, model.leaves, strict=True):
        if rule.init is not keep:
            # A function in a rule may read the shape, and would fail without telling
            # which leaf has none.
            trees.stand_in(leaf)
    pairs = list(zip(chosen, model.leaves, strict=True))
    inits = [model.fitted(resolve(*pair), pair[1]) for pair in pairs]
    return _build(model.tree, inits, model.facts(), notes_of(bound))


def _build(
    tree: Any, inits: Sequence[Any], facts: Sequence[Any], notes: Sequence[str]
) -> Plan:
    """Make the plan of a tree from an initializer for each leaf, and check each.

    Nothing is drawn. `facts` has what a network says of each leaf, or None.
    """
    leaves = trees.leaves(tree)
    values = {
        leaf.parts: leaf.value
        for leaf, init in zip(leaves, inits, strict=True)
        # A struct that is kept has no value, and `init` says so when it is called.
        if init is keep and not trees.is_placeholder(leaf.value)
    }
    made = Plan(
        tuple(map(planned, leaves, inits, facts)),
        jax.tree.structure(tree),
        values,
        Samplers(),
        tuple(notes),
    )
    for leaf in made.leaves:
        if leaf.init is not keep:
            # `eval_shape` traces each distinct draw once, so a wrong shape is an error
            # of `plan`.
            _check_fits(made, leaf)
    return made


def _check_fits(made: Plan, leaf: Planned) -> None:
    """Raise the error that a draw of the leaf would raise, with the leaf's path."""
    try:
        sampler(made, leaf)
    except Exception as error:
        error_type = TypeError if isinstance(error, TypeError) else ValueError
        advice = ""
        if error_type is ValueError and len(leaf.value.shape) < 2:
            advice = (
                " A leaf with fewer than two axes needs an earlier rule, such as "
                f"({leaf.path!r}, jinit.zeros); or say how its fans count: "
                "jinit.he(layout='o'), one letter per axis, or jinit.he(fan_in=...)."
            )
        # Exceptions of a user's initializer may take other arguments than a message.
        raise error_type(
            f"{spell(leaf.init)} does not fit the leaf {leaf.named} of dtype "
            f"{leaf.value.dtype}: {error}{advice}"
        ) from error
