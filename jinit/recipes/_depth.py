"""Recipes count the layers of a network by its residual branches."""

from typing import Any

from .._plan.model import Model
from .._scale.depth import residual_scale
from . import _in_networks as in_networks


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
        count = self._read(model)
        per_layer = self._per_layer(model)
        if count % per_layer:
            raise ValueError(
                f"`num_layers` is None, and the network has {count} residual branches, "
                f"which are not {per_layer} in each layer. Pass "
                f"recipes.{self.recipe}(num_layers=...)."
            )
        return count // per_layer

    def other_layers(self, model: Model, given: int | None) -> int | None:
        """Return the layers of the decoder, which an encoder's scale depends on."""
        net = model.network
        if given is not None or self.part != "encoder" or net is None:
            return given
        part = in_networks.branches(model)
        others = [branch for branch in net.branches if branch not in part]
        count = in_networks.number(others)
        # The decoder's layers have a cross-attention, too.
        if not count or count % 3:
            raise ValueError(
                f"`other_layers` is None, and the network has {count} residual "
                "branches outside of the encoder, which are not three in each layer of "
                f"a decoder. Pass recipes.{self.recipe}(other_layers=...), or limit "
                "the encoder's rules to the encoder by recipes.inside."
            )
        return count // 3

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

    def _per_layer(self, model: Model) -> int:
        # The other rules know no parts: they count branches, whatever they hold.
        if self.recipe not in ("deepnorm", "t_fixup"):
            return self.per_layer
        net: Any = model.network
        part = in_networks.branches(model)
        crosses = any(in_networks.crosses(net, branch) for branch in part)
        if crosses and self.part is None:
            raise ValueError(
                f"the network has a cross-attention, and `part` of "
                f"recipes.{self.recipe} is None. Give encoder and decoder their own "
                "rules, as the example of recipes.inside does, or pass `num_layers`."
            )
        return 3 if crosses else 2
