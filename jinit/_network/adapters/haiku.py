"""A function that Haiku transformed is a function of its parameters."""

import inspect
from collections.abc import Sequence
from typing import Any

from .adapted import Adapted
from .arguments import adapted, arguments_of
from .checks import no_rngs, require_key, require_parameters


def adapt(
    transformed: Any, arguments: Sequence[Any], rngs: Any, options: dict[str, Any]
) -> Adapted:
    """Adapt a transformed function, called as `transformed.apply(params, rng, ...)`.

    With state it is `apply(params, state, rng, ...)`. The arguments come without `rng`,
    which is `rngs`; a new state is dropped.
    """
    has_state = type(transformed).__name__ == "TransformedWithState"
    names = ("params", "state") if has_state else ("params",)
    _require_variables(names, arguments)
    params, *rest = arguments
    state, inputs = (rest[0], rest[1:]) if has_state else ({}, rest)
    require_parameters(params, transformed, "the first argument, the parameters")
    takes_rng = _takes_rng(transformed.apply, len(names))
    if not takes_rng:
        no_rngs(rngs, "hk.without_apply_rng was applied to the function; leave it out.")
    require_key(rngs)
    call = arguments_of(inputs, options, state=state, rngs=rngs)

    def run(params: Any, inputs: Any, options: Any, beside: Any) -> Any:
        before = (params, beside["state"]) if has_state else (params,)
        key = (beside["rngs"],) if takes_rng else ()
        output = transformed.apply(*before, *key, *inputs, **options)
        return output[0] if has_state else output

    def rebuild(params: Any) -> Any:
        return (params, state) if has_state else params

    return adapted("Haiku", [transformed.apply], params, call, run, rebuild)


def _require_variables(names: tuple[str, ...], arguments: Sequence[Any]) -> None:
    if len(arguments) < len(names):
        raise TypeError(
            f"a function transformed by Haiku holds no variables, and "
            f"{len(arguments)} of {', '.join(names)} were passed. Call "
            f"jinit.network(transformed, {', '.join(names)}, ...), with what "
            "transformed.init returns, or its shapes from jax.eval_shape."
        )


def _takes_rng(apply: Any, place: int) -> bool:
    """Tell whether `apply` takes a key; hk.without_apply_rng removes that argument."""
    names = list(inspect.signature(apply).parameters)
    return names[place : place + 1] == ["rng"]
