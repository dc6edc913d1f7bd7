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

from typing import Any

from . import _classify, _relative
from ._parametrization import Parametrization


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
        hyperparameter transfer", NeurIPS 2021. Table 8; in the folded form, table 3.
      Yang, Yu, Zhu and Hayou, "Tensor programs VI: feature learning in infinite-depth
        neural networks", ICLR 2024. The source of "depth_mup".
      Dey et al., "Don't be lazy: CompleteP enables compute-efficient deep
        transformers", NeurIPS 2025. The source of "completep".
      Everett et al., "Scaling exponents across parameterizations and optimizers", ICML
        2024. The source of the scale of epsilon.
    """
    tensors = _classify.infer(base_shapes, shapes, delta_shapes, overrides)
    return _relative.relative(
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
      Yang et al., "Tensor programs V: tuning large neural networks via zero-shot
        hyperparameter transfer", NeurIPS 2021.
    """
    tensors = _classify.by_rules(shapes, rules, width)
    return _relative.relative(
        tensors, kind=kind, depth=depth, depth_rule=depth_rule, readout=readout
    )
