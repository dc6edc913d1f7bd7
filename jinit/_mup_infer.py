"""Trees of shapes -> a parametrization: from two widths, from rules, from norms."""

import math
from collections.abc import Sequence
from typing import Any

from . import _checks, _paths
from ._fans import fans
from ._mup_classes import (
    CLASSES,
    Classed,
    ambiguous,
    checked,
    classed,
    heads_layout,
    names_of,
    of_axes,
    overridden,
    same_structure,
)
from ._mup_factors import DEPTH_RULES, Depth, Factors, factors, muon_norm
from ._parametrization import Parametrization, Tensor
from ._paths import Leaf, listed
from ._rules import matches

KINDS = ("adam", "sgd")
READOUTS = ("multiplier", "weights")


def infer(
    base_shapes: Any, shapes: Any, delta_shapes: Any, overrides: Any
) -> list[Classed]:
    """The class of every tensor of a model, by its shapes at two or three widths."""
    trees = [("base_shapes", _leaves(base_shapes)), ("shapes", _leaves(shapes))]
    if delta_shapes is not None:
        trees.append(("delta_shapes", _leaves(delta_shapes)))
    same_structure(trees)
    target = trees[1][1]
    others = [{leaf.parts: leaf.value.shape for leaf in tree} for _, tree in trees]
    said = overridden(overrides, target, "overrides")
    return [
        classed(leaf, [tuple(tree[leaf.parts]) for tree in others], text)
        for leaf, text in zip(target, said, strict=True)
    ]


def _leaves(tree: Any) -> list[Leaf]:
    return [
        Leaf(leaf.parts, _paths.stand_in(leaf)) for leaf in _paths.leaves(tree)
    ]  # fmt: skip


def by_rules(shapes: Any, rules: Any, width: Any) -> list[Classed]:
    """The class of every tensor, from rules; the base from the ratio of widths."""
    base, target = pair("width", width)
    pairs, found = checked(rules, "rules"), _leaves(shapes)
    unmatched = [x for x in found if not any(matches(q, x) for q, _ in pairs)]
    if unmatched:
        raise ValueError(
            f"{len(unmatched)} of {len(found)} leaves match no rule:"
            f"{listed(unmatched[:10])}\nAdd one for each, such as ('**', 'vector')."
        )
    said = overridden(rules, found, "rules")
    return [
        _by_rule(leaf, str(text), base, target)
        for leaf, text in zip(found, said, strict=True)
    ]


def _by_rule(leaf: Leaf, text: str, base: int, target: int) -> Classed:
    shape = tuple(leaf.value.shape)
    axes = _growing(leaf, text, len(shape))
    sizes = list(shape)
    for axis in axes:
        if sizes[axis] * base % target:
            raise ValueError(
                f"axis {axis} of {leaf} would be {sizes[axis] * base / target:g} long "
                f"at the base width ({base} for {target}); it must come out whole. Say "
                "which axes grow by capital letters, as in 'IO' or 'IoO'."
            )
        sizes[axis] = sizes[axis] * base // target
    override = text if text in CLASSES else text.lower()
    return of_axes(leaf, shape, tuple(sizes), axes, override)


def _growing(leaf: Leaf, text: str, ndim: int) -> tuple[int, ...]:
    """The axes that grow: of a class the usual ones, of a layout the capitals."""
    if text not in CLASSES:
        return tuple(axis for axis, letter in enumerate(text) if letter.isupper())
    wanted = {"input": (-1,), "vector": (-1,), "output": (-2,), "hidden": (-2, -1)}
    axes = wanted.get(text, ())
    if text == "vector" and ndim == 0:
        return ()
    if axes and ndim < -axes[0] or (text == "hidden" and ndim == 3):
        raise ambiguous(leaf, ())
    # An embedding that is read out too has its features last.
    if text == "output" and leaf.parts[-1:] == ("embedding",):
        return (ndim - 1,)
    return tuple(axis % ndim for axis in axes)


