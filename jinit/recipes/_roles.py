"""A role says what a parameter does in a model, such as "query" or "readout".

In the plan of a network the roles are read from the equations: see
_plan/network_roles.py. In the plan of shapes alone they are found by names, from one
list for all recipes: see _network/flax_names.py. The patterns that a user passes are
added to what is found.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from .._core import patterns
from .._core.patterns import Pattern, PatternLike
from .._core.trees import Leaf
from .._initializer.base import Initializer
from .._network import branches
from .._network.branches import Paths
from .._network.flax_names import (
    FUSED_UNITS,
    HEADS,
    KEY,
    QUERY,
    UPS,
    VALUE,
    Names,
)
from .._plan import network_roles as in_networks
from .._plan.model import Model
from .._plan.rules import FromTree, Rule
from .._schemes.constant import constant, ones, zeros

Rules = list[Rule]
ByName = Callable[[list[Leaf]], Any]

# The roles that a recipe may distinguish, in two groups.
ATTENTION = ("query", "key", "value")
WHOLE = ("residual_outputs", "embeddings", "positions", "readout")


def _kernels_called(names: Names) -> ByName:
    """Return a function that takes leaves, and picks the kernels of layers by name."""

    def by_name(leaves: list[Leaf]) -> Paths:
        paths = {
            leaf.path
            for leaf in leaves
            if leaf.parts[-1:] == ("kernel",) and "".join(leaf.parts[-2:-1]) in names
        }
        return Paths("kernels with the names of the role", frozenset(paths))

    return by_name


def _ups(leaves: list[Leaf]) -> Paths:
    """Pick the kernels of gated units that no activation follows, by name."""
    names: dict[tuple[str, ...], set[str]] = {}
    for leaf in leaves:
        names.setdefault(leaf.parts[:-2], set()).update(leaf.parts[-2:-1])
    pairs = [(Names(up), Names(gate)) for up, gate in UPS]
    paths = {
        leaf.path
        for leaf in leaves
        if leaf.parts[-1:] == ("kernel",)
        and any(
            leaf.parts[-2:-1][0] in up
            and any(x in gate for x in names[leaf.parts[:-2]])
            for up, gate in pairs
            if len(leaf.parts) > 1
        )
    }
    return Paths("the up projections of gated units, by name", frozenset(paths))


def _globs(*several: str) -> ByName:
    return lambda _leaves: several


# How each role is found: in a network, and by names.
_SELECTORS: dict[str, tuple[Callable[..., Any], ByName]] = {
    "residual_outputs": (in_networks.has("residual_output"), branches.residual_outputs),
    "embeddings": (in_networks.embeddings, _globs("**/embedding")),
    # "wpe" is GPT-2's name of the table.
    "positions": (
        in_networks.positions,
        _globs("**/*pos*/embedding", "**/wpe/embedding", "**/*pos*emb*", "**/pos"),
    ),
    "relative_positions": (in_networks.relative_positions, _globs("**/rel_embedding")),
    "class_tokens": (in_networks.learned_vectors, _globs("**/cls*")),
    "readout": (in_networks.has("readout"), _kernels_called(HEADS)),
    "query": (in_networks.alone("query"), _kernels_called(QUERY)),
    "key": (in_networks.alone("key"), _kernels_called(KEY)),
    "value": (in_networks.has("value"), _kernels_called(VALUE)),
    # By names such a kernel is refused where its rule would draw it: `not_fused`.
    "fused": (in_networks.is_fused, _globs()),
    "up": (in_networks.alone_in_unit("up"), _ups),
    "fused_units": (in_networks.is_fused_unit, _kernels_called(FUSED_UNITS)),
    "routers": (in_networks.has("router"), _globs()),
    "scaled": (in_networks.scaled, _globs("**/kernel")),
    "lookups": (in_networks.has("embedding"), _globs()),
    "branches": (in_networks.in_branches, branches.in_branches),
    "ends": (in_networks.outside_branches, branches.ends),
    "kernels": (in_networks.kernels, _globs("**/kernel")),
    "recurrent": (in_networks.has("recurrent"), _globs()),
    "convolutions": (in_networks.has("convolution"), _globs()),
    "multipliers": (in_networks.multipliers, _globs()),
    "scales": (in_networks.has("scale"), _globs("**/scale")),
    "modulations": (in_networks.has("modulation"), _globs()),
    "conditioning": (in_networks.conditioning, _globs()),
    "temperatures": (in_networks.has("temperature"), _globs()),
    "logit_biases": (in_networks.has("logit_bias"), _globs()),
    "branch_norms": (in_networks.branch_norms, _globs()),
    "heads": (in_networks.heads, branches.readout),
    "projections": (in_networks.projections, _globs()),
    "latents": (in_networks.latents, _globs("**/latent")),
    "probes": (in_networks.probes, _globs("**/probe")),
    "attends_or_branches": (in_networks.attends_or_branches, branches.in_branches),
    "biases_of_layers": (in_networks.biases_of_layers, _globs("**/bias")),
    "biases": (in_networks.has("bias"), _globs("**/bias")),
}


class Roles(TypedDict, total=False):
    """A user passes a pattern, or a sequence of them, for each role of a model."""

    residual_outputs: PatternLike
    embeddings: PatternLike
    positions: PatternLike
    readout: PatternLike
    query: PatternLike
    key: PatternLike
    value: PatternLike
    up: PatternLike
    branches: PatternLike
    modulations: PatternLike
    conditioning: PatternLike
    temperatures: PatternLike
    logit_biases: PatternLike
    branch_norms: PatternLike


def in_role(name: str, by_name: ByName | None = None, note: str = "") -> FromTree:
    """Return the pattern of the parameters in a role: by the network, or by names.

    Under a plan the note says how many there are.
    """
    in_network, names = _SELECTORS[name]

    def pattern(model: Model) -> Any:
        text = name.replace("_", " ")
        if model.network is None:
            side = (by_name or names)(model.leaves)
            if not isinstance(side, Paths):
                return side
            text, paths = side.text, side.paths
        else:
            text = f"{text}, as the network says"
            paths = in_networks.paths(model, in_network)
        number = sum(leaf.path in paths for leaf in model.part())
        return Paths(text, paths, f"{note}: {number}" if note else "")

    return FromTree(pattern)


def role(
    roles: Roles,
    name: str,
    init: Any,
    by_name: ByName | None = None,
    note: str = "",
) -> Rules:
    """Return the rules of a role: for the user's patterns, and for those of the recipe.

    A user's pattern must match a leaf, since one that matches nothing is misspelled.
    A model need not have a role, so what is found may be nothing.
    """
    default = Rule(in_role(name, by_name, note), init, optional=True)
    return [*_of_user(roles, name, init), default]


def _of_user(roles: Roles, name: str, init: Any) -> Rules:
    pattern: Any = roles.get(name)
    if pattern is None:
        return []
    return [Rule(one, init, False) for one in patterns.several(pattern)]


def others(roles: Roles, names: Sequence[str], init: Any) -> Rules:
    """Return rules for those of the named roles that the user passed patterns for.

    A recipe that treats a role like any other kernel needs no rule for the role by
    default. But a parameter that the user names need not be called "kernel", and then
    the rule for "**/kernel" does not match it.
    """
    return [rule for name in names for rule in _of_user(roles, name, init)]


@dataclasses.dataclass(frozen=True)
class Both:
    """A Both is a predicate for the leaves that two patterns match."""

    outer: Pattern
    inner: Pattern

    @property
    def note(self) -> str:
        """Return the note of the inner pattern, with the part that it is limited to."""
        note = "".join(getattr(one, "note", "") for one in self.inner.alternatives)
        return note and f"in {self.outer}: {note}"

    def __call__(self, path: str, leaf: Any) -> bool:
        # A predicate gets a path as text, and a Pattern matches leaves.
        placed = Leaf(tuple(path.split("/")), leaf)
        return self.outer.matches(placed) and self.inner.matches(placed)

    def __repr__(self) -> str:
        return f"{self.outer} and {self.inner}"


def both(outer: Pattern, inner: Any) -> Any:
    """Return the pattern of the leaves that `outer` and a rule's pattern match."""
    # Each alternative stays one, since `check_used` asks for a match of each.
    several = tuple(_both(outer, one) for one in patterns.several(inner))
    return several[0] if len(several) == 1 else several


