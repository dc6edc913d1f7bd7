"""Recipes count the layers of a network by its residual branches."""

from typing import Any

from .._plan import network_roles as in_networks
from .._plan.model import Model
from .._scale.depth import residual_scale


class Depth:
    """A Depth is the number of layers that a user passed, or that a network shows.

    A layer of a transformer has two residual branches, or three with a cross-attention.
    Recipes for other networks count each branch as a layer: `per_layer` is 1.
    """

    def __init__(
        self,
        recipe: str,
        num_layers: Any,
        part: str | None = None,
        per_layer: int = 2,
    ) -> None:
        # The check is that of every depth rule.
        if num_layers is not None:
            residual_scale("rezero", num_layers)
        self.recipe, self.num_layers = recipe, num_layers
        self.part, self.per_layer = part, per_layer

    def branches(self, model: Model) -> int:
        """Return the number of residual branches."""
        if self.num_layers is not None:
            return self.per_layer * int(self.num_layers)
        return self._read(model)

    def layers(self, model: Model) -> int:
        """Return the number of layers.

        Raises:
          ValueError: if it was not passed, and the model does not show it.
        """
        if self.num_layers is not None:
            return int(self.num_layers)
        count, crossing = self._read(model), self._crossing(model)
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

    def _crossing(self, model: Model) -> int:
        """Return the number of cross-attentions, of which each decoder layer has one.

        Recipes without parts count branches, whatever these hold.
        """
        net: Any = model.network
        if self.recipe not in ("deepnorm", "t_fixup"):
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
        return (
            f"`num_layers` is None, and the network has {count} {branches}, "
            f"{crossing} of them with a cross-attention, which does not fit layers of "
            f"{self.per_layer}. Pass recipes.{self.recipe}(num_layers=...)."
        )
