"""A Linen module becomes a function whose layers' outputs are named."""

from collections.abc import Callable
from typing import Any

from .calls import TRACES, OnModule, inside, named, record


def linen(
    model: Any, options: dict[str, Any], on_module: OnModule | None = None
) -> Callable[..., Any]:
    """Return a Linen module as a function of (variables, (keys, *inputs))."""
    # Only a user who passes a Linen module needs Flax.
    import flax.linen as nn

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        path = "/".join(context.module.path)
        with inside(path):
            output = call(*args, **kwargs)
        if context.method_name != "__call__" or not path:
            return output
        parameters = nn.unbox(context.module.variables.get("params", {}))
        inputs = (*args, *kwargs.values())
        record(on_module, path, context.module, parameters, inputs)
        return named(path, output, parameters)

    def forward(variables: Any, beside: tuple[Any, ...]) -> Any:
        rngs, *inputs = beside
        others = [name for name in variables if name != "params"]
        # A collection that does not exist makes each trace differ from all others.
        mutable = [*others, f"jinit trace {next(TRACES)}"]
        with nn.intercept_methods(intercept):
            output, _ = model.apply(
                variables, *inputs, rngs=rngs, mutable=mutable, **options
            )
        return output

    return forward
