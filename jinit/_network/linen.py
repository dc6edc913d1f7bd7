"""A Linen module becomes a function whose layers' outputs are named."""

from collections.abc import Callable
from typing import Any

from .calls import TRACES, Notes, inside, named, tell


def linen(
    model: Any, options: dict[str, Any], notes: Notes | None = None
) -> Callable[..., Any]:
    """Return a Linen module as a function of (variables, (keys, *inputs))."""
    import flax.linen as nn

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        path = "/".join(context.module.path)
        with inside(path):
            output = call(*args, **kwargs)
        if context.method_name != "__call__" or not path:
            return output
        own = nn.unbox(context.module.variables.get("params", {}))
        if notes is not None:
            tell(notes, path, context.module, own, (*args, *kwargs.values()))
        return named(path, output, own)

    def forward(variables: Any, beside: tuple[Any, ...]) -> Any:
        rngs, *inputs = beside
        others = [name for name in variables if name != "params"]
        mutable = [*others, f"jinit trace {next(TRACES)}"]
        with nn.intercept_methods(intercept):
            output, _ = model.apply(
                variables, *inputs, rngs=rngs, mutable=mutable, **options
            )
        return output

    return forward