def pair(name: str, value: Any) -> tuple[int, int]:
    """Two positive integers, (base, target)."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise TypeError(f"`{name}` is {value!r}; it must be a pair (base, target).")
    base, target = (_checks.count(f"{name}[{i}]", n) for i, n in enumerate(value))
    if base is None or target is None:
        raise TypeError(f"`{name}` is {value!r}; it must be two integers.")
    return base, target


def of_depth(depth: Any, rule: str | None) -> Depth:
    if depth is None and rule is None:
        return Depth()
    if depth is None or rule is None:
        raise ValueError(
            f"`depth` is {depth!r} and `depth_rule` {rule!r}; give both: the residual "
            "blocks (base, target), and 'completep' or 'depth_mup'."
        )
    base, target = pair("depth", depth)
    _checks.choice("depth_rule", rule, tuple(DEPTH_RULES))
    return Depth(target / base, DEPTH_RULES[rule])


def relative(
    tensors: Sequence[Classed],
    *,
    kind: str,
    depth: Any,
    depth_rule: str | None,
    readout: str,
) -> Parametrization:
    """Maximal-update factors of classed tensors."""
    _checks.choice("kind", kind, KINDS)
    _checks.choice("readout", readout, READOUTS)
    deeper = of_depth(depth, depth_rule)
    blocks = _blocks(tensors)
    made = []
    for tensor in tensors:
        fold = readout == "weights" and tensor.role == "output"
        if fold and tensor.parts[-1:] == ("embedding",):
            raise ValueError(
                f"{'/'.join(tensor.parts)!r} is an output that is an embedding too, so "
                "its weights cannot take the readout's factor; leave readout="
                "'multiplier', and multiply the logits by p.readout_scale."
            )
        found = factors(tensor, fold)
        if tensor.role == "hidden" or _inside(tensor, blocks):
            found = deeper.scaled(found)
        made.append(_tensor(tensor, found))
    return Parametrization(
        tuple(made), kind, residual_scale=deeper.residual, depth_rule=depth_rule
    )


def _tensor(tensor: Classed, found: Factors) -> Tensor:
    return Tensor(*tensor, factors=Factors(*map(float, found)))


def _blocks(tensors: Sequence[Classed]) -> set[tuple[str, ...]]:
    """The modules that hold hidden tensors, below the root."""
    return {
        tensor.parts[:length]
        for tensor in tensors if tensor.role == "hidden"
        for length in range(1 + (tensor.parts[:1] == ("params",)), len(tensor.parts))
    }  # fmt: skip


def _inside(tensor: Classed, blocks: set[tuple[str, ...]]) -> bool:
    """Whether a vector lies beside hidden tensors: a bias, a norm of a block."""
    if tensor.role not in ("vector", "scalar"):
        return False
    return any(tensor.parts[:length] in blocks for length in range(len(tensor.parts)))


def spectral(shapes: Any, overrides: Any, kind: str) -> Parametrization:
    """std and rates such that weight and update have norm sqrt(n_out / n_in)."""
    _checks.choice("kind", kind, KINDS)
    found = _leaves(shapes)
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


def unit(tensors: Sequence[Classed]) -> Parametrization:
    """Unit scaling's std and Adam rates, with the multipliers of weights taken in."""
    return Parametrization(tuple(map(_of_unit, tensors)), "adam", absolute=True)


def _of_unit(tensor: Classed) -> Tensor:
    none = {"sgd": math.nan, "muon": math.nan, "multiplier": 1.0, "epsilon": 1.0}
    if tensor.role in ("vector", "scalar"):
        return _tensor(tensor, Factors(std=math.nan, adam=1.0, **none))
    n_in, n_out = fans(tensor.shape, tensor.layout)
    if tensor.role == "output":
        none["multiplier"] = 1 / n_in
        return _tensor(tensor, Factors(std=1.0, adam=1.0, **none))
    if tensor.parts[-1:] == ("embedding",):
        return _tensor(tensor, Factors(std=1.0, adam=n_out**-0.5, **none))
    return _tensor(tensor, Factors(std=n_in**-0.5, adam=1 / n_in, **none))
