"""Recipes of recurrent models name their roles, and say which of them are missing."""

from collections.abc import Callable
from typing import Any

from .._core import patterns
from .._core.patterns import PatternLike
from .._network.branches import Paths
from .._network.record import Network
from .._plan import network_roles as in_networks
from .._plan import recurrent_roles as recurrent
from .._plan.model import Model
from .._plan.network_roles import Test
from .._plan.rules import FromTree, Rule
from .._schemes.constant import ones, zeros
from ._roles import Roles, Rules, the_rest


class RecurrentRoles(Roles, total=False):
    """A user passes a pattern, or a sequence of them, for each role of a model."""

    decays: PatternLike
    step_biases: PatternLike
    skips: PatternLike
    forget_biases: PatternLike
    input_biases: PatternLike
    gates: PatternLike
    convolutions: PatternLike


# Role -> (the test in a network, the names in official code and in ports, the words
# with which an error says what the equations must show).
_ROLES: dict[str, tuple[Callable[[Network], Test], tuple[str, ...], str]] = {
    "decays": (
        recurrent.log_decays,
        ("**/A_log", "**/a_log"),
        "a parameter A_log whose exponential multiplies data, the steps of time",
    ),
    "step_biases": (
        recurrent.step_biases,
        ("**/dt_bias",),
        "a bias that is added to the steps of time before a decay multiplies them",
    ),
    "skips": (
        recurrent.skips,
        ("**/D", "**/learnable_skip"),
        "a parameter that multiplies data as it is",
    ),
    "ring_decays": (
        recurrent.ring_decays,
        (),
        "a parameter Lambda whose softplus multiplies the gate of a recurrence",
    ),
    "forget_biases": (
        recurrent.forget_biases,
        (),
        "the bias of a forget gate, which a log sigmoid follows",
    ),
    "input_biases": (
        recurrent.input_biases,
        (),
        "the bias of an input gate, whose kernel reads what that of a forget gate does",
    ),
    "gates": (recurrent.gates, (), "the kernel of a forget gate"),
    "convolutions": (
        recurrent.depthwise,
        ("**/*conv*/kernel",),
        "a convolution with a window for each channel",
    ),
    "centered_scales": (recurrent.centered_scales, (), ""),
}


def part(
    recipe: str,
    roles: RecurrentRoles,
    name: str,
    init: Any,
    required: bool = False,
    *,
    role: str | None = None,
) -> Rules:
    """Return the rules of a role, which raise if a model lacks a required role.

    `role` is the name under which a user passes patterns, if it differs from `name`.
    """
    keyword = role or name
    passed: Any = roles.get(keyword)
    several = [] if passed is None else list(patterns.several(passed))
    test, names, description = _ROLES[name]

    def pattern(model: Model) -> Any:
        if model.network is None:
            paths = _named(model, names)
        else:
            paths = in_networks.paths(model, test)
        if required and not several and not (paths & _inside(model)):
            raise ValueError(_missing(recipe, keyword, description, model, names))
        return Paths(f"{name.replace('_', ' ')} of recipes.{recipe}", paths)

    user = [Rule(one, init, False) for one in several]
    return [*user, Rule(FromTree(pattern), init, optional=True)]


def norms_and_biases() -> Rules:
    """Return the rules for scales and biases; a scale to which 1 is added is 0."""

    def centered(model: Model) -> Any:
        if model.network is None:
            return ()
        paths = in_networks.paths(model, recurrent.centered_scales)
        return Paths("scales to which the network adds 1", paths)

    return [Rule(FromTree(centered), zeros, optional=True), *the_rest()]


def requires_network(recipe: str, model: Model) -> Network:
    """Return the network of a model, whose shapes alone do not tell a law.

    Raises:
      ValueError: if the plan is made from shapes alone.
    """
    if model.network is None:
        raise ValueError(
            f"recipes.{recipe} reads widths and roles from equations, and the plan is "
            "made from shapes alone. Make it from a Network: "
            "jinit.plan(jinit.network(model, *arguments), rules)."
        )
    return model.network


def only_in_networks(recipe: str) -> Rules:
    """Return a rule that matches nothing, and raises in a plan from shapes alone."""

    def check(model: Model) -> Any:
        requires_network(recipe, model)
        return ()

    return [Rule(FromTree(check), ones, optional=True)]


def _inside(model: Model) -> frozenset[str]:
    return frozenset(leaf.path for leaf in model.part())


def _named(model: Model, names: tuple[str, ...]) -> frozenset[str]:
    pattern = patterns.Pattern(names)
    return frozenset(leaf.path for leaf in model.leaves if pattern.matches(leaf))


def _missing(
    recipe: str, keyword: str, description: str, model: Model, names: tuple[str, ...]
) -> str:
    if model.network is None:
        where = f"no leaf of the tree is called {' or '.join(names)}"
        return (
            f"recipes.{recipe} starts {keyword!r}, {description}, and {where}. Make "
            "the plan from a Network, which shows it, or pass a pattern: "
            f"recipes.{recipe}({keyword}='**/...')."
        )
    return (
        f"recipes.{recipe} starts {keyword!r}, {description}, and the network has "
        f"none. Take another recipe, or pass a pattern: "
        f"recipes.{recipe}({keyword}='**/...')."
    )
