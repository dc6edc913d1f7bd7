"""A candidate of `which` is a recipe with settings, applied to a network."""

import functools
import inspect
import itertools
import math
import statistics
import types
import typing
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from .._network.reader.records import Parameter
from .._network.record import Network
from .._plan import network_roles as in_networks
from .._plan.plan import Plan, plan
from .._plan.rules import Rule, keep
from ._agreement import Arrays, Difference, limit, pooled
from ._expected import Fixed, pieces
from ._matches import Evidence, Match
from ._recipe import RECIPES, Recipe, get

Settings = Mapping[str, Any]

# Settings to try whose values neither an annotation lists nor a model shows.
_TRIED: dict[str, tuple[Settings, ...]] = {
    "fixup": ({"branch_layers": 3},),
    "t5": ({"embedding_std": 1.0},),
    "deepseek_v3": ({"flavour": "report"},),
    "qwen3": ({"flavour": "megatron"},),
    "olmo": tuple({"method": name} for name in ("llama", "llama_depth", "fan_in")),
}
# Settings to try if the model does not show what the default ones read.
_IF_REFUSED: dict[str, tuple[Settings, ...]] = {
    "t5": tuple(
        {"head_dim": size, "embedding_std": std}
        for size in (4, 8, 16, 32, 64, 80, 96, 128, 256)
        for std in (None, 1.0)
    ),
}
# These recipes are for a part of a model, such as its head.
_OF_PARTS = {"clip", "hyper_connections", "siglip"}
# (role, label): the first role that a parameter has gives its label. A fused kernel
# has several labels.
_LABELS = (
    ("residual_output", "residual outputs"), ("router", "routers"),
    ("query", "queries"), ("key", "keys"), ("value", "values"), ("gate", "gates"),
    ("up", "ups"), ("embedding", "embeddings"), ("readout", "readouts"),
    ("recurrent", "recurrent kernels"), ("expert", "experts"), ("scale", "scales"),
    ("temperature", "temperatures"), ("logit_bias", "biases of logits"),
    ("modulation", "modulations"), ("bias", "biases"),
)  # fmt: skip
_FUSED = {"queries", "keys", "values", "gates", "ups"}


class Applied(NamedTuple):
    """An Applied is a match with the plan that it was judged by."""

    match: Match
    plan: Plan

    def laws(self) -> tuple[Hashable, ...]:
        """Return the laws of all parameters, for comparison with another plan."""
        return tuple(
            None
            if leaf.init is keep
            else tuple(
                (piece.axis, piece.number, piece.expected.identity)
                for piece in pieces(leaf.init, leaf.value.shape, leaf.value.dtype)
            )
            for leaf in self.plan.leaves
        )

    def random_laws(self) -> set[Hashable]:
        """Return the keys of the laws that draw numbers."""
        return {
            piece.expected.identity
            for leaf in self.plan.leaves
            if leaf.init is not keep
            for piece in pieces(leaf.init, leaf.value.shape, leaf.value.dtype)
            if not isinstance(piece.expected, Fixed)
        }


def tried(
    name: str, net: Network, arrays: Arrays, several: Sequence[Applied]
) -> Iterator[Callable[[], Recipe]]:
    """Yield functions that make a recipe with its settings, the default ones first.

    `several` are the results so far. If the default settings could be applied, fewer
    others are tried, and a std is estimated from these results.

    Raises:
      TypeError: if the recipe needs a setting that a model does not show.
    """
    listed = _listed(name)
    for settings in (*listed, *_TRIED.get(name, ())):
        yield functools.partial(get, name, **settings)
    if not several:
        for settings in _IF_REFUSED.get(name, ()):
            yield functools.partial(get, name, **settings)
    parameters = inspect.signature(RECIPES[name].make).parameters
    if not several or any(one.match.agrees for one in several):
        return
    if "base" in parameters:
        # The recipe is for a part of the model, and another one is for the rest.
        for other in sorted(set(RECIPES) - {name}):
            yield functools.partial(get, name, base=other)
    default = parameters.get("std")
    if default is None or not isinstance(default.default, float):
        return
    for one in tuple(several):
        # N(0, s^2) in all kernels is a plain normal law, and not a recipe of this s.
        if len(one.random_laws()) < 2:
            continue
        ratio = _ratio(one, arrays)
        # Two digits are what people write, and do not follow the chance of a draw.
        std = float(f"{ratio * default.default:.2g}") if ratio else default.default
        if std != default.default:
            settings = {**one.match.recipe.settings, "std": std}
            yield functools.partial(get, name, **settings)


def _listed(name: str) -> list[Settings]:
    """Return all combinations of the settings whose annotation lists their values."""
    function = RECIPES[name].make
    hints = typing.get_type_hints(function)
    choices: dict[str, tuple[Any, ...]] = {}
    for key, parameter in inspect.signature(function).parameters.items():
        values = _values(hints.get(key))
        is_missing = parameter.default is parameter.empty
        if parameter.kind is parameter.VAR_KEYWORD or key == "stacked":
            continue
        if values and not is_missing:
            # The default comes first, so that it wins a tie.
            rest = [value for value in values if value != parameter.default]
            choices[key] = (parameter.default, *rest)
        elif values:
            choices[key] = values
        elif is_missing:
            raise TypeError(f"it needs `{key}`, which a model does not show.")
    combinations = itertools.product(*choices.values())
    return [dict(zip(choices, values, strict=True)) for values in combinations]


