"""A model becomes a function whose layers' outputs are named by their paths.

`called` is the door for Linen modules and functions; nnx.py has the door for NNX
models. Flax's interceptor names the outputs of Linen's modules. In a function the user
names values by `checkpoint_name`.
"""

import functools
import inspect
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeVar

from .behavior import key_of
from .calls import ModuleCall, OnModule
from .kept import Key, Traced, traced
from .linen import linen

F = TypeVar("F", bound=Callable[..., Any])


def function_of_a_model(function: F) -> F:
    """Make a call with too few arguments an error that says how to call instead."""

    @functools.wraps(function)
    def run(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except TypeError:
            # Binding takes microseconds, so it waits until something went wrong.
            message = _too_few(run, args, options)
            if message is None:
                raise
        raise TypeError(message)

    return run  # type: ignore[return-value]


def _too_few(function: Any, args: Any, options: Any) -> str | None:
    """Return the text about a call with too few arguments, or None if it has all."""
    signature = inspect.signature(function)
    try:
        signature.bind(*args, **options)
        return None
    except TypeError as error:
        problem, name = str(error), f"jinit.{function.__name__}"
    needed = [p.name for p in signature.parameters.values() if p.default is p.empty]
    named = [n for n in needed if n != "options"]
    if args and is_module(args[0], "flax.nnx"):
        return (
            f"{name} got an NNX model, which holds its variables, and {problem}. Call "
            f"jinit.nnx.{function.__name__}(model, ...) instead."
        )
    return f"{name}: {problem}. Call {name}({', '.join(named)})."


def inputs_of(batch: Any) -> tuple[Any, ...]:
    """Return a batch as the arguments of a model."""
    return batch if isinstance(batch, tuple) else (batch,)


class Called(NamedTuple):
    """A called model is a function of (variables, beside), with its arguments."""

    forward: Callable[[Any, tuple[Any, ...]], Any]
    variables: Any
    # First what is neither parameter nor input, such as the keys of dropout or the
    # statistics of a batch norm; then the inputs.
    beside: tuple[Any, ...]
    # Gives the key of what the function computes (see behavior.py), or None.
    key: Key
    # The calls of modules by path, filled while the function is traced or run.
    calls: dict[str, ModuleCall]

    def traced(self) -> Traced:
        """Return the trace of the function, from an earlier call where possible."""
        arguments = (self.variables, self.beside)
        return traced(self.key, self.forward, arguments, self._calls)

    def _calls(self) -> Hashable:
        """Return the calls in a form that can be compared, without their inputs."""
        return tuple(
            (path, tuple(call.shapes.items()), call.units, call.is_plain)
            for path, call in self.calls.items()
        )


def module_calls(trace: Traced) -> dict[str, ModuleCall]:
    """Return the calls of modules that were recorded in a trace, without inputs."""
    return {
        path: ModuleCall(dict(shapes), units, is_plain, ())
        for path, shapes, units, is_plain in trace.calls
    }


def called(
    model: Any, variables: Any, batch: Any, rngs: Any, options: dict[str, Any],
    caller: str,
) -> Called:  # fmt: skip
    """Return a Linen module or a function as a function whose outputs are named.

    Raises:
      TypeError: for any other model; the text names the `caller`.
    """
    calls: dict[str, ModuleCall] = {}
    forward = forward_of(model, options, caller, calls.setdefault)
    keys = rngs if is_module(model, "flax.linen") else None
    return Called(
        forward,
        variables,
        (keys, *inputs_of(batch)),
        functools.partial(key_of, "model", model, options),
        calls,
    )


def forward_of(
    model: Any,
    options: dict[str, Any],
    caller: str,
    on_module: OnModule | None = None,
) -> Callable[..., Any]:
    """Return a model as a function of (variables, (keys, *inputs)) with names.

    Raises:
      TypeError: for any other model; the text names the `caller`.
    """
    if is_module(model, "flax.linen"):
        return linen(model, options, on_module)
    if not callable(model) or is_module(model, "flax.nnx"):
        raise TypeError(
            f"`model` is {model!r}, of type {type(model).__name__}; it must be a Linen "
            "module or a function of (variables, batch). For an NNX model call "
            f"jinit.nnx.{caller}."
        )

    def forward(variables: Any, beside: tuple[Any, ...]) -> Any:
        return model(variables, *beside[1:], **options)

    return forward


def is_module(model: Any, library: str) -> bool:
    """Tell whether a model is a module of flax.linen or flax.nnx; load neither."""
    return any(
        kind.__name__ == "Module" and kind.__module__.startswith(library)
        for kind in type(model).__mro__
    )
