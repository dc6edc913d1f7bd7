"""The operands and results of equations have shapes and types."""

from typing import Any

import jax.numpy as jnp
import numpy as np


def shape_of(atom: Any) -> tuple[int, ...]:
    """Return the shape of what an equation reads or writes; () where it has none."""
    return tuple(getattr(atom.aval, "shape", ()))


def is_whole(atom: Any) -> bool:
    """Tell whether what an equation reads or writes holds whole numbers."""
    return bool(jnp.issubdtype(atom.aval.dtype, np.integer))
