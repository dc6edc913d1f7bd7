"""A callable PyTree holds its arrays: an Equinox module, a Partial, a dataclass."""

import functools
from collections.abc import Sequence
from typing import Any

from .adapted import Adapted, is_array, is_parameter, paths_of, split
from .arguments import arguments_of
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

    def apply(params: Any, *inputs: Any) -> Any:
        inputs, options, beside = call.restore(*inputs)
        whole = parts.join(params, beside["state"])
        return getattr(whole, method)(*inputs, **options)

    def rebuild(params: Any) -> Any:
        return parts.join(params, parts.rest)

    # Without its arrays, of which only shapes count.
    settings = split(parts.rest, is_array).rest
    key = functools.partial(call.key, "pytree", settings, method)
    library = "Equinox" if is_equinox else type(model).__name__
    paths = paths_of(parts.chosen)
    return Adapted(
        apply, parts.chosen, paths, call.inputs, call.number, rebuild, library, key
    )
