"""The spectral parametrization follows from one model's shapes."""

import math
from typing import Any

from .._core import checks
from .._core.trees import Leaf
from .._scale.fans import fans
from ._classify import KINDS, checked_leaves
from ._factors import Factors, Tensor, muon_norm
from ._growth import CLASSES, ambiguous, heads_layout, names_of, of_axes, overridden
from ._parametrization import Parametrization


def spectral(
    shapes: Any, *, overrides: Any = (), kind: str = "adam"
) -> Parametrization:
    """The spectral condition: |W| and |dW|, as operators, of size sqrt(n_out / n_in).

    std = sqrt(n_out / n_in) / (sqrt(n_in) + sqrt(n_out)), at which a random matrix has
    that norm; the rates are 1 / n_in (Adam, whose entries are of one size) and
    n_out / n_in (SGD). All are absolute: rates are tuned as a multiple that holds for
    every shape. A bias has n_in = 1, and so has an embedding, whose inputs are one-hot:
    its std is 1.

    Args:
      shapes: the model, as for `infer`.
      overrides: pairs (pattern, layout), or (pattern, "scalar"), for tensors with more
        than two axes and for what is no weight.
      kind: "adam" or "sgd": whose rates the table shows.

    Raises:
      ValueError: for a tensor of unknown layout, or an override that does not fit.

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
    return of_norms(shapes, overrides, kind)


def of_norms(shapes: Any, overrides: Any, kind: str) -> Parametrization:
    """Std and rates such that weight and update have norm sqrt(n_out / n_in)."""
    checks.choice("kind", kind, KINDS)
    found = checked_leaves(shapes)
    said = overridden(overrides, found, "overrides")
    return Parametrization(
        tuple(_of_norm(leaf, text) for leaf, text in zip(found, said, strict=True)),
        kind,
        absolute=True,
    )


def _of_norm(leaf: Leaf, override: str | None) -> Tensor:
    shape = tuple(leaf.value.shape)
    role, layout = _spectral_layout(leaf, override, shape)
    if role == "scalar":
        nothing = Factors(math.nan, 1.0, 1.0, 1.0, 1.0, 1.0)
        return Tensor(leaf.parts, shape, None, role, layout, (), nothing)
    vector = role == "vector"
    embedding = leaf.parts[-1:] == ("embedding",) and role == "input"
    n_in, n_out = fans(shape, layout) if not vector else (1, math.prod(shape))
    # An embedding's inputs have one entry that is not 0.
    n_in = 1 if embedding else n_in
    std = math.sqrt(n_out / n_in) / (math.sqrt(n_in) + math.sqrt(n_out))
    if embedding:
        std = 1.0
    made = Factors(
        std=math.nan if vector else std,
        multiplier=1.0,
        adam=1 / n_in,
        sgd=n_out / n_in,
        muon=math.sqrt(n_out / n_in) / muon_norm(shape, layout),
        epsilon=1 / n_out,
    )
    return Tensor(leaf.parts, shape, None, role, layout, (), made)


def _spectral_layout(
    leaf: Leaf, override: str | None, shape: tuple[int, ...]
) -> tuple[str, str]:
    """A class and a layout, without a base: what grows is not known, nor needed."""
    ndim = len(shape)
    if override == "scalar" or ndim == 0:
        return "scalar", "b" * ndim
    if override not in (None, *CLASSES):
        tensor = of_axes(leaf, shape, shape, tuple(range(ndim)), override)
        return tensor.role, tensor.layout
    module, name = names_of(leaf)
    if override == "vector" or ndim == 1 or name in ("bias", "scale"):
        return "vector", "o" * ndim
    role = "input" if name == "embedding" else "hidden"
    if ndim == 2:
        return override or role, "io"
    layout = heads_layout(module, ndim, ())
    if layout is None and "conv" not in module and ndim < 4:
        raise ambiguous(leaf, ())
    return override or role, layout or "k" * (ndim - 2) + "io"
