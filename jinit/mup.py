"""Maximal-update and spectral parametrization: rates tuned small serve large models.

A parametrization says, for every tensor of a model, how its std, its learning rate and
the product that it is in change with the width, so that the best learning rate does
not. It is read off the shapes of a base model, on which rates are tuned, and of the
target, which is trained:

    p = jinit.mup.infer(base_shapes, shapes)
    params = p.init(params)
    tx = p.optimizer(optax.adamw(1e-3))
    logits = readout(p.readout_scale * hidden)  # or times the logits, without a bias

and attention takes q k' / head_dim in the place of q k' / sqrt(head_dim), by
`attention_scale`. At the base width all of it is what it was, bit for bit.
"""

import math
from typing import Any

from . import _checks, _mup_infer
from ._coordinate_check import coordinate_check
from ._coordinate_report import CoordinateReport
from ._parametrization import Parametrization

__all__ = [
    "CoordinateReport",
    "Parametrization",
    "attention_scale",
    "coordinate_check",
    "from_rules",
    "infer",
    "spectral",
    "unit_scaling",
]
__dir__ = __all__.copy  # for `dir`, which would show the imports too


def infer(
    base_shapes: Any,
    shapes: Any,
    *,
    overrides: Any = (),
    delta_shapes: Any = None,
    kind: str = "adam",
    depth: tuple[int, int] | None = None,
    depth_rule: str | None = None,
    readout: str = "multiplier",
) -> Parametrization:
    """Maximal-update parametrization, read off a model's shapes at two widths.

    With n and o the growth of a tensor's inputs and outputs from base to target:

    | class | std | multiplier | Adam's rate | SGD's rate |
    | --- | --- | --- | --- | --- |
    | input, vector | 1 | 1 | 1 | o |
    | hidden | n^(-1/2) | 1 | 1 / n | o / n |
    | output | 1 | 1 / n | 1 | n |
    | scalar | 1 | 1 | 1 | 1 |

    A matrix is (inputs, outputs), as in Flax; kernels of attention and convolutions are
    known by their names and by which axes grow; what cannot be told is an error.

    With L times the residual blocks, for the tensors in them (hidden ones, and the
    vectors of modules that hold some):

    | depth_rule | branch | Adam's rate | SGD's rate | Adam's epsilon |
    | --- | --- | --- | --- | --- |
    | completep | 1 / L | 1 | L | 1 / (o L) |
    | depth_mup | 1 / sqrt(L) | 1 / sqrt(L) | 1 | 1 / (o sqrt(L)) |

    Args:
      base_shapes: the model on which rates are tuned: a tree of arrays or
        `jax.ShapeDtypeStruct`s, Linen's variables, or an `nnx.State`.
      shapes: the model to be trained; the same tree, with the same number of layers.
      overrides: pairs (pattern, class), or (pattern, layout) with a letter per axis as
        in `jinit.fans`, for what shapes do not tell. A tied embedding is
        ("**/embedding", "output"): a scale on the logits, and nothing else.
      delta_shapes: the model at a third width, which tells what grows where base and
        target have axes of one length by chance, or are equal.
      kind: "adam" or "sgd": whose rates the table shows. `p.optimizer` finds its own.
      depth: the residual blocks (base, target), where they differ.
      depth_rule: "completep" or "depth_mup", for blocks of one layer.
      readout: "multiplier" for logits that the model multiplies by p.readout_scale;
        "weights" to take that factor into the output's std (1 / n) and rates (Adam
        1 / n, SGD 1 / n), which trains alike and leaves the model as it is.

    Returns:
      A `Parametrization`: print it; p.init, p.optimizer, p.readout_scale,
      p.residual_scale apply it.

    Raises:
      TypeError: for leaves that are no arrays, and overrides that are no pairs.
      ValueError: for trees of different structure, a tensor whose class is ambiguous,
        an override that does not fit or matches nothing, half of a depth.

    Example:
      >>> import flax.linen as nn, jax, jinit
      >>> x = jax.numpy.ones((1, 8))
      >>> def shapes(d):
      ...     model = nn.Sequential([nn.Dense(d), nn.relu, nn.Dense(d), nn.Dense(10)])
      ...     return jax.eval_shape(model.init, jax.random.key(0), x)
      >>> p = jinit.mup.infer(shapes(64), shapes(256))
      >>> [(row["class"], row["lr"]) for row in p.rows if "kernel" in row["path"]]
      [('input', 1.0), ('hidden', 0.25), ('output', 1.0)]
      >>> p.readout_scale
      0.25

    References:
      Yang et al., "Tensor programs V: tuning large neural networks via zero-shot
      hyperparameter transfer", 2021 (table 8; folded, table 3). Yang, Yu, Zhu, Hayou,
      "Tensor programs VI: feature learning in infinite-depth neural networks", 2023
      (depth_mup). Dey et al., "Don't be lazy: CompleteP enables compute-efficient deep
      transformers", 2025. Everett et al., "Scaling exponents across parameterizations
      and optimizers", 2024 (epsilon).
    """
    tensors = _mup_infer.infer(base_shapes, shapes, delta_shapes, overrides)
    return _mup_infer.relative(
        tensors, kind=kind, depth=depth, depth_rule=depth_rule, readout=readout
    )


