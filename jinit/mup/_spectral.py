"""`spectral` makes a parametrization from the shapes of one model, without a base."""

import dataclasses
import math
from typing import Any

from .._core import checks
from .._core.trees import Leaf
from .._scale.fans import fans
from ._classify import KINDS, checked_leaves, is_looked_up
from ._factors import Factors, Tensor, muon_norm
from ._growth import (
    CLASSES,
    EXPERT_CLASSES,
    ClassifiedTensor,
    ambiguous,
    check_layout,
    class_of,
    overridden,
)
from ._matrices import matrix_of
from ._muon import structure_of
from ._parametrization import Parametrization
from ._shape_layouts import heads_layout, names_of


def spectral(
    shapes: Any, *, overrides: Any = (), kind: str = "adam"
) -> Parametrization:
    """Parametrize a model so that |W| and |dW| are of size sqrt(n_out / n_in).

    The norms are spectral norms. A random matrix has such a norm if std =
    sqrt(n_out / n_in) / (sqrt(n_in) + sqrt(n_out)). The rates are 1 / n_in for Adam,
    whose updates have entries of one size, and n_out / n_in for SGD. All factors are
    absolute: one learning rate is tuned, and holds for every shape. For a bias n_in is
    1, and for an embedding too, since its inputs are one-hot; its std is 1.

    Args:
      shapes: the model, a network or a tree as for `infer`. A network tells the layout
        of every tensor; in a tree a matrix is (inputs, outputs).
      overrides: pairs (pattern, layout) for tensors with more than two axes, and pairs
        (pattern, "scalar") for tensors that are not weights.
      kind: the optimizer whose rates the table shows, "adam" or "sgd".

    Returns:
      A `Parametrization` with absolute factors.

    Raises:
      ValueError: if the layout of a tensor is unknown, or an override does not fit.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> w = {"w": jax.random.normal(jax.random.key(0), (64, 256))}
      >>> p = jinit.mup.spectral(w)
      >>> norm = jnp.linalg.norm(p.init(w)["w"], 2)
      >>> bool(abs(norm - 2) < 0.1)  # sqrt(256 / 64)
      True

    References:
      Yang, Simon and Bernstein, "A spectral condition for feature learning", arXiv
        2023.
    """
    checks.choice("kind", kind, KINDS)
    leaves = checked_leaves(shapes)
    texts = overridden(overrides, leaves, "overrides")
    plain = [EXPERT_CLASSES.get(text or "", text) for text in texts]
    pairs = zip(leaves, plain, strict=True)
    return Parametrization(
        tuple(_tensor(leaf, text) for leaf, text in pairs),
        kind,
        absolute=True,
        structure=structure_of(shapes),
    )


def _tensor(leaf: Leaf, override: str | None) -> Tensor:
    shape = tuple(leaf.value.shape)
    is_read = leaf.roles is not None and override is None
    read = _by_network if is_read else _by_name
    mup_class, layout = read(leaf, override, shape)
    is_table = is_looked_up(leaf) and mup_class == "input"
    factors = _factors(shape, mup_class, layout, is_table)
    tensor = Tensor(leaf.parts, shape, None, mup_class, layout, (), factors)
    if leaf.roles is None:
        return tensor
    # One width does not show what grows, so that the roles alone tell what Muon takes.
    classified = ClassifiedTensor(
        leaf.parts, shape, shape, "scalar", layout, (), is_looked_up=is_looked_up(leaf),
        roles=leaf.roles, groups=leaf.value.groups,
    )  # fmt: skip
    return dataclasses.replace(
        tensor, roles=tuple(sorted(leaf.roles)), matrix=matrix_of(classified)
    )


def _factors(
    shape: tuple[int, ...], mup_class: str, layout: str, is_table: bool
) -> Factors:
    # A std of NaN keeps the std that was drawn.
    if mup_class == "scalar":
        return Factors(math.nan, 1.0, 1.0, 1.0, 1.0, 1.0)
    is_vector = mup_class == "vector"
    n_in, n_out = fans(shape, layout) if not is_vector else (1, math.prod(shape))
    # An embedding's inputs have one entry that is not 0.
    n_in = 1 if is_table else n_in
    # Yang, Simon and Bernstein (2023): |W| = sqrt(n_out / n_in), and a Gaussian matrix
    # has the norm std (sqrt(n_in) + sqrt(n_out)).
    std = math.sqrt(n_out / n_in) / (math.sqrt(n_in) + math.sqrt(n_out))
    if is_table:
        std = 1.0
    return Factors(
        std=math.nan if is_vector else std,
        multiplier=1.0,
        # An update of Adam with entries of one size and rank one has the norm
        # sqrt(n_in n_out), which 1 / n_in turns into sqrt(n_out / n_in).
        adam=1 / n_in,
        sgd=n_out / n_in,
        muon=math.sqrt(n_out / n_in) / muon_norm(shape, layout),
        epsilon=1 / n_out,
    )


def _by_network(
    leaf: Leaf, override: str | None, shape: tuple[int, ...]
) -> tuple[str, str]:
    """Return class and layout of a parameter as its network reads it."""
    del override
    layout, roles = leaf.value.layout, leaf.value.roles
    if not shape or leaf.value.uses == 0:
        return "scalar", "b" * len(shape)
    if layout is not None:
        return "input" if "embedding" in roles else "hidden", layout
    if roles & {"matrix", "convolution"} or ("other" in roles and len(shape) > 1):
        reason = leaf.value.reason or "the layout of its product is not known"
        raise ambiguous(leaf, (), f"the network does not tell its use ({reason})")
    return "vector", "o" * len(shape)


def _by_name(
    leaf: Leaf, override: str | None, shape: tuple[int, ...]
) -> tuple[str, str]:
    """Return class and layout of a leaf by its name, since there is no base to compare.

    Absolute factors do not depend on axes that grow.
    """
    ndim = len(shape)
    if override == "scalar" or ndim == 0:
        return "scalar", "b" * ndim
    if override not in (None, *CLASSES):
        check_layout(leaf, str(override))
        return class_of(str(override), range(ndim)), str(override)
    module, name = names_of(leaf)
    if override == "vector" or ndim == 1 or name in ("bias", "scale"):
        return "vector", "o" * ndim
    usual = "input" if name == "embedding" else "hidden"
    if ndim == 2:
        return override or usual, "io"
    layout = heads_layout(module, ndim, ())
    if layout is None and "conv" not in module and ndim < 4:
        raise ambiguous(leaf, ())
    return override or usual, layout or "k" * (ndim - 2) + "io"
