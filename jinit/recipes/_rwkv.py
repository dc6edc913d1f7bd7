"""The recipe `rwkv7` starts RWKV-7 as its official code does."""

from collections.abc import Callable
from typing import Any, Literal, Unpack

from .._core import checks
from .._core.papers import PENG_2025
from .._initializer.base import Initializer
from .._initializer.stack import stacked
from .._network.branches import Paths
from .._network.reader.records import Parameter
from .._plan.model import Model
from .._plan.rules import FromTree, Rule
from .._plan.rwkv_roles import Place, rwkv_of
from .._schemes.constant import constant, zeros
from .._schemes.orthogonal.kernels import orthogonal
from .._schemes.scaled_uniform import scaled_uniform
from .._schemes.ssm.rwkv7 import rwkv7_decay, rwkv7_mix, rwkv7_vector
from ._depth import Depth
from ._recipe import NORMS_AND_BIASES, Law, Recipe, Source, recipe
from ._recurrent_roles import norms_and_biases, only_in_networks, requires_network
from ._roles import Roles, role

_RWKV = "BlinkDL/RWKV-LM"
_VECTORS = ("a0", "v0", "k_k", "k_a", "r_k")
_MIXES = tuple(f"x_{letter}" for letter in "rwkvag")
# An error names those of these parts that a network does not show. Ports may leave out
# the gate g, and the values v of the first layer.
_NEEDED = ("w0", "a0", "k_k", "k_a", "r_k", "receptance", "key", "value", "ffn_key")


@recipe(
    use="RWKV-7",
    law=(
        "r, v U(+-0.5 / sqrt(d)), k U(+-0.05 / sqrt(d)); branch ends 0; decays and "
        "mixes by the index of the layer"
    ),
    sources=(
        Source(_RWKV, "RWKV-v7/train_temp/src/model.py", "118e451"),
        PENG_2025,
    ),
    roles=("residual_outputs", "embeddings", "readout"),
)
def rwkv7(
    num_layers: int | None = None,
    *,
    flavour: Literal["layer", "model"] = "layer",
    head_size: int | None = None,
    **roles: Unpack[Roles],
) -> Recipe:
    """Return RWKV-7's rules: branches that are 0, and curves over channels and layers.

    The kernels that end a branch are 0, and so are the first factors of all pairs of
    low rank, whose second factors are orthogonal times 0.1. Receptance, value and the
    key of the feed-forward network are U(+-0.5 / sqrt(d)), the key of the time mixing
    U(+-0.05 / sqrt(d)). Decays w0 and mixes x_* depend on the channel and on the index
    of the layer; see `jinit.ssm.rwkv7_decay`, `rwkv7_mix` and `rwkv7_vector`.
    Embeddings are U(+-1e-4), and the readout is orthogonal times
    0.5 max(1, sqrt(V / d)).

    The flavour "layer" is the start of the classes of the layers. In the flavour
    "model" the official training script has redrawn the kernels: receptance, value and
    the key of the feed-forward network are orthogonal, the key of the time mixing is
    orthogonal times 0.1, and the scale of the norm behind the state (ln_x) is
    ((1 + l) / L)^0.7.

    The recipe recognizes the parts by their equations alone, so the plan must be that
    of a network.

    Args:
      num_layers: L, the number of layers, each with a time and a channel mixing. In the
        plan of a network None stands for the number that the network shows.
      flavour: "layer" or "model".
      head_size: the number of channels of a head. None stands for the size that r_k
        shows.
      **roles: patterns of residual_outputs, embeddings and readout.

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: if the flavour is unknown, or a number is out of range; in a plan, if
        it is made from shapes alone, or the network lacks parts of RWKV-7.

    Example:
      >>> import jinit
      >>> recipe = jinit.recipes.rwkv7()
      >>> {law.role: law.law for law in recipe.laws}["residual outputs"]
      '0'

    References:
      Peng et al., "RWKV-7 'Goose' with expressive dynamic state evolution", arXiv 2025.
    """
    is_model = checks.choice("flavour", flavour, ("layer", "model")) == "model"
    checks.count("head_size", head_size)
    Depth("rwkv7", num_layers)  # It raises for an invalid number.

    def readout(_path: str, leaf: Any) -> Initializer:
        if leaf.fans is None:
            return orthogonal(0.5)
        return orthogonal(0.5 * max(1.0, leaf.fans.fan_out / leaf.fans.fan_in) ** 0.5)

    parts = FromTree(lambda model: _Parts(model, num_layers, is_model, head_size).init)
    rules = [
        *only_in_networks("rwkv7"),
        Rule(FromTree(lambda model: _paths(model, is_model)), parts, optional=True),
        *role(roles, "residual_outputs", zeros),
        *role(roles, "embeddings", 1e-4 * scaled_uniform(fan_in=1)),
        *role(roles, "readout", readout),
        *norms_and_biases(),
    ]
    return Recipe(rules, _laws(is_model))


