"""A penzai model is a function of its parameters, each known by its label."""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import jax

from .adapted import Adapted, is_array, split
from .arguments import adapted, arguments_of
from .checks import no_rngs, require_parameters


def adapt(
    model: Any,
    method: str,
    arguments: Sequence[Any],
    rngs: Any,
    options: dict[str, Any],
) -> Adapted:
    """Adapt a penzai model, called as `model(*arguments, **options)`.

    Its variables may be live or frozen; those of one label are one variable. State
    variables may change during the call, and the changes are dropped.
    """
    no_rngs(rngs, "penzai's layers take random streams by name, as side inputs.")
    slots, variables = _without_variables(model)
    trained = {
        str(one.label): one
        for one in variables
        if type(one).__name__ == "ParameterValue"
    }
    others = [one for one in variables if str(one.label) not in trained]
    params = {label: one.value for label, one in trained.items()}
    require_parameters(params, model, "its variables of the type pz.Parameter")
    call = arguments_of(arguments, options, state=(slots, others))

    def whole(params: Any, slots: Any, others: Any) -> Any:
        bind = sys.modules["penzai.core.variables"].bind_variables
        new = [dataclasses.replace(trained[k], value=v) for k, v in params.items()]
        return bind(slots, [*new, *(one.unfreeze_as_copy() for one in others)])

    def run(params: Any, inputs: Any, options: Any, beside: Any) -> Any:
        return getattr(whole(params, *beside["state"]), method)(*inputs, **options)

    def rebuild(params: Any) -> Any:
        return whole(params, slots, others)

    behavior = [split(slots, is_array).rest, method]
    one = adapted("penzai", behavior, params, call, run, rebuild)
    # A named array holds its data under a name that says nothing.
    paths = tuple(path.removesuffix("/data_array") for path in one.paths)
    return one._replace(paths=paths)


def _without_variables(model: Any) -> tuple[Any, list[Any]]:
    """Return a model with slots for variables, and its variables, frozen."""
    library = sys.modules["penzai.core.variables"]
    live, frozen = library.AbstractVariable, library.AbstractVariableValue

    def is_variable(node: Any) -> bool:
        return isinstance(node, (live, frozen))

    variables: dict[Any, Any] = {}

    def take(leaf: Any) -> Any:
        if not is_variable(leaf):
            return leaf
        value = leaf.freeze() if isinstance(leaf, live) else leaf
        return variables.setdefault(value.get_slot(), value).get_slot()

    slots = jax.tree.map(take, model, is_leaf=is_variable)
    return slots, list(variables.values())
