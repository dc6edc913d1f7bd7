"""A Linen module is a function of its collection "params"."""

from collections.abc import Mapping, Sequence
from typing import Any

from . import modules
from .adapted import Adapted
from .arguments import adapted, arguments_of
from .checks import require_keys, require_parameters


def adapt(
    module: Any, arguments: Sequence[Any], rngs: Any, options: dict[str, Any]
) -> Adapted:
    """Adapt a Linen module, called as `module.apply(variables, *inputs, **options)`.

    Collections beside "params" are state. They may change during the call, as batch
    statistics and caches do; the changes are dropped.
    """
    variables: Any = _variables(module, arguments)
    require_keys(rngs)
    params, kind = variables["params"], type(variables)
    require_parameters(params, module, "variables['params']")
    state = {name: tree for name, tree in variables.items() if name != "params"}
    # `mutable` of the user's would change the form of the result.
    options = {**options, "mutable": _mutable(state, options.get("mutable"))}
    call = arguments_of(arguments[1:], options, state=state, rngs=rngs)

    def run(params: Any, inputs: Any, options: Any, beside: Any) -> Any:
        variables = {"params": params, **beside["state"]}
        mutable = [*options.pop("mutable"), *modules.unique_collection()]
        output, _ = module.apply(
            variables, *inputs, rngs=beside["rngs"], mutable=mutable, **options
        )
        return output

    def rebuild(params: Any) -> Any:
        return kind({**variables, "params": params})

    return adapted("Linen", [module], params, call, run, rebuild)


def _variables(module: Any, arguments: Sequence[Any]) -> Mapping[str, Any]:
    how = (
        f"Call jinit.network(model, variables, ...) with the variables that "
        f"{type(module).__name__}.init returns, or their shapes from "
        "jax.eval_shape(model.init, key, ...)."
    )
    if not arguments:
        raise TypeError(
            f"a Linen module holds no variables, and none were passed. {how}"
        )
    variables = arguments[0]
    if not isinstance(variables, Mapping):
        raise TypeError(
            f"the first argument after a Linen module is of type "
            f"{type(variables).__name__}; it must be the module's variables. {how}"
        )
    if "params" not in variables:
        names = ", ".join(map(repr, variables)) or "nothing"
        raise ValueError(
            f'the variables hold {names}, and no collection "params". {how} If these '
            "are the parameters, pass {'params': ...}."
        )
    return variables


def _mutable(state: Mapping[str, Any], mutable: Any) -> Any:
    """Return the collections that may change: those of the state, and the user's."""
    if mutable is True or not isinstance(mutable, (str, list, tuple, set)):
        # True would let a module make parameters that are missing.
        return list(state)
    names = {mutable} if isinstance(mutable, str) else set(mutable)
    return sorted((names | set(state)) - {"params"})