def _laws(is_model: bool) -> list[Law]:
    kernel = "orthogonal" if is_model else "U(+-0.5 / sqrt(d))"
    key = "0.1 orthogonal" if is_model else "U(+-0.05 / sqrt(d))"
    norm = [Law("scales", "((1 + l) / L)^0.7", "ln_x")] if is_model else []
    return [
        Law("decays", "-5.5 + 6 (n / (d - 1))^(1 + (l / (L - 1))^0.3) + 2.5 z", "w0"),
        Law("mixes", "1 - (n / d)^(p (1 - l / L))", "x_r, x_w, x_k, x_v, x_a and x_g"),
        Law("mixes", "1 - (n / d)^((1 - l / L)^4)", "x_k of the channel mixing"),
        Law("vectors", "curves over the channels", "a0, v0, k_k, k_a and r_k"),
        Law("pairs of low rank", "0 and 0.1 orthogonal", "w1, w2; a1, a2; v1, v2; g"),
        Law("kernels", kernel, "receptance, value, and key of the channel mixing"),
        Law("kernels", key, "key of the time mixing"),
        Law("residual outputs", "0", "output, and value of the channel mixing"),
        Law("embeddings", "U(+-0.0001)", "the table of tokens"),
        Law("readout", "0.5 max(1, sqrt(V / d)) orthogonal", "head"),
        *norm,
        *NORMS_AND_BIASES,
    ]


def _paths(model: Model, is_model: bool) -> Paths:
    """Return the paths of the parts of RWKV-7 in a network.

    Raises:
      ValueError: if parts are missing. The message names them.
    """
    places = rwkv_of(requires_network("rwkv7", model)).places
    parts = {place.part for place in places.values()}
    missing = [part for part in _NEEDED if part not in parts]
    if missing:
        raise ValueError(
            "recipes.rwkv7 starts the parts of RWKV-7 that its equations show. By the "
            "names of the official code, the network shows no "
            f"{', '.join(map(repr, missing))}. Take another recipe, or put rules for "
            "the parts before a recipe for the rest."
        )
    # A scale of ln_x is 1 in the flavour "layer", as other scales are.
    paths = (path for path, x in places.items() if is_model or x.part != "ln_x")
    return Paths("parts of RWKV-7", frozenset(paths))


class _Parts:
    """A _Parts gives each part of RWKV-7 in a network its law."""

    def __init__(
        self, model: Model, num_layers: int | None, is_model: bool, size: int | None
    ) -> None:
        net = requires_network("rwkv7", model)
        self.places, self.number = rwkv_of(net)
        self.is_model = is_model
        if num_layers is not None:
            self.number = _checked(num_layers, self.number)
        heads = [
            net.parameters[path].fans
            for path, place in self.places.items()
            if place.part == "r_k"
        ]
        self.size = size or next(fans.fan_in for fans in heads if fans is not None)

    def init(self, path: str, p: Parameter) -> Initializer:
        """Return the law of a part, for one layer or for the layers of a scan."""
        place = self.places[path]
        if place.part in (*_MIXES, "w0", "ffn_x_k", "ln_x"):
            law = self._of_layer(place.part)
            start, step, axis = place.start, place.step, place.axis
            if axis is None:
                return law(start)
            return stacked(lambda i: law(start + step * i), axis)
        init = _kernel(place, p, self.is_model, self.size)
        # A curve over the channels of a layer must not count those of all layers.
        if place.axis is not None and place.part in _VECTORS:
            return stacked(init, place.axis)
        return init

    def _of_layer(self, part: str) -> Callable[[int], Initializer]:
        number, size = self.number, self.size

        def law(layer: int) -> Initializer:
            if part == "w0":
                return rwkv7_decay(layer, number, head_size=size)
            if part == "ln_x":
                return constant(((1 + layer) / number) ** 0.7)
            letter: Any = "channel" if part == "ffn_x_k" else part[-1]
            return rwkv7_mix(letter, layer, number)

        return law


def _checked(num_layers: int, number: int) -> int:
    if num_layers < number:
        raise ValueError(
            f"`num_layers` of recipes.rwkv7 is {num_layers}, and the network has "
            f"{number} layers. Leave it out, and the recipe reads it."
        )
    return num_layers


def _kernel(place: Place, p: Parameter, is_model: bool, size: int) -> Initializer:
    """Return the law of a kernel, or of a vector that is equal in all layers."""
    part: Any = place.part
    if part in _VECTORS:
        return rwkv7_vector(part, head_size=size)
    if part in ("w1", "a1", "v1", "g1"):
        return zeros
    if part in ("w2", "a2", "v2", "g2"):
        ratio = 1.0 if p.fans is None else p.fans.fan_in / p.fans.fan_out
        return orthogonal(0.1 * max(1.0, ratio) ** 0.5)
    factor = 0.1 if part == "key" else 1.0
    return factor * (orthogonal() if is_model else 0.5 * scaled_uniform())
