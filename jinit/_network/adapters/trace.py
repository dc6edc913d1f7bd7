"""A model is traced with abstract values; what goes wrong is said in its terms."""

import re
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr

from ..._core.trees import leaves, listed
from .. import equations, jaxpr
from . import modules
from .adapted import Adapted


def trace(adapted: Adapted) -> tuple[ClosedJaxpr, Any]:
    """Trace an adapted model: the first inputs of the jaxpr are the parameters.

    The outputs of modules have names in it, and it is without dead code.

    Returns:
      The equations, and the tree of the results' shapes.

    Raises:
      TypeError: if the model cannot be called with these arguments, or has effects.
      ValueError: likewise, where the model itself raises another error.
    """
    try:
        with modules.named():
            arguments = (adapted.params, *adapted.inputs)
            closed, shapes = jaxpr.trace(adapted.apply, arguments)
    except jax.errors.JAXTypeError as error:
        raise TypeError(
            "the model cannot be traced: it needs the values of its arguments, or "
            "keeps a traced value after its call. Pass settings as Python numbers, and "
            f"decide on values by jax.lax.cond or jnp.where. {_first(error)}"
        ) from error
    except Exception as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(_explained(adapted, error)) from error
    _require_no_effects(closed)
    _require_no_hidden_arrays(adapted, closed)
    seeing, _ = equations.without_dead_code(closed.jaxpr, keep_arguments=True)
    return ClosedJaxpr(seeing, closed.consts), shapes


def _explained(adapted: Adapted, error: Exception) -> str:
    """Say what came, what the model said to it, and what to do."""
    return (
        f"the model ({adapted.library}) could not be called with "
        f"{_shapes(adapted.inputs)}{type(error).__name__}: {_first(error)} "
        f"{_remedy(error)}{_ONE_EXAMPLE if adapted.library == 'Equinox' else ''}"
    )


# The commonest cause by far: a batch where the layers of Equinox take one example.
_ONE_EXAMPLE = (
    " An Equinox module maps one example; for a batch pass a function and then the "
    "model: lambda model, x: jax.vmap(model)(x), model, x."
)


# The names of Flax's errors, and words of Haiku's and NNX's, which are not imported.
_REMEDIES = (
    (
        (
            "InvalidRngError",
            "non-None PRNGKey",
            "no `rngs` argument was provided",
            "requires a key",
        ),
        "The model draws random numbers in this call: pass `rngs=` (a key, or for "
        "Linen a dictionary such as {'dropout': jax.random.key(0)}), or turn dropout "
        "off by the model's own option.",
    ),
    (
        (
            "ScopeParamNotFoundError",
            "ScopeCollectionNotFound",
            "ScopeVariableNotFound",
            "Unable to retrieve",
        ),
        "The variables lack what the model reads. They belong to another model, or to "
        "other settings: pass those that this model's `init` returns for these "
        "arguments.",
    ),
    (
        ("ScopeParamShapeError", "does not match shape"),
        "The variables belong to another model, or to inputs of another shape: pass "
        "those that this model's `init` returns for these arguments.",
    ),
)


def _remedy(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    for signs, remedy in _REMEDIES:
        if any(sign in text for sign in signs):
            return remedy
    return (
        "Pass the arguments with which you would call the model, in their order and "
        "shapes."
    )


def _shapes(inputs: tuple[Any, ...]) -> str:
    rows = [str(leaf) for leaf in leaves(inputs)]
    if not rows:
        return "no arrays. "
    return f"these arrays (arguments by their numbers, then state):{listed(rows[:8])}\n"


def _first(error: Exception) -> str:
    """Return the telling paragraph of a message: JAX's and Flax's go on for pages."""
    parts = _COLORS.sub("", str(error)).strip().split("\n\n")
    # Keras says first where it was, and then what went wrong.
    is_place = parts[0].startswith("Exception encountered")
    text = " ".join(parts[: 2 if is_place else 1])
    return text if text.endswith(".") else f"{text}."


_COLORS = re.compile(r"\x1b\[\d+m")


def _require_no_effects(closed: ClosedJaxpr) -> None:
    """Raise unless a trace is a pure function.

    Raises:
      TypeError: if something happens outside of it, such as a callback or a print.
    """
    if closed.effects:
        names = sorted({type(effect).__name__ for effect in closed.effects})
        raise TypeError(
            f"the model has effects ({', '.join(names)}): something happens beside "
            "its result, such as jax.debug.print or io_callback. A model that is read "
            "must be a pure function; take them out, or out of this call."
        )


def _require_no_hidden_arrays(adapted: Adapted, closed: ClosedJaxpr) -> None:
    """Raise for `lambda x: model(x)`, whose only argument would count as parameters.

    Raises:
      TypeError: if one array is the only argument of a function that holds others.
    """
    is_alone = not adapted.inputs and jax.tree_util.all_leaves([adapted.params])
    holds = any(map(np.ndim, closed.consts))
    if is_alone and (holds or any(map(jaxpr.holds_arrays, closed.jaxpr.eqns))):
        raise TypeError(
            "the only argument of the function is one array, which would be its "
            "parameters, and the function holds other arrays in a closure. A function "
            "takes its variables first: make what it holds an argument, such as "
            "jinit.network(lambda model, x: model(x), model, x)."
        )


def require_numbers(adapted: Adapted, caller: str) -> None:
    """Raise if parameters or inputs have no numbers where numbers are needed.

    Raises:
      TypeError: if a leaf is a `jax.ShapeDtypeStruct`, or is traced; all such leaves
        are counted.
      ValueError: if the memory of a leaf was donated.
    """
    named = [
        (f"{name} {leaf}", leaf.value)
        for name, tree in (("parameter", adapted.params), ("input", adapted.inputs))
        for leaf in leaves(tree)
    ]
    abstract = [text for text, x in named if isinstance(x, jax.ShapeDtypeStruct)]
    if abstract:
        raise TypeError(
            f"jinit.{caller} computes with numbers, but {len(abstract)} leaves are "
            f"jax.ShapeDtypeStructs:{listed(abstract[:8])}\nPass arrays instead."
        )
    tracers = [text for text, x in named if isinstance(x, jax.core.Tracer)]
    if tracers:
        raise TypeError(
            f"jinit.{caller} computes with numbers, but {len(tracers)} leaves are "
            f"traced:{listed(tracers[:8])}\nCall it outside of jax.jit, jax.vmap and "
            "jax.grad."
        )
    deleted = [t for t, x in named if isinstance(x, jax.Array) and x.is_deleted()]
    if deleted:
        raise ValueError(
            f"jinit.{caller} computes with numbers, but {len(deleted)} leaves were "
            f"deleted, as the arguments that a jitted function donates are:"
            f"{listed(deleted[:8])}\nPass the arrays that this function returned."
        )
