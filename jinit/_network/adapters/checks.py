"""Checks that several adapters make, with the errors that they raise."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._core.trees import leaves, listed, struct
from .adapted import is_array


def require_parameters(params: Any, model: Any, place: str) -> None:
    """Raise unless a model has parameters, all of which are arrays or numbers.

    Raises:
      TypeError: if a parameter can be no array, such as a text.
      ValueError: if `params` has no leaves; `place` says where they were looked for.
    """
    wrong = [leaf for leaf in leaves(params) if struct(leaf.value) is None]
    if wrong:
        lines = listed(f"{leaf.path}: {leaf.value!r}" for leaf in wrong)
        raise TypeError(
            f"the parameters of the model {named(model)} must be arrays, or their "
            f"shapes as jax.ShapeDtypeStruct, but {place} has{lines}"
        )
    if not jax.tree.leaves(params):
        raise ValueError(
            f"the model {named(model)} has no parameters: there are no arrays of real "
            f"or complex numbers in {place}. Pass a model with parameters, and the "
            "variables that belong to it; a model that holds its arrays is called "
            "without variables."
        )


def named(model: Any) -> str:
    """Name a model in a message, without its arrays."""
    name = getattr(model, "__qualname__", None)
    return name if isinstance(name, str) else f"of type {type(model).__name__}"


def no_rngs(rngs: Any, why: str) -> None:
    """Raise where keys are passed to a model that takes none.

    Raises:
      TypeError: if `rngs` is not None; `why` says where the keys belong.
    """
    if rngs is not None:
        raise TypeError(f"`rngs` was passed, but {why}")


def require_key(rngs: Any) -> None:
    """Raise unless `rngs` is None, or one PRNG key, or the shape and dtype of one.

    Raises:
      TypeError: for anything else.
    """
    if rngs is None or (is_array(rngs) and _is_key(rngs)):
        return
    raise TypeError(
        f"`rngs` is {rngs!r}; it must be a PRNG key, such as jax.random.key(0)."
    )


def require_keys(rngs: Any) -> None:
    """Raise unless `rngs` is None, a PRNG key, or a dictionary of names and keys.

    Raises:
      TypeError: for anything else; all wrong entries are listed.
    """
    if not isinstance(rngs, dict):
        return require_key(rngs)
    wrong = [
        f"{name}: {key!r}"
        for name, key in rngs.items()
        if not (isinstance(name, str) and is_array(key) and _is_key(key))
    ]
    if wrong:
        raise TypeError(
            "`rngs` must map names to PRNG keys, such as "
            f"{{'dropout': jax.random.key(0)}}, but it has{listed(wrong)}"
        )


def _is_key(value: Any) -> bool:
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return bool(value.shape == ())
    return bool(value.dtype == np.uint32) and len(value.shape) == 1
