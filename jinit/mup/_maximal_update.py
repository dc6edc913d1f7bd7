"""`infer` and `from_rules` make a maximal-update parametrization (muP).

muP compares a model with a narrower base model. The factors of each tensor follow from
its class (input, hidden, output, vector or scalar) and from the growth of its axes.
"""

from collections.abc import Sequence
from typing import Any

from .._core import checks
from .._core.trees import strip_collection
from .._network.record import Network
from ._classify import KINDS, blocks_of, classify, classify_by_rules, pair
from ._factors import DEPTH_RULES, Depth, factors, tensor_of
from ._growth import ClassifiedTensor
from ._muon import structure_of
from ._parametrization import Parametrization
from ._remarks import remarks


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
    """Infer the maximal-update parametrization from a model at two widths.

    Two networks tell everything: which axes are contracted, and which of them grow. So
    weights (outputs, inputs), transposed convolutions, fused kernels, tied embeddings,
    experts, grouped queries and routers need no overrides, in any library. Names are
    never asked.

    With n and o the growth of a tensor's inputs and outputs from base to target:

    | class | std | multiplier | Adam's rate | SGD's rate |
    | --- | --- | --- | --- | --- |
    | input, vector | 1 | 1 | 1 | o |
    | hidden | n^(-1/2) | 1 | 1 / n | o / n |
    | output | 1 | 1 / n | 1 | n |
    | scalar | 1 | 1 | 1 | 1 |
    | expert | n^(-1/2) | 1 | 1 / n | o / n |
    | router | 1 / n | 1 | 1 / n | 1 / n |

    An expert is hidden, with the fans of one expert: more experts are more copies. A
    router is an output for each expert, whose weights take the multiplier in.

    An output that is no readout (keys and values of grouped queries, a bottleneck) has
    the factors of a router. So p.readout_scale belongs to readouts alone, which the
    table names.

    Two trees of shapes tell less. Then the bias beside a kernel shows the outputs,
    names show the kernels of attention and convolutions, and other matrices are
    (inputs, outputs), as in Flax. Where nothing tells, the tensor is named below the
    table, or in an error.

    With arrays at both widths (just drawn, not trained) the growth of the initializer's
    std is measured, within five standard errors, for p.init.

    With L times as many residual blocks, for the tensors in them (hidden tensors, the
    vectors of modules that hold hidden tensors, and in networks the outputs that are no
    readout):

    | depth_rule | branch | Adam's rate | SGD's rate | Adam's epsilon |
    | --- | --- | --- | --- | --- |
    | completep | 1 / L | 1 | L | 1 / (o L) |
    | depth_mup | 1 / sqrt(L) | 1 / sqrt(L) | 1 | 1 / (o sqrt(L)) |

    Args:
      base_shapes: the model on which learning rates are tuned: a `jinit.network`, or a
        tree of arrays or `jax.ShapeDtypeStruct`s, Linen's variables, or an `nnx.State`.
      shapes: the model to be trained, with the same number of layers: another network,
        or the same tree at another width.
      overrides: pairs (pattern, class), or (pattern, layout) with a letter per axis as
        in `jinit.fans`. They win over networks, whose roles are patterns, too
        ("@gate"), and tell what shapes leave open, as ("**/gate/kernel", "router")
        does. A tied embedding is ("**/embedding", "output"): a scale on the logits, and
        nothing else.
      delta_shapes: the model at a third width. It shows the axes that grow if those of
        base and target have one length by chance, or all are equal.
      kind: the optimizer whose rates the table shows, "adam" or "sgd". `p.optimizer`
        measures the kind of the optimizer that you pass to it.
      depth: the numbers of residual blocks (base, target), if they differ. Networks
        know them.
      depth_rule: "completep" or "depth_mup", for blocks of one layer.
      readout: "multiplier" for logits that the model multiplies by p.readout_scale;
        "weights" to take that factor into the output's std (1 / n) and rates (Adam
        1 / n, SGD 1 / n), which trains alike and needs no change of the model.

    Returns:
      A `Parametrization`: print it, and apply it by p.init, p.optimizer,
      p.readout_scale and p.residual_scale.

    Raises:
      TypeError: if a leaf is not an array, an override not a pair, or one model is a
        network and the other a tree.
      ValueError: if the trees have different structures, the class of a tensor is
        ambiguous, an override does not fit or matches nothing, or only one of `depth`
        and `depth_rule` is passed.

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

      The same model by its networks, with weights (outputs, inputs) that have no bias:

      >>> def network(d):
      ...     shapes = {"up": (d, 8), "middle": (d, d), "down": (10, d)}
      ...     w = {name: jax.numpy.ones(shape) for name, shape in shapes.items()}
      ...     def model(w, x):
      ...         h = jax.nn.relu(x @ w["up"].T)
      ...         return jax.nn.relu(h @ w["middle"].T) @ w["down"].T
      ...     return jinit.network(model, w, x)
      >>> p = jinit.mup.infer(network(64), network(256))
      >>> {row["path"]: row["class"] for row in p.rows}
      {'down': 'output', 'middle': 'hidden', 'up': 'input'}

    References:
      Yang et al., "Tensor programs V: tuning large neural networks via zero-shot
        hyperparameter transfer", NeurIPS 2021. Table 8; in the folded form, table 3.
      Yang, Yu, Zhu and Hayou, "Tensor programs VI: feature learning in infinite-depth
        neural networks", ICLR 2024. The source of "depth_mup".
      Dey et al., "Don't be lazy: CompleteP enables compute-efficient deep
        transformers", NeurIPS 2025. The source of "completep".
      Everett et al., "Scaling exponents across parameterizations and optimizers", ICML
        2024. The source of the scale of epsilon.
      Małaśnicki et al., "Mu-parametrization for mixture of experts", arXiv 2025. The
        classes of experts and routers.
    """
    tensors = classify(base_shapes, shapes, delta_shapes, overrides)
    if depth is None and depth_rule is not None and isinstance(shapes, Network):
        depth = base_shapes.depth, shapes.depth
    growth = _depth(depth, depth_rule)
    return _maximal_update(shapes, tensors, kind, growth, readout)


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
    """Make the maximal-update parametrization from rules, without a base model.

    The factors are those of `infer`, where n and o are the ratio of the widths.

    Args:
      shapes: the model to be trained, a network or a tree as for `infer`.
      rules: pairs (pattern, class), of which the first that matches counts. "input" and
        "vector" grow in their last axis, "output" in the axis before, "hidden" in both;
        in a network the input and the output axes, wherever they are.
        Or pairs (pattern, layout), with a letter per axis as in `jinit.fans`, in
        capitals for axes that grow: "IOo" is a query kernel with more heads, "IoO" a
        query kernel with larger heads.
      width: the pair of widths (base, target).
      kind: the optimizer whose rates the table shows, as for `infer`.
      depth: the numbers of residual blocks (base, target), as for `infer`.
      depth_rule: "completep" or "depth_mup", as for `infer`.
      readout: "multiplier" or "weights", as for `infer`.

    Returns:
      A `Parametrization`.

    Raises:
      TypeError: if a rule is not a pair.
      ValueError: if a leaf has no rule, a rule matches nothing, or the length of an
        axis at the base width is not a whole number.

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
    tensors = classify_by_rules(shapes, rules, width)
    growth = _depth(depth, depth_rule)
    return _maximal_update(shapes, tensors, kind, growth, readout)


def _maximal_update(
    shapes: Any,
    tensors: Sequence[ClassifiedTensor],
    kind: str,
    depth: Depth,
    readout: str,
) -> Parametrization:
    """Return the parametrization of classified tensors."""
    checks.choice("kind", kind, KINDS)
    checks.choice("readout", readout, ("multiplier", "weights"))
    blocks, by_network = blocks_of(tensors), isinstance(shapes, Network)
    parametrized = []
    for tensor in tensors:
        in_weights = readout == "weights"
        if in_weights and tensor.is_tied:
            raise ValueError(
                f"{tensor.path!r} is an output that is an embedding too, so "
                "its weights cannot take the readout's factor; leave readout="
                "'multiplier', and multiply the logits by p.readout_scale."
            )
        # Nothing multiplies an output that feeds other layers, as keys of grouped
        # queries and routers do.
        fold = tensor.mup_class == "output" and (in_weights or not tensor.is_readout)
        relative = factors(tensor, fold)
        # Keys of grouped queries lie in a branch. Shapes alone may take a readout for
        # such an output.
        is_inside = fold and not tensor.is_readout and (by_network or tensor.moe)
        # Dey et al. (2025) scale the rates of norms and biases inside of blocks as
        # well: they act through the branch's factor, too.
        if tensor.mup_class == "hidden" or is_inside or _is_in_block(tensor, blocks):
            relative = depth.scaled(relative)
        parametrized.append(tensor_of(tensor, relative, fold))
    return Parametrization(
        tuple(parametrized),
        kind,
        residual_scale=depth.residual,
        depth_rule=depth.rule,
        remarks=remarks(tensors, by_network=by_network),
        structure=structure_of(shapes),
    )


def _depth(depth: Any, rule: str | None) -> Depth:
    """Return the growth of the depth, from the numbers of blocks and a rule."""
    if depth is None and rule is None:
        return Depth()
    if depth is None or rule is None:
        raise ValueError(
            f"`depth` is {depth!r} and `depth_rule` {rule!r}; give both: the residual "
            "blocks (base, target), and 'completep' or 'depth_mup'."
        )
    base, target = pair("depth", depth)
    checks.choice("depth_rule", rule, tuple(DEPTH_RULES))
    # Relative to the base, so that the base model stays as it was tuned.
    return Depth(target / base, DEPTH_RULES[rule], rule)


def _is_in_block(tensor: ClassifiedTensor, blocks: set[tuple[str, ...]]) -> bool:
    """Tell whether a vector lies beside hidden tensors, as a bias in a block does."""
    if tensor.mup_class not in ("vector", "scalar"):
        return False
    parts = strip_collection(tensor.parts)
    return any(parts[:length] in blocks for length in range(len(parts)))
