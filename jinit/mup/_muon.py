"""Trees of labels say which tensors of a model Muon takes, and along which axes."""

from collections.abc import Callable
from typing import Any

import jax

from .._core.patterns import skipped
from .._core.trees import Leaf
from .._network.record import Network
from ._factors import Tensor
from ._matrices import Matrix
from ._rescale import find


def structure_of(shapes: Any) -> Any:
    """Return the structure of a tree of shapes, or of the parameters of a network."""
    return jax.tree.structure(shapes.params if isinstance(shapes, Network) else shapes)


def labelled(
    p: Any, params: Any, skip: Any, label: Callable[[Matrix | None], Any]
) -> Any:
    """Return a tree with the label of each tensor of a parametrization.

    Args:
      p: the parametrization.
      params: the tree to label, or None for the tree that `p` was made from.
      skip: patterns of tensors that Adam takes.
      label: returns the label for the axes of a matrix, or for None.
    """
    tensors = p.tensors
    if all(one.roles is None and not one.axes for one in tensors):
        raise ValueError(
            "the parametrization was made from shapes in which nothing grows, so they "
            "do not show which matrices are hidden. Make it from networks, which show "
            "them: jinit.mup.infer(jinit.network(base, ...), jinit.network(model, "
            "...))."
        )
    skips = skipped(skip, list(map(_leaf, tensors)))
    labels = {
        tensor.parts: label(None if is_skipped else tensor.matrix)
        for tensor, is_skipped in zip(tensors, skips, strict=True)
    }
    if params is None and p.structure is None:
        return _nested(labels)
    structure, ordered = p.structure, tensors
    if params is not None:
        structure, ordered = jax.tree.structure(params), find(tensors, params, "params")
    tree = jax.tree.unflatten(structure, [labels[one.parts] for one in ordered])
    # Optax calls a callable tree, and a module of Equinox would run on the parameters.
    return (lambda _: tree) if callable(tree) else tree


def _leaf(tensor: Tensor) -> Leaf:
    """Return a tensor as patterns match it, with its roles."""
    roles = None if tensor.roles is None else frozenset(tensor.roles)
    return Leaf(tensor.parts, tensor, roles)


def _nested(labels: dict[tuple[str, ...], Any]) -> Any:
    """Return nested dicts, the only tree that a saved parametrization can give."""
    if () in labels:
        return labels[()]
    tree: dict[str, Any] = {}
    for parts, label in labels.items():
        inner = tree
        for part in parts[:-1]:
            inner = inner.setdefault(part, {})
        inner[parts[-1]] = label
    return tree


def dimension_numbers(matrix: Matrix | None) -> Any:
    """Return the axes of a matrix as Optax has them."""
    from optax.contrib import MuonDimensionNumbers

    return None if matrix is None else MuonDimensionNumbers(*matrix)


def text_of(matrix: Matrix | None) -> str:
    """Return the name of the optimizer that takes a tensor."""
    return "adam" if matrix is None else "muon"