def from_rules(
    shapes: Any,
    rules: Any,
    *,
    width: tuple[int, int],
    kind: str = "adam",
    depth: tuple[int, int] | None = None,
    depth_rule: str | None = None,
    readout: str = "multiplier",
) -> Parametrization:
    """Maximal-update parametrization from rules, without a base model.

    Factors are those of `infer`, with n and o the ratio of the widths.

    Args:
      shapes: the model to be trained, as for `infer`.
      rules: pairs (pattern, class), the first match wins: "input" and "vector" grow in
        their last axis, "output" in the one before, "hidden" in both; or (pattern,
        layout), with a letter per axis as in `jinit.fans`, capital where it grows:
        "IOo" is a query kernel with more heads, "IoO" one with larger heads.
      width: (base, target).
      kind, depth, depth_rule, readout: as for `infer`.

    Raises:
      TypeError: for rules that are no pairs.
      ValueError: for leaves without a rule, rules that match nothing, and axes that do
        not divide by the ratio of widths.

    Example:
      >>> import jax, jinit
      >>> w = jax.ShapeDtypeStruct((256, 256), "float32")
      >>> p = jinit.mup.from_rules({"w": w}, [("w", "hidden")], width=(64, 256))
      >>> p.rows[0]["lr"]
      0.25

    References:
      Yang et al., "Tensor programs V", 2021.
    """
    tensors = _mup_infer.by_rules(shapes, rules, width)
    return _mup_infer.relative(
        tensors, kind=kind, depth=depth, depth_rule=depth_rule, readout=readout
    )


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
      Yang, Simon and Bernstein, "A spectral condition for feature learning", 2023.
    """
    return _mup_infer.spectral(shapes, overrides, kind)


def unit_scaling(
    base_shapes: Any, shapes: Any, *, overrides: Any = (), delta_shapes: Any = None
) -> Parametrization:
    """u-muP, as far as it is initialization and Adam's learning rates.

    | tensor | std | multiplier | Adam's rate |
    | --- | --- | --- | --- |
    | input and hidden kernels | 1 / sqrt(n_in) | 1 | 1 / n_in |
    | embedding | 1 | 1 | 1 / sqrt(n_out) |
    | output | 1 | 1 / n_in | 1 |
    | vectors, scalars | as they are | 1 | 1 |

    u-muP draws all weights with std 1 and multiplies products by 1 / sqrt(n_in); here
    those multipliers are taken into the weights, which trains alike. All is absolute.
    Three axes are a stack of matrices, where the module's name does not say "conv".
    Its residual weights and scaled activations are the model's own affair.

    Args:
      base_shapes, shapes, overrides, delta_shapes: as for `infer`; the base tells the
        classes only.

    Raises:
      TypeError, ValueError: as `infer`; p.optimizer refuses what is not like Adam.

    Example:
      >>> import jax, jinit
      >>> def shapes(d):
      ...     return {"w": jax.ShapeDtypeStruct((d, d), "float32")}
      >>> p = jinit.mup.unit_scaling(shapes(64), shapes(256))
      >>> p.rows[0]["std"], p.rows[0]["lr"]
      (0.0625, 0.00390625)

    References:
      Blake et al., "u-muP: the unit-scaled maximal update parametrization", 2024.
    """
    tensors = _mup_infer.infer(base_shapes, shapes, delta_shapes, overrides)
    return _mup_infer.unit(tensors)


def attention_scale(head_dim: int, base_head_dim: int | None = None) -> float:
    """What q k' is multiplied by, for heads that grow: sqrt(base) / head_dim.

    Queries and keys align as they are trained, so q k' grows as head_dim and not as its
    root. At head_dim = base_head_dim this is the usual 1 / sqrt(head_dim).

    Args:
      head_dim: the size of a head.
      base_head_dim: that of the base model; None for 1 / head_dim. Where width grows by
        the number of heads, both are equal, and nothing changes.

    Returns:
      A float.

    Raises:
      TypeError: for sizes that are no integers.
      ValueError: for sizes below 1.

    Example:
      Flax's attention divides by sqrt(head_dim) itself, so the queries take the rest.
      In Linen:

      >>> import functools, flax.linen as nn, jax, jinit
      >>> def attention(query, key, value, *, base_head_dim, **options):
      ...     d = query.shape[-1]
      ...     scale = jinit.mup.attention_scale(d, base_head_dim) * d**0.5
      ...     return nn.dot_product_attention(scale * query, key, value, **options)
      >>> layer = nn.MultiHeadDotProductAttention(
      ...     4, attention_fn=functools.partial(attention, base_head_dim=16))
      >>> x = jax.random.normal(jax.random.key(0), (2, 5, 256))
      >>> layer.init_with_output(jax.random.key(1), x)[0].shape
      (2, 5, 256)

      In NNX the same function, around `nnx.dot_product_attention`:

      >>> from flax import nnx
      >>> def attention(query, key, value, **options):
      ...     d = query.shape[-1]
      ...     scale = jinit.mup.attention_scale(d, 16) * d**0.5
      ...     return nnx.dot_product_attention(scale * query, key, value, **options)
      >>> layer = nnx.MultiHeadAttention(
      ...     4, 256, attention_fn=attention, decode=False, rngs=nnx.Rngs(0))
      >>> layer(x).shape
      (2, 5, 256)

    References:
      Yang et al., "Tensor programs V", 2021, definition 4.1.
    """
    size = _checks.count("head_dim", head_dim)
    if size is None:
        raise TypeError("`head_dim` is None; it must be an integer.")
    base = _checks.count("base_head_dim", base_head_dim)
    return math.sqrt(base or 1) / size
