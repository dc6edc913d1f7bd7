"""A plain function takes its variables first: `function(variables, *arguments)`."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from . import nnx
from .adapted import Adapted, is_parameter, split
from .arguments import adapted, arguments_of, is_nnx
from .checks import named, no_rngs, require_parameters


def adapt(
    function: Any, arguments: Sequence[Any], rngs: Any, options: dict[str, Any]
) -> Adapted:
    """Adapt a function of (variables, ...).

    Arrays of real and complex numbers in the variables are parameters; all else is
    state. Of Linen's variables only the collection "params" has parameters.
    """
    _require_variables(function, arguments)
    variables, *inputs = arguments
    if any(map(is_nnx, jax.tree.leaves(variables, is_leaf=is_nnx))):
        return nnx.adapt_objects(function, function, variables, inputs, rngs, options)
    options = _with_rngs(function, rngs, options)
    is_linen = isinstance(variables, Mapping) and "params" in variables
    parts = split(variables["params"] if is_linen else variables, is_parameter)
    place = f"the first argument, the variables, of type {type(variables).__name__}"
    require_parameters(parts.chosen, function, place)
    others = {**variables, "params": None} if is_linen else None
    call = arguments_of(inputs, options, state=(parts.rest, others))

    def joined(params: Any, state: Any) -> Any:
        rest, others = state
        whole = parts.join(params, rest)
        return type(variables)({**others, "params": whole}) if is_linen else whole

    def run(params: Any, inputs: Any, options: Any, beside: Any) -> Any:
        return function(joined(params, beside["state"]), *inputs, **options)

    def rebuild(params: Any) -> Any:
        return joined(params, (parts.rest, others))

    return adapted("function", [function], parts.chosen, call, run, rebuild)


def _require_variables(function: Any, arguments: Sequence[Any]) -> None:
    if not arguments:
        raise TypeError(
            f"`model` is the function {named(function)}, and no variables were passed. "
            "A function takes its variables first: call "
            "jinit.network(function, variables, ...). A model that holds its arrays in "
            "a closure hides them; make them an argument."
        )


def _with_rngs(function: Any, rngs: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with `rngs` among them, if the function takes such a one."""
    if rngs is None:
        return options
    try:
        takes = {p.name for p in inspect.signature(function).parameters.values()}
    except (TypeError, ValueError):
        takes = set()
    if "rngs" not in takes:
        no_rngs(
            rngs,
            f"the function {named(function)} has no argument of that name; pass keys "
            "in their places among its arguments.",
        )
    return {**options, "rngs": rngs}
