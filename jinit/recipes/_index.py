"""Rules may scale a law by the index of a layer, or by the number of layers."""

import re
from collections.abc import Callable
from typing import Any

from .._initializer.base import Initializer
from .._initializer.depth import depth_factor, depth_scaled
from .._plan.layer_index import Stack, layer_index
from .._plan.model import Model
from .._plan.rules import FromTree
from ._layouts import Layouts

_NUMBERED = re.compile(r"(.*?)(\d+)")


class Index:
    """An Index reads the layers of a model for a recipe.

    In a network the residual branches show them. In a plan from shapes alone names do,
    such as "layers_3" or "h/3".
    """

    def __init__(self, recipe: str, num_layers: int | None, stacked: bool) -> None:
        self.recipe, self.num_layers, self.stacked = recipe, num_layers, stacked

    def number(self, model: Model) -> int:
        """Return the number of layers.

        Raises:
          ValueError: if it was not passed, and the model does not show it.
        """
        if self.num_layers is not None:
            return int(self.num_layers)
        if model.network is not None:
            return layer_index(model, None, self._asker).number
        raise ValueError(
            f"`num_layers` of {self._asker} is None, and a plan from shapes alone does "
            "not show it. Pass it, or make the plan from a Network: "
            "jinit.plan(jinit.network(model, *arguments), rules)."
        )

    def places(self, model: Model) -> Callable[[str], Stack]:
        """Return a function from the path of a parameter to its place in the layers."""
        if model.network is not None:
            index = layer_index(model, self.num_layers, self._asker)
            return lambda path: index.of(path, self._asker)
        if self.stacked:
            layouts = Layouts(model, True, self.num_layers)
            return lambda path: Stack(0, (layouts.axis(path) or 0,), (1,))
        number = self.number(model)
        return lambda path: self._named(model, path, number)

    @property
    def _asker(self) -> str:
        return f"recipes.{self.recipe}"

    def _named(self, model: Model, path: str, number: int) -> Stack:
        """Return the layer by the outermost part of a path that counts the layers."""
        parts = next(leaf.parts for leaf in model.leaves if leaf.path == path)
        for depth, part in enumerate(parts):
            match = _NUMBERED.fullmatch(part)
            if match is None:
                continue
            beside = {
                leaf.parts[depth] for leaf in model.leaves
                if leaf.parts[:depth] == parts[:depth] and len(leaf.parts) > depth
            }  # fmt: skip
            numbered = {f"{match[1]}{i}" for i in range(number)}
            if numbered == {one for one in beside if _same_stem(one, match[1])}:
                return Stack(int(match[2]))
        raise ValueError(
            f"{self._asker} has a law that depends on the index of the layer, and the "
            f"names do not show the index of {path!r} among {number} layers. Make the "
            "plan from a Network, jinit.network(model, *arguments), which shows it; or "
            "pass stacked=True for scanned layers."
        )


def _same_stem(name: str, stem: str) -> bool:
    match = _NUMBERED.fullmatch(name)
    return match is not None and match[1] == stem


def by_index(index: Index, init: Initializer) -> FromTree:
    """Return the initializer of a rule: `init` times 1 / sqrt(2 (l + 1))."""

    def of(model: Model) -> Any:
        place_of = index.places(model)

        def law(path: str, _leaf: Any) -> Initializer:
            return _scaled(init, place_of(path))

        return law

    return FromTree(of)


def _scaled(init: Initializer, place: Stack) -> Initializer:
    if not place.axes:
        return depth_factor(place.start) * init
    if len(place.axes) == 1:
        (axis,), (step,) = place.axes, place.steps
        return depth_scaled(init, axis, start=place.start, step=step)
    return depth_scaled(init, place.axes, start=place.start, step=place.steps)


def by_number(index: Index, init: Initializer) -> FromTree:
    """Return the initializer of a rule: `init` times 1 / sqrt(2 L)."""
    return FromTree(lambda model: (2 * index.number(model)) ** -0.5 * init)
