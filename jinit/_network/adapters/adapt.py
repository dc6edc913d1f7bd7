"""Find the library of a model by its type."""

import inspect
import sys
from collections.abc import Sequence
from typing import Any

import jax

from . import functions, haiku, keras, linen, nnx, penzai, pytrees
from .adapted import Adapted, is_parameter
from .arguments import is_nnx

_HAIKU = ("Transformed", "TransformedWithState")


def adapt(
    model: Any, arguments: Sequence[Any], rngs: Any, options: dict[str, Any]
) -> Adapted:
    """Make a model of any library a pure function of its parameters.

    Args:
      model: a Linen module, a function transformed by Haiku, a function of
        (variables, ...), or a model that holds its arrays (NNX, Equinox or any other
        callable PyTree, Keras 3 on JAX, penzai), or a method of one.
      arguments: what the model is called with, in order; arrays may be
        `jax.ShapeDtypeStruct`s.
      rngs: a key, a dictionary of keys, or None.
      options: the keyword arguments of the call.

    Returns:
      An `Adapted`.

    Raises:
      TypeError: if `model` is none of these, or the arguments are of a wrong type.
      ValueError: if the model has no parameters.
    """
    if inspect.isclass(model):
        raise TypeError(
            f"`model` is the class {model.__name__}, and not a model. Make a model of "
            f"it first: {model.__name__}(...)."
        )
    owner, method = _method_of(model)
    if is_linen(owner):
        if method not in ("__call__", "apply"):
            options = {"method": method, **options}
        return linen.adapt(owner, arguments, rngs, options)
    if _is_from(owner, "haiku", *_HAIKU):
        return haiku.adapt(owner, arguments, rngs, options)
    if not callable(model):
        raise TypeError(
            f"`model` is {model!r}, of type {type(model).__name__}; it must be a Linen "
            "module, a function transformed by Haiku, a function of (variables, ...), "
            "or a model that holds its arrays (NNX, Equinox, Keras, penzai)."
        )
    if _is_from(owner, "keras", "Layer"):
        return keras.adapt(owner, method, arguments, rngs, options)
    if is_nnx(owner):
        return nnx.adapt_model(owner, method, arguments, rngs, options)
    if _is_from(owner, "penzai", "Layer"):
        return penzai.adapt(owner, method, arguments, rngs, options)
    if any(map(is_parameter, jax.tree.leaves(owner))):
        return pytrees.adapt(owner, method, arguments, rngs, options)
    _require_variables_first(model)
    return functions.adapt(model, arguments, rngs, options)


def holds_arrays(model: Any) -> bool:
    """Tell whether a model is called without variables, which it holds."""
    owner, _ = _method_of(model)
    if is_linen(owner) or _is_from(owner, "haiku", *_HAIKU):
        return False
    is_keras = _is_from(owner, "keras", "Layer") or _is_from(owner, "penzai", "Layer")
    leaves = jax.tree.leaves(owner)
    return is_nnx(owner) or is_keras or any(map(is_parameter, leaves))


def is_linen(model: Any) -> bool:
    """Tell whether a model is a Linen module, without an import of Flax."""
    return _is_from(model, "flax.linen", "Module")


def _method_of(model: Any) -> tuple[Any, str]:
    """Return the model that a bound method belongs to, and the method's name."""
    if inspect.ismethod(model) or (
        _is_from(model, "equinox", "BoundMethod") and hasattr(model, "__self__")
    ):
        return model.__self__, model.__name__
    return model, "__call__"


def _is_from(model: Any, library: str, *names: str) -> bool:
    """Tell whether a class of this name and library is among a model's classes."""
    return library.partition(".")[0] in sys.modules and any(
        kind.__name__ in names and f"{kind.__module__}.".startswith(f"{library}.")
        for kind in type(model).__mro__
    )


def _require_variables_first(model: Any) -> None:
    """Raise for `jax.vmap(model)`, whose first argument would count as parameters.

    Raises:
      TypeError: if a function wraps a model that holds its arrays.
    """
    inner = model
    while hasattr(inner, "__wrapped__"):
        inner = inner.__wrapped__
        owner, _ = _method_of(inner)
        if is_nnx(owner) or any(map(is_parameter, jax.tree.leaves(owner))):
            raise TypeError(
                f"`model` is a function around a model {type(owner).__name__}, whose "
                "arrays it hides, and a function takes its variables first. Make the "
                "model an argument, such as "
                "jinit.network(lambda m, x: jax.vmap(m)(x), model, x)."
            )
