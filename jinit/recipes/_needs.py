"""A recipe for one architecture refuses a model that lacks its typical roles."""

from collections.abc import Callable
from typing import Any, NamedTuple

from .._network.branches import Paths
from .._network.record import Network
from .._plan import network_roles as in_networks
from .._plan.model import Model
from .._plan.rules import FromTree, Rule
from .._schemes.constant import zeros
from ._roles import Roles, Rules


class Need(NamedTuple):
    """A Need is a role that a model must have: its words, its test, its pattern.

    `role` is the keyword with which a user may pass patterns for it, or None.
    """

    words: str
    test: Callable[[Network], Callable[[Any], bool]]
    role: str | None = None


def needs(
    recipe: str, roles: Roles, *several: Need, by_names: bool = False, hint: str = ""
) -> Rules:
    """Return a rule that matches nothing, and raises if a model lacks a role.

    Without this check a missing role would be ignored in silence, and the promise of
    the recipe, such as an output of exactly 0, would not hold.

    Args:
      recipe: the name of the recipe.
      roles: the patterns that the user passed.
      *several: the roles that the model must have.
      by_names: whether the recipe also works on shapes alone, which are not checked.
      hint: what to do where most leaves of a tree have no rule.
    """

    def check(model: Model) -> Any:
        if model.network is not None:
            _check_roles(recipe, roles, several, model)
        elif not by_names:
            words = ", ".join(need.words for need in several)
            raise ValueError(
                f"recipes.{recipe} reads roles that shapes and names do not show: "
                f"{words}. Make the plan from a Network: "
                "jinit.plan(jinit.network(model, *arguments), rules)."
            )
        text = f"what recipes.{recipe} needs"
        return Paths(text, frozenset(), hint=hint) if hint else ()

    return [Rule(FromTree(check), zeros, optional=True)]


def _check_roles(
    recipe: str, roles: Roles, several: tuple[Need, ...], model: Model
) -> None:
    """Raise an error if a network, or the part for the recipe, lacks a role.

    Raises:
      ValueError: if a role is missing. The message names all missing roles.
    """
    here = {leaf.path for leaf in model.part()}
    absent = [
        need
        for need in several
        if roles.get(need.role or "") is None
        and not here & in_networks.paths(model, need.test)
    ]
    if not absent:
        return
    keywords = [f"{need.role}=[...]" for need in absent if need.role]
    advice = f", or pass {' and '.join(keywords)}, patterns of these" * bool(keywords)
    # The explanation in a parenthesis is given once.
    short = [
        need.words.split(" (")[0] if need in absent else need.words for need in several
    ]
    raise ValueError(
        f"recipes.{recipe} is for models that have "
        f"{', '.join(f'a {words}' for words in short)}, and the network shows no "
        f"{' and no '.join(need.words for need in absent)}. Take another recipe"
        f"{advice}."
    )
