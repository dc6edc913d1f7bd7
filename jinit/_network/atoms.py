"""What the equations of a jaxpr read and write has shapes."""

from typing import Any


def shape_of(atom: Any) -> tuple[int, ...]:
    """Return the shape of what an equation reads or writes; () where it has none."""
    return tuple(getattr(atom.aval, "shape", ()))
