"""A callable PyTree holds its arrays: an Equinox module, a Partial, a dataclass."""

from collections.abc import Sequence
from typing import Any

from .adapted import Adapted, is_array, is_parameter, split
from .arguments import adapted, arguments_of
from .checks import no_rngs, require_key


def adapt(
    model: Any,
    method: str,
    arguments: Sequence[Any],
    rngs: Any,
    options: dict[str, Any],
) -> Adapted:
    """Adapt a callable PyTree, called as `model(*arguments, **options)`.

    With `rngs` an Equinox module gets `key=rngs`, which is its convention.
    """
    is_equinox = any(k.__module__.startswith("equinox.") for k in type(model).__mro__)
    if is_equinox and rngs is not None:
        require_key(rngs)
        options = {"key": rngs, **options}
    elif not is_equinox:
        no_rngs(rngs, "a callable PyTree takes its keys among its arguments.")
    parts = split(model, is_parameter)
    call = arguments_of(arguments, options, state=parts.rest)

    def run(params: Any, inputs: Any, options: Any, beside: Any) -> Any:
        whole = parts.join(params, beside["state"])
        return getattr(whole, method)(*inputs, **options)

    def rebuild(params: Any) -> Any:
        return parts.join(params, parts.rest)

    # Without its arrays, of which only shapes count.
    behavior = [split(parts.rest, is_array).rest, method]
    library = "Equinox" if is_equinox else type(model).__name__
    return adapted(library, behavior, parts.chosen, call, run, rebuild)
