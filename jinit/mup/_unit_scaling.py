"""`unit_scaling` makes the parametrization u-muP, in which weights have variance 1."""

import math
from typing import Any

from .._network.record import Network
from ._classify import classify
from ._factors import Factors, Tensor, tensor_of
from ._growth import ClassifiedTensor
from ._muon import structure_of
from ._parametrization import Parametrization
from ._remarks import remarks


def unit_scaling(
    base_shapes: Any, shapes: Any, *, overrides: Any = (), delta_shapes: Any = None
) -> Parametrization:
    """Parametrize a model by u-muP: its initialization and Adam's learning rates.

    | tensor | std | multiplier | Adam's rate |
    | --- | --- | --- | --- |
    | input and hidden kernels | 1 / sqrt(n_in) | 1 | 1 / n_in |
    | embedding | 1 | 1 | 1 / sqrt(n_out) |
    | output | 1 | 1 / n_in | 1 |
    | vectors, scalars | as they are | 1 | 1 |

    u-muP draws all weights with std 1 and multiplies products by 1 / sqrt(n_in). Here
    the weights take those multipliers in, which trains alike. All factors are absolute.
    An output that is no readout has std and rate 1 / n_in, and no multiplier. Networks
    in the place of shapes tell the layouts; without them a tensor with three axes is a
    stack of matrices, unless its module's name contains "conv". The residual weights
    and scaled activations of u-muP belong in the model.

    Args:
      base_shapes: a narrower model, a network or a tree as for `infer`; it only tells
        the classes.
      shapes: the model to be trained, as for `infer`.
      overrides: pairs (pattern, class) or (pattern, layout), as for `infer`.
      delta_shapes: the model at a third width, as for `infer`.

    Returns:
      A `Parametrization` with absolute factors.

    Raises:
      TypeError: if a leaf is not an array, or an override not a pair.
      ValueError: if the trees differ, or the class of a tensor is ambiguous. Later,
        `p.optimizer` raises one for an optimizer that is not like Adam.

    Example:
      >>> import jax, jinit
      >>> def shapes(d):
      ...     return {"w": jax.ShapeDtypeStruct((d, d), "float32")}
      >>> p = jinit.mup.unit_scaling(shapes(64), shapes(256))
      >>> p.rows[0]["std"], p.rows[0]["lr"]
      (0.0625, 0.00390625)

    References:
      Blake et al., "u-muP: the unit-scaled maximal update parametrization", ICLR 2025.
    """
    tensors = classify(base_shapes, shapes, delta_shapes, overrides)
    said = remarks(tensors, by_network=isinstance(shapes, Network), absolute=True)
    return Parametrization(
        tuple(map(_tensor, tensors)),
        "adam",
        absolute=True,
        remarks=said,
        structure=structure_of(shapes),
    )


def _tensor(tensor: ClassifiedTensor) -> Tensor:
    # The paper has rates for Adam only, and NaN makes the optimizer refuse others.
    others = {"sgd": math.nan, "muon": math.nan, "multiplier": 1.0, "epsilon": 1.0}
    if tensor.mup_class in ("vector", "scalar"):
        return tensor_of(tensor, Factors(std=math.nan, adam=1.0, **others))
    n_in, n_out = tensor.fans
    if tensor.mup_class == "output" and tensor.is_readout:
        others["multiplier"] = 1 / n_in
        return tensor_of(tensor, Factors(std=1.0, adam=1.0, **others))
    if tensor.mup_class == "output":
        # Nothing multiplies what feeds other layers, so the weights take 1 / n_in in.
        folded = Factors(std=1 / n_in, adam=1 / n_in, **others)
        return tensor_of(tensor, folded, is_folded=True)
    if tensor.is_looked_up:
        # Blake et al. (2025) change muP's constant rate of embeddings to
        # 1 / sqrt(n_out).
        return tensor_of(tensor, Factors(std=1.0, adam=n_out**-0.5, **others))
    # The paper's std 1, multiplier and rate 1 / sqrt(n_in), rewritten with
    # k = sqrt(n_in).
    return tensor_of(tensor, Factors(std=n_in**-0.5, adam=1 / n_in, **others))