def _values(hint: Any) -> tuple[Any, ...]:
    """Return the values that an annotation lists, or () for one that lists none."""
    if hint is bool:
        return False, True
    if typing.get_origin(hint) is Literal:
        return typing.get_args(hint)
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return tuple(x for arg in typing.get_args(hint) for x in _values(arg))
    return ()


def _ratio(one: Applied, arrays: Arrays) -> float | None:
    """Return the median of measured stds over those of a recipe's random laws."""
    differences = [
        difference
        for leaf in one.plan.leaves
        if leaf.init is not keep
        for difference in arrays.differences(leaf.path, leaf.init)
    ]
    ratios = [
        x.rms / x.law_rms
        for x in differences
        # Norms are 1 in any case, and their errors are 0.
        if x.rms > 0 and x.law_rms > 0 and x.is_random
    ]
    return statistics.median(ratios) if ratios else None


def applied(recipe: Recipe, net: Network, arrays: Arrays) -> Applied:
    """Compare all parameters of a network with the laws that a recipe gives them.

    Raises:
      ValueError: if the recipe cannot be applied, or has laws for no more than zeros
        and ones.
    """
    with warnings.catch_warnings():
        # A warning asks for patterns of roles that the network does not show.
        warnings.simplefilter("ignore")
        made = plan(net, [*recipe, Rule("**", keep, optional=True)])
    without = tuple(leaf.path for leaf in made.leaves if leaf.init is keep)
    differences = {
        leaf.path: arrays.differences(leaf.path, leaf.init)
        for leaf in made.leaves
        if leaf.init is not keep
    }
    if not any(x.is_telling for several in differences.values() for x in several):
        raise ValueError(
            "it sets all parameters of the model to 0 or 1, which identifies no recipe."
        )
    return Applied(_match(recipe, net, differences, without), made)


def _match(
    recipe: Recipe,
    net: Network,
    differences: Mapping[str, list[Difference]],
    without: tuple[str, ...],
) -> Match:
    tests = sum(len(x.errors) for several in differences.values() for x in several)
    most = limit(tests)
    groups: dict[str, list[str]] = {}
    label = functools.partial(_label, *_tests(net))
    for path in differences:
        groups.setdefault(label(net.parameters[path]), []).append(path)
    evidence = tuple(
        _evidence(role, {path: differences[path] for path in paths}, most)
        for role, paths in sorted(groups.items(), key=_place)
    )
    # A std that is off by one percent shows in no role of a small model.
    together = abs(pooled([x for several in differences.values() for x in several]))
    agreeing = [
        all(x.largest <= most for x in several) for several in differences.values()
    ]
    # Nothing compares a parameter without a law, and `jinit.plan` refuses the model.
    is_whole = not without or recipe.name in _OF_PARTS
    return Match(
        recipe,
        evidence,
        is_whole and all(one.agrees for one in evidence) and together <= most,
        sum(agreeing) / (len(agreeing) + len(without)),
        sum(x.score for several in differences.values() for x in several),
        without_law=without,
    )


def _evidence(
    role: str, differences: Mapping[str, list[Difference]], most: float
) -> Evidence:
    """Compare the parameters of a role with their laws, each and together."""
    several = [x for pieces_of_one in differences.values() for x in pieces_of_one]
    worst = max(several, key=lambda x: x.largest)
    errors = max(worst.largest, abs(pooled(several)))
    size = max(1, sum(x.size for x in several))
    rms, law_rms = (
        math.sqrt(sum(x.size * value**2 for x, value in pairs) / size)
        for pairs in (
            [(x, x.rms) for x in several],
            [(x, x.law_rms) for x in several],
        )
    )
    return Evidence(
        role, len(differences), rms, law_rms, errors <= most, errors, worst.path
    )


Test = Callable[[Parameter], bool]


def _tests(net: Network) -> tuple[Test, Test]:
    return in_networks.positions(net), in_networks.relative_positions(net)


_NAMES = [label for _, label in _LABELS]


def _place(group: tuple[str, list[str]]) -> int:
    """Return the place of a role in a table: constants come last."""
    role = group[0].split(", ")[0]
    return _NAMES.index(role) if role in _NAMES else _NAMES.index("scales")


def _label(is_position: Test, is_relative: Test, parameter: Parameter) -> str:
    """Name what a parameter does, by its roles."""
    if is_position(parameter):
        return "positions"
    if is_relative(parameter):
        return "relative positions"
    labels = [label for role, label in _LABELS if role in parameter.roles]
    fused = [label for label in labels if label in _FUSED]
    if len(fused) > 1 and labels[0] in _FUSED:
        return ", ".join(fused)
    if labels:
        return labels[0]
    return "other kernels" if parameter.layout else "others"