def _both(outer: Pattern, inner: Any) -> Any:
    # A side that depends on the tree becomes another one, which `bind` resolves.
    if isinstance(inner, FromTree):
        # The tree that the inner rule looks at stays whole: neighbours that decide,
        # such as the widths around a branch, may lie outside of the outer pattern.
        return FromTree(
            lambda model: Both(
                outer, Pattern(patterns.several(inner.function(model.inside(outer))))
            )
        )
    return Both(outer, Pattern((inner,)))


def kernels(init: Any) -> Rules:
    """Return the rule for the kernels that no rule before it matches."""
    return [Rule(in_role("kernels"), init, optional=True)]


def the_rest() -> Rules:
    """Return the rules for norms, biases, statistics and the slopes of PReLU."""
    # The slope is that of Flax's PReLU; "mean" and "var" are a batch norm's statistics.
    by_names: dict[str, Initializer] = {
        "negative_slope": constant(0.01),
        "mean": zeros,
        "var": ones,
    }

    # A network has neither statistics nor names among its parameters.
    def named(name: str) -> FromTree:
        return FromTree(lambda model: f"**/{name}" if model.network is None else ())

    return [
        *(Rule(named(name), init, True) for name, init in by_names.items()),
        Rule(in_role("scales"), ones, optional=True),
        Rule(in_role("biases"), zeros, optional=True),
    ]
