"""Recipes count the layers of a network by its residual branches."""

import warnings
from typing import Any

from .._core import patterns
from .._plan import network_roles as in_networks
from .._plan.layer_index import shown_layers
from .._plan.model import Model
from .._scale.depth import residual_scale

# Encoder and decoder have laws of their own in these recipes.
_BY_PARTS = ("deepnorm", "t_fixup")


class Depth:
    """A Depth is the number of layers that a user passed, or that a network shows.

    A layer of a transformer has two residual branches, or three with a cross-attention.
    Recipes for other networks count each branch as a layer: `per_layer` is 1.
    `by_branches` says that the law divides by the branches, and not by the layers;
    `by_index` that it needs the index of a layer, for which a wrong number is an error.
    """

    def __init__(
        self,
        recipe: str,
        num_layers: Any,
        part: str | None = None,
        per_layer: int = 2,
        by_branches: bool = False,
        by_index: bool = False,
    ) -> None:
        # The check is that of every depth rule.
        if num_layers is not None:
            residual_scale("rezero", num_layers)
        self.recipe, self.num_layers = recipe, num_layers
        self.part, self.per_layer = part, per_layer
        self.by_branches, self.by_index = by_branches, by_index

    def branches(self, model: Model) -> int:
        """Return the number of residual branches, of which a layer has two or more.

        Where attention and MLP share one branch, as in PaLM, it counts as both.
        """
        if self.num_layers is not None:
            return self.per_layer * int(self.num_layers)
        count = self._read(model)
        return 2 * count if self._shown(model) == count else count

    def note(self, ends: int, model: Model) -> str:
        """Return what the law counted, beside the number of layers that end branches.

        That is "8 of 8 (4 layers x 2)" for 4 layers of two branches.
        """
        layers = self._shown(model)
        if layers is not None and self.num_layers in (None, layers):
            count = self._read(model)
            each, rest = divmod(count, layers)
            if rest:
                return f"{ends} of {count}" + self._in_layers(layers)
            if each != self.per_layer:
                return f"{ends} of {count} ({_counted(layers)} x {each})"
        expected = self.branches(model)
        layers, rest = divmod(expected, self.per_layer)
        is_product = self.per_layer > 1 and not rest
        product = f" ({_counted(layers)} x {self.per_layer})" if is_product else ""
        return f"{ends} of {expected}{product}"

    def _in_layers(self, layers: int) -> str:
        return "" if self.by_branches else f" in {layers} layers"

    def _shown(self, model: Model) -> int | None:
        """Return the layers that the network shows, where a recipe counts layers."""
        if model.network is None or self.per_layer == 1:
            return None
        known = shown_layers(model)
        # Without attentions two sums are a layer by convention alone, and a law that
        # divides by branches needs no convention.
        return None if self.by_branches and not known.by_attention else known.number

    def check_passed(self, model: Model) -> None:
        """Warn if the network shows another number of layers than the user passed."""
        is_compared = self.per_layer > 1 and not self.by_index
        if self.num_layers is None or model.network is None or not is_compared:
            return
        known = shown_layers(model)
        if not known.by_attention or self._is_one_of_two(model):
            return
        if known.number not in (None, int(self.num_layers)):
            warnings.warn(
                f"`num_layers` of recipes.{self.recipe} is {self.num_layers}, and the "
                f"network shows {known.number} layers. The law counts "
                f"{self.num_layers}. Leave `num_layers` out to count those of the "
                "network.",
                UserWarning,
                stacklevel=patterns.level_of_caller(),
            )

    def layers(self, model: Model) -> int:
        """Return the number of layers.

        Raises:
          ValueError: if it was not passed, and the model does not show it.
        """
        if self.num_layers is not None:
            return int(self.num_layers)
        count, crossing = self._read(model), self._crossing(model)
        shown = self._shown(model)
        if shown is not None and self.part != "decoder" and not crossing:
            return shown
        # A decoder's layer has one cross-attention, and three branches in all.
        if self.part == "decoder":
            count, per_layer = crossing, 1
        else:
            count, per_layer = count - 3 * crossing, self.per_layer
        if count < 1 or count % per_layer:
            raise ValueError(self._unclear(model, crossing))
        return count // per_layer

    def other_layers(self, model: Model, other_layers: int | None) -> int | None:
        """Return the layers of the decoder, which an encoder's scale depends on."""
        if other_layers is not None or self.part != "encoder" or model.network is None:
            return other_layers
        layers = self._crossing(model._replace(within=None))
        if not layers:
            raise ValueError(
                "`other_layers` is None, and the network has no cross-attention, which "
                "would show the layers of the decoder. Pass "
                f"recipes.{self.recipe}(other_layers=...)."
            )
        return layers

    def check_branches(self, model: Model) -> None:
        """Raise if the part of a network that a recipe is for has no branch."""
        if model.network is not None and not in_networks.branches(model):
            raise ValueError(
                f"recipes.{self.recipe} scales the layers of residual branches, and "
                "the network has no residual branch. Make the plan from the whole "
                "model, or take another recipe."
            )

    def _read(self, model: Model) -> int:
        if model.network is None:
            raise ValueError(
                f"`num_layers` of recipes.{self.recipe} is None, and a plan from "
                "shapes alone does not show it. Pass it, or make the plan from a "
                "Network: jinit.plan(jinit.network(model, *arguments), rules)."
            )
        self.check_branches(model)
        return in_networks.number(in_networks.branches(model))

    def _is_one_of_two(self, model: Model) -> bool:
        """Tell whether the number is that of an encoder or a decoder, beside another.

        Recipes without parts count the layers of both.
        """
        net: Any = model.network
        several = in_networks.branches(model)
        crossing = any(in_networks.crosses(net, branch) for branch in several)
        return crossing and self.recipe in _BY_PARTS

    def _crossing(self, model: Model) -> int:
        """Return the number of cross-attentions, of which each decoder layer has one.

        Recipes without parts count branches, whatever these hold.
        """
        net: Any = model.network
        if self.recipe not in _BY_PARTS:
            return 0
        part = in_networks.branches(model)
        crossing = [branch for branch in part if in_networks.crosses(net, branch)]
        if crossing and self.part is None:
            raise ValueError(
                f"the network has a cross-attention, and `part` of "
                f"recipes.{self.recipe} is None. Give encoder and decoder their own "
                "rules, as the example of recipes.inside does, or pass `num_layers`."
            )
        return in_networks.number(crossing)

    def _unclear(self, model: Model, crossing: int) -> str:
        count = self._read(model)
        branches = "residual branch" if count == 1 else "residual branches"
        # Recipes without parts have not asked for cross-attentions.
        crossed = f", {crossing} of them with a cross-attention," if self.part else ","
        return (
            f"`num_layers` is None, and the network has {count} {branches}{crossed} "
            f"which does not fit layers of {self.per_layer}. Pass "
            f"recipes.{self.recipe}(num_layers=...)."
        )


def _counted(layers: int) -> str:
    return "1 layer" if layers == 1 else f"{layers} layers"
