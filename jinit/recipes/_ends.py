"""The layers that end residual branches get their rule, and a note says how many."""

import warnings
from typing import Any

from .._core import patterns
from .._core.patterns import Pattern
from .._core.trees import Leaf
from .._network import branches
from .._network.branches import Paths
from .._network.reader.records import Branch
from .._plan import network_roles as in_networks
from .._plan.model import Model
from .._plan.rules import FromTree, Rule
from ._depth import Depth
from ._roles import Roles, Rules, others


def last_layers(
    roles: Roles,
    init: Any,
    depth: Depth,
    branch_layers: int | None = None,
) -> Rules:
    """Return the rules for the layers that end branches.

    In a plan from shapes alone, layers that may or may not end a branch are an error:
    a wrong guess would start the model with the wrong branches at 0. A user's pattern
    settles it.
    """
    pattern: Any = roles.get("residual_outputs")
    passed = Pattern(() if pattern is None else patterns.several(pattern))
    ends = _Ends(passed, depth, branch_layers)
    refusal: Rules = []
    if pattern is None:
        unclear = FromTree(lambda model: ends.unclear(model))
        refusal = [Rule(unclear, branches.refuse, optional=True)]
    return [
        *others(roles, ["residual_outputs"], init),
        Rule(FromTree(ends.of), init, optional=True),
        *refusal,
    ]


class _Ends:
    """An _Ends finds the layers that end branches, and says how many there are."""

    def __init__(self, passed: Pattern, depth: Depth, branch_layers: int | None):
        self.passed, self.depth, self.branch_layers = passed, depth, branch_layers

    def of(self, model: Model) -> Paths:
        """Return the paths of the layers, with a note."""
        if model.network is None:
            return self._by_names(model)
        paths = in_networks.paths(model, in_networks.has("residual_output"))
        self.depth.check_branches(model)
        self.depth.check_passed(model)
        several = in_networks.branches(model)
        self._check_lengths(several)
        number = in_networks.number(x for x in several if paths & set(x.ends))
        text = "the last layers of branches, as the network says"
        return Paths(text, paths, self._note(number, model))

    def unclear(self, model: Model) -> Any:
        """Return the layers of which nothing tells whether they end a branch."""
        if model.network is not None:
            return ()
        return branches.unclear(model.leaves, self.branch_layers)

    def _by_names(self, model: Model) -> Paths:
        named = branches.residual_outputs(model.leaves, self.branch_layers)
        part = model.part()
        ends = [x for x in part if x.path in named.paths or self.passed.matches(x)]
        self._check(model, part, ends)
        return Paths(named.text, named.paths, self._note(len(ends), model))

    def _check(self, model: Model, part: list[Leaf], ends: list[Leaf]) -> None:
        """Raise if no end is found in a tree of blocks; warn if many are missing.

        A user's patterns settle it, and the note says how many there are.
        """
        if self.passed.alternatives:
            return
        inside = branches.in_branches(part).paths
        # One kernel or two are a part of a model, which need not have an end.
        if len(inside) > 2 and not ends and not self.unclear(model).paths:
            raise ValueError(
                f"recipes.{self.depth.recipe} scales the layers that end residual "
                "branches, and finds none by its names, among "
                f"{', '.join(map(repr, sorted(inside)[:4]))} and others. Make the plan "
                "from a Network, jinit.network(model, *arguments), which shows them, "
                "or pass residual_outputs=[...], patterns of these layers."
            )
        expected = self.depth.branches(model)
        # Scanned layers have one leaf for all, and a part of a model few.
        if 2 < len(ends) < expected:
            warnings.warn(
                f"recipes.{self.depth.recipe} finds {len(ends)} layers that end "
                f"residual branches by their names, and {expected // 2} layers have "
                f"{expected}. Make the plan from a Network, which shows them, or pass "
                "residual_outputs=[...].",
                UserWarning,
                stacklevel=patterns.level_of_caller(),
            )

    def _note(self, number: int, model: Model) -> str:
        return f"residual outputs: {self.depth.note(number, model)}"

    def _check_lengths(self, several: list[Branch]) -> None:
        lengths = sorted({len(branch.layers) for branch in several})
        if self.branch_layers is not None and lengths != [self.branch_layers]:
            warnings.warn(
                f"`branch_layers` of recipes.{self.depth.recipe} is "
                f"{self.branch_layers}, and the network has branches of "
                f"{' and '.join(map(str, lengths))} layers.",
                UserWarning,
                stacklevel=patterns.level_of_caller(),
            )
