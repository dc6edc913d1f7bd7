"""A model -> a function whose layers' outputs are named by their paths.

Linen's modules are met by Flax's interceptor, those of NNX by their class's
`__call__` while the model is traced. What a user names by `checkpoint_name` is found
beside them.
"""

import functools
import inspect
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeVar

from .behavior import key_of
from .calls import ModuleCall, Notes
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
    """Say what a call of (model, variables, ...) lacks; None where it lacks nothing."""
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
    """A batch as the arguments of a model."""
    return batch if isinstance(batch, tuple) else (batch,)


class Called(NamedTuple):
    """A called model is a function of (variables, beside), with its arguments."""

    forward: Callable[[Any, tuple[Any, ...]], Any]
    variables: Any
    # First what is neither parameter nor input, such as the keys of dropout or the
    # statistics of a batch norm; then the inputs.
    beside: tuple[Any, ...]
    # The key of what the function computes, see behavior.py, or None.
    key: Key
    # Filled while the function is traced or run.
    seen: dict[str, ModuleCall]

    def traced(self) -> Traced:
        """Return the trace of the function, from an earlier call where possible."""
        arguments = (self.variables, self.beside)
        return traced(self.key, self.forward, arguments, self._noted)

    def _noted(self) -> Hashable:
        """Return what was seen of modules, without their inputs, which are arrays."""
        rows = ((path, seen.shapes, seen.units, seen.is_plain) for path, seen in
                self.seen.items())  # fmt: skip
        return tuple(
            (path, tuple(shapes.items()), *rest) for path, shapes, *rest in rows
        )


def seen_in(trace: Traced) -> dict[str, ModuleCall]:
    """Return what was noted of each module while it was traced."""
    return {
        path: ModuleCall(dict(shapes), units, is_plain, ())
        for path, shapes, units, is_plain in trace.notes
    }


def called(
    model: Any, variables: Any, batch: Any, rngs: Any, options: dict[str, Any],
    caller: str,
) -> Called:  # fmt: skip
    """Return a Linen module or a function as a function whose outputs are named.

    Raises:
      TypeError: for anything else; `caller` is named in the text.
    """
    if isinstance(model, Called):
        # An adapter, such as that of NNX, has named the outputs of the model already.
        return model
    seen: dict[str, ModuleCall] = {}
    forward = forward_of(model, options, caller, seen.setdefault)
    keys = rngs if is_module(model, "flax.linen") else None
    return Called(
        forward,
        variables,
        (keys, *inputs_of(batch)),
        functools.partial(key_of, "model", model, options),
        seen,
    )


def forward_of(
    model: Any, options: dict[str, Any], caller: str, notes: Notes | None = None
) -> Callable[..., Any]:
    """Return a model as a function of (variables, (keys, *inputs)) with names.

    Raises:
      TypeError: if it is neither a Linen module nor a function; `caller` is named.
    """
    if is_module(model, "flax.linen"):
        return linen(model, options, notes)
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
    """Whether a model is one of flax.linen or flax.nnx, without loading them to see."""
    return any(
        kind.__name__ == "Module" and kind.__module__.startswith(library)
        for kind in type(model).__mro__
    )
